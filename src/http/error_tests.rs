//! What a client reads when nothing was judged.

use std::time::Duration;

use axum::response::Response;
use http_body_util::BodyExt as _;
use serde_json::Value;

use super::{ApiError, Code};
use crate::{
    predict::{ItemError, ItemOutcome, ItemTiming, PredictError, Refusal, RefusalCause},
    types::RequestId,
};

fn respond(error: ApiError) -> Response {
    error.into_response(&"req-1".parse::<RequestId>().unwrap())
}

fn body(response: Response) -> Value {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let bytes = runtime.block_on(response.into_body().collect()).unwrap().to_bytes();
    serde_json::from_slice(&bytes).unwrap()
}

fn refusal(retry_after_ms: u64) -> Refusal {
    let retry_after = Duration::from_millis(retry_after_ms);
    Refusal { cause: RefusalCause::Queue, retry_after }
}

fn deadline() -> ItemError {
    ItemError::Deadline { after: Duration::from_secs(3) }
}

fn item(id: &str, error: ItemError) -> ItemOutcome {
    ItemOutcome {
        item_id: id.parse().unwrap(),
        acquisition_id: None,
        view: None,
        file: None,
        result: Err(error),
        views: Vec::new(),
        timing: ItemTiming::default(),
    }
}

#[test]
fn a_refused_request_says_when_to_come_back() {
    for (ms, seconds) in [(1, "1"), (1000, "1"), (1001, "2"), (0, "1")] {
        let response = respond(PredictError::from(refusal(ms)).into());
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["retry-after"], seconds, "{ms} ms");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }
    insta::assert_json_snapshot!(body(respond(PredictError::from(refusal(1200)).into())));
}

#[test]
fn when_all_items_failed_each_is_listed_and_the_gravest_gives_the_status() {
    let failed = |errors: &[ItemError]| {
        let items: Vec<_> =
            errors.iter().zip(["a", "b", "c"]).map(|(error, id)| item(id, error.clone())).collect();
        ApiError::from_items(&items)
    };
    let refused = || ItemError::Refused(refusal(250));
    let invalid = || ItemError::OutputInvalid { what: "score 1 is not a finite number".to_owned() };
    for (errors, code) in [
        ([deadline(), refused(), ItemError::InferenceFailed], Code::InferenceFailed),
        ([deadline(), refused(), deadline()], Code::Overloaded),
        ([deadline(), deadline(), ItemError::ShuttingDown], Code::ShuttingDown),
        ([deadline(), deadline(), invalid()], Code::OutputInvalid),
        ([deadline(), deadline(), deadline()], Code::Deadline),
    ] {
        assert_eq!(failed(&errors).code(), code, "{errors:?}");
    }
    insta::assert_json_snapshot!(body(respond(failed(&[deadline(), refused()]))));
}

#[test]
fn a_request_refused_as_a_whole_has_one_item() {
    let error = ApiError::new(Code::QueryInvalid, "x".repeat(5000));
    let body = body(respond(error));
    assert_eq!(body["items"].as_array().unwrap().len(), 1);
    assert_eq!(body["items"][0]["verdict"]["decision"], "undecided");
    assert_eq!(body["items"][0]["verdict"]["reason"], "request_invalid");
    assert!(body["detail"].as_str().unwrap().len() < 1000, "the client's own text is cut");
}
