//! The bodies, as snapshots: a change of a field is a change of the contract.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use super::{About, Answer, ModelList, Took, VersionDetail};
use crate::{
    http::extract::TopK,
    predict::{ItemError, ItemOutcome, ItemTiming, Judged},
    repository::{ModelEntry, Snapshot, VersionState},
    types::{
        Budget, Decision, Digest, Evidence, Labels, ModelVersion, NamedTensor, Probabilities,
        Reason, Severity, Tensor, Verdict,
    },
};

fn about(labels: &[&str]) -> About {
    About {
        name: "vial-defect".parse().unwrap(),
        version: "1".parse().unwrap(),
        digest: Digest::of(b"model"),
        evidence: Evidence::Golden,
        config_digest: Digest::of(b"config"),
        budget: Budget::default(),
        labels: labels.iter().map(|it| (*it).into()).collect::<Labels>(),
    }
}

fn item(id: &str, result: Result<Judged, ItemError>) -> ItemOutcome {
    ItemOutcome {
        item_id: id.parse().unwrap(),
        acquisition_id: None,
        view: None,
        file: None,
        result,
        views: Vec::new(),
        timing: ItemTiming {
            decode: Duration::from_micros(2300),
            queue: Duration::from_nanos(400_400),
            batch_size: 1,
            infer: Duration::from_micros(11_300),
        },
    }
}

fn rejected() -> Judged {
    Judged {
        scores: Some(Probabilities::new(vec![0.01, 0.97, 0.02]).unwrap()),
        verdict: Some(Verdict {
            decision: Decision::Reject,
            reason: Reason::Defect,
            class: Some("particle".to_owned()),
            severity: Some(Severity::Critical),
            score: Some(0.97),
            threshold: Some(0.5),
            detail: Some("particle 0.97, at least 0.50".to_owned()),
        }),
        outputs: Vec::new(),
    }
}

/// As a client would read it; only the time of day is taken out.
fn read(about: &About, items: &[ItemOutcome], top_k: TopK) -> Value {
    let took = Took {
        read: Duration::from_micros(400),
        total: Duration::from_micros(15_100),
        wall: Duration::from_micros(15_600),
    };
    let request_id = "req-1".parse().unwrap();
    let answer = Answer::new(&request_id, about, items, top_k, took);
    let mut body: Value = serde_json::from_str(&serde_json::to_string(&answer).unwrap()).unwrap();
    assert_eq!(body["answered_at"].as_str().unwrap().len(), "2026-11-21T10:00:00.123Z".len());
    body["answered_at"] = "…".into();
    body
}

#[test]
fn an_answer_with_a_judged_and_an_unreadable_image() {
    let about = about(&["good", "particle", "chips_cracks"]);
    let late = ItemError::Deadline { after: Duration::from_secs(3) };
    let named = ItemOutcome {
        acquisition_id: Some("shot-1".parse().unwrap()),
        file: Some("a b.jpg".to_owned()),
        ..item("vial-7", Ok(rejected()))
    };
    let items = [named, item("vial-8", Err(late))];
    insta::assert_json_snapshot!(read(&about, &items, TopK::First(2)));
}

#[test]
fn fields_stand_in_the_order_of_the_contract() {
    let about = about(&["good", "particle", "chips_cracks"]);
    let items = [item("vial-7", Ok(rejected()))];
    let took =
        Took { read: Duration::ZERO, total: Duration::from_secs(1), wall: Duration::from_secs(1) };
    let request_id = "req-1".parse().unwrap();
    let answer = Answer::new(&request_id, &about, &items, TopK::All, took);
    let text = serde_json::to_string(&answer).unwrap();
    let fields = [
        "request_id",
        "answered_at",
        "model",
        "config_digest",
        "items",
        "position",
        "item_id",
        "label",
        "score",
        "scores",
        "verdict",
        "decision",
        "reason",
        "class",
        "severity",
        "threshold",
        "detail",
        "explanation",
        "timing",
        "decode_ms",
        "queue_ms",
        "batch_size",
        "infer_ms",
        "read_ms",
        "total_ms",
        "wall_ms",
        "target_ms",
        "limit_ms",
        "within_target",
    ];
    let mut from = 0;
    for field in fields {
        let at = text[from..].find(&format!("\"{field}\":"));
        from += at.unwrap_or_else(|| panic!("{field} is missing after {}", &text[..from]));
    }
    assert!(text.contains(r#""score":0.97,"scores":[{"label":"particle","score":0.97}"#), "{text}");
    assert!(text.ends_with(r#""limit_ms":3000,"within_target":false}}"#), "{text}");
}

#[test]
fn an_item_of_two_views() {
    let about = about(&["good", "particle", "chips_cracks"]);
    let view =
        |name: &str| ItemOutcome { view: Some(name.to_owned()), ..item("vial-7", Ok(rejected())) };
    let whole = Judged { scores: None, ..rejected() };
    let items = [ItemOutcome { views: vec![view("v0"), view("v1")], ..item("vial-7", Ok(whole)) }];
    insta::assert_json_snapshot!(read(&about, &items, TopK::First(1)));
}

#[test]
fn a_model_without_labels_and_one_of_tensors() {
    let unlabelled = Judged { verdict: None, ..rejected() };
    let body = read(&about(&[]), &[item("a", Ok(unlabelled))], TopK::All);
    assert_eq!(body["items"][0]["label"], "1");
    assert_eq!(body["items"][0]["verdict"], Value::Null);
    let tensor = Tensor::new(vec![1, 3], vec![0.5_f32, f32::NAN, -1.0]).unwrap();
    let outputs = vec![NamedTensor { name: "y".into(), tensor }];
    let tensors = Judged { scores: None, verdict: None, outputs };
    let body = read(&about(&[]), &[item("a", Ok(tensors))], TopK::All);
    insta::assert_json_snapshot!(body["items"][0]);
}

#[test]
fn the_list_of_models() {
    let version = |it: &str| it.parse::<ModelVersion>().unwrap();
    let failed = VersionState::Failed("golden sample 3: reject instead of approve".to_owned());
    let entry = ModelEntry {
        serve: vec![version("2")],
        budget: Budget::default(),
        required: true,
        versions: BTreeMap::from([
            (version("1"), VersionState::Found),
            (version("2"), failed),
            (version("3"), VersionState::Loading),
        ]),
        complaints: vec!["one item alone takes longer than the target".to_owned()],
    };
    let name = "vial-defect".parse().unwrap();
    insta::assert_json_snapshot!(VersionDetail::new(&name, &entry, version("2")));
    assert!(VersionDetail::new(&name, &entry, version("9")).is_none());
    let snapshot = Snapshot {
        scanned: true,
        models: BTreeMap::from([(name, entry)]),
        complaints: vec!["notes is no model".to_owned()],
    };
    insta::assert_json_snapshot!(ModelList::from(&snapshot));
}
