//! The one table from what can go wrong to what a client reads: RFC 9457 problem+json.
//!
//! Whatever the failure, the body carries `items[].verdict` with `decision: "undecided"`, so that a
//! client needs one rule only: approved means status 200 and `approve`. Details name what the
//! client sent and what would be right; they hold no path, no text of a library, no internal name.

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::code::Code;
use crate::{
    predict::{ItemError, ItemOutcome, PredictError},
    types::{ItemId, Reason, RequestId, Verdict},
};

/// Longer details are cut: parts of them are the client's own text, which may be megabytes.
const MAX_DETAIL_CHARS: usize = 600;

/// A request that got no judged item, ready to be answered once its id is known.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError {
    code: Code,
    reason: Reason,
    detail: String,
    retry_after: Option<Duration>,
    /// Empty for a request refused as a whole.
    items: Vec<FailedItem>,
}

/// An item that could not be judged, as a problem lists it.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct FailedItem {
    position: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    item_id: Option<ItemId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acquisition_id: Option<ItemId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    verdict: Verdict,
}

/// The body of every error answer.
#[derive(Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    instance: &'a RequestId,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    items: &'a [FailedItem],
}

impl ApiError {
    /// A request refused as a whole, where no reason but `request_invalid` fits.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let detail = clip(detail.into());
        Self { code, reason: Reason::RequestInvalid, detail, retry_after: None, items: Vec::new() }
    }

    /// The same with a better reason.
    #[must_use]
    pub fn because(mut self, reason: Reason) -> Self {
        self.reason = reason;
        self
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// What is wrong, for people.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// How long a refused client is asked to stay away.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// A request that was looked at, and none of whose items could be judged.
    #[must_use]
    pub fn from_items(items: &[ItemOutcome]) -> Self {
        let failures: Vec<_> = items.iter().filter_map(|it| it.result.as_ref().err()).collect();
        // Which of several failures gives the status: the worst for whoever must act on it.
        let rank = |error: &ItemError| {
            let status = item_code(error).status();
            [500, 503, 504, 413, 422].iter().position(|it| *it == status).unwrap_or(5)
        };
        let Some(first) = failures.iter().copied().min_by_key(|it| rank(it)) else {
            return Self::new(Code::Internal, "no item was judged, and none says why");
        };
        let n_items = items.len();
        let detail = match n_items {
            1 => first.to_string(),
            _ => format!("none of the {n_items} items could be judged; the worst: {first}"),
        };
        Self {
            retry_after: failures.iter().filter_map(|it| retry_after(it)).max(),
            items: items.iter().enumerate().map(FailedItem::of).collect(),
            ..Self::new(item_code(first), detail).because(first.reason())
        }
    }

    /// The answer, under the id of the request.
    #[must_use]
    pub fn into_response(self, request_id: &RequestId) -> Response {
        let whole = [FailedItem {
            position: 0,
            item_id: None,
            acquisition_id: None,
            file: None,
            verdict: Verdict::undecided(self.reason, None),
        }];
        let problem = Problem {
            r#type: format!("urn:linesight:error:{}", self.code.as_str()),
            title: self.code.title(),
            status: self.code.status(),
            detail: &self.detail,
            instance: request_id,
            code: self.code.as_str(),
            retry_after_ms: self.retry_after.map(|it| millis_up(it, 1)),
            items: if self.items.is_empty() { &whole } else { &self.items },
        };
        let status =
            StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(problem)).into_response();
        let headers = response.headers_mut();
        let problem_json = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, problem_json);
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(millis_up(wait, 1000)));
        }
        response
    }
}

impl FailedItem {
    fn of((position, item): (usize, &ItemOutcome)) -> Self {
        let verdict = match &item.result {
            Err(error) => Verdict::undecided(error.reason(), error.to_string()),
            // Not reached: an outcome with a judged item is no error.
            Ok(_) => Verdict::undecided(Reason::RequestInvalid, None),
        };
        Self {
            position,
            item_id: Some(item.item_id.clone()),
            acquisition_id: item.acquisition_id.clone(),
            file: item.file.clone(),
            verdict,
        }
    }
}

impl From<PredictError> for ApiError {
    fn from(error: PredictError) -> Self {
        let code = match &error {
            PredictError::UnknownModel { .. } => Code::ModelUnknown,
            PredictError::UnknownVersion { .. } => Code::VersionUnknown,
            PredictError::VersionNotServed { .. } => Code::VersionNotServed,
            PredictError::Loading { .. } | PredictError::LoadFailed { .. } => Code::NotReady,
            PredictError::NoPreprocessing { .. } => Code::NoPreprocessing,
            PredictError::NoItem { .. } => Code::NoItem,
            PredictError::UnknownOutput { .. } => Code::OutputUnknown,
            PredictError::Refused(_) => Code::Overloaded,
        };
        let retry_after = match &error {
            PredictError::Refused(refusal) => Some(refusal.retry_after),
            PredictError::UnknownModel { .. }
            | PredictError::UnknownVersion { .. }
            | PredictError::VersionNotServed { .. }
            | PredictError::Loading { .. }
            | PredictError::LoadFailed { .. }
            | PredictError::NoPreprocessing { .. }
            | PredictError::NoItem { .. }
            | PredictError::UnknownOutput { .. } => None,
        };
        Self { retry_after, ..Self::new(code, error.to_string()).because(error.reason()) }
    }
}

fn item_code(error: &ItemError) -> Code {
    match error {
        // `imaging` names its codes as words, since it may not know this edge.
        ItemError::Image(image) => match image.code() {
            "image_format" => Code::ImageFormat,
            "image_too_large" => Code::ImageTooLarge,
            "image_unsupported" => Code::ImageUnsupported,
            _ => Code::ImageUnreadable,
        },
        ItemError::Refused(_) => Code::Overloaded,
        ItemError::Deadline { .. } => Code::Deadline,
        ItemError::OutputInvalid { .. } => Code::OutputInvalid,
        ItemError::InferenceFailed => Code::InferenceFailed,
        ItemError::ShuttingDown => Code::ShuttingDown,
    }
}

fn retry_after(error: &ItemError) -> Option<Duration> {
    match error {
        ItemError::Refused(refusal) => Some(refusal.retry_after),
        ItemError::Image(_)
        | ItemError::Deadline { .. }
        | ItemError::OutputInvalid { .. }
        | ItemError::InferenceFailed
        | ItemError::ShuttingDown => None,
    }
}

/// Whole units of `unit_ms` milliseconds, rounded up and at least one: a client told 0 would come
/// back at once.
fn millis_up(wait: Duration, unit_ms: u64) -> u64 {
    let millis = u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    millis.div_ceil(unit_ms).max(1)
}

fn clip(detail: String) -> String {
    match detail.char_indices().nth(MAX_DETAIL_CHARS) {
        Some((at, _)) => format!("{}…", &detail[..at]),
        None => detail,
    }
}
