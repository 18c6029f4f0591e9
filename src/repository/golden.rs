//! `golden/golden.json`: the samples a version must answer correctly before it serves.

use std::{collections::HashSet, sync::Arc};

use serde::Deserialize;

use super::{
    card::{is_plain_name, parse_json},
    complaint::Complaint,
    manifest::Manifest,
};
use crate::types::{Decision, Reason};

/// The only schema there is.
const SCHEMA: &str = "linesight.golden/1";
/// Each is run before the version serves.
const MAX_SAMPLES: usize = 1000;

/// A golden sample with its bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct GoldenSample {
    /// The image's file name; names the sample in complaints.
    pub name: String,
    /// The encoded image.
    pub image: Arc<[u8]>,
    /// The reference pipeline's pixels after resize and crop, as an encoded PNG.
    pub tensor: Option<Arc<[u8]>>,
    /// What is to come out.
    pub expected: Expected,
}

/// What is to come out of a golden sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Expected {
    /// The label the image truly has. For people; nothing is held to it.
    pub truth: Option<String>,
    /// Calibrated scores in label order; finite, as many as labels.
    pub scores: Option<Vec<f32>>,
    /// Without one, nothing is said about the verdict.
    pub verdict: Option<ExpectedVerdict>,
    /// For people.
    pub note: Option<String>,
}

/// The part of a verdict that must be identical.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedVerdict {
    /// Approve, reject, undecided.
    pub decision: Decision,
    /// Why.
    pub reason: Reason,
    /// The defect of a rejected sample. An approved one may leave it out.
    pub class: Option<String>,
}

/// A sample that is not yet joined by its files.
#[derive(Debug, PartialEq)]
pub(crate) struct Listed {
    pub(crate) image: String,
    pub(crate) tensor: Option<String>,
    pub(crate) expected: Expected,
}

#[derive(Deserialize)]
struct RawGolden {
    schema: String,
    samples: Vec<RawSample>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSample {
    image: String,
    tensor: Option<String>,
    truth: Option<String>,
    scores: Option<Vec<f32>>,
    verdict: Option<RawVerdict>,
    note: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawVerdict {
    decision: String,
    reason: String,
    class: Option<String>,
}

/// Reads and checks the list, the files it names left out.
pub(crate) fn parse(
    file: &str,
    bytes: &[u8],
    manifest: Option<&Manifest>,
) -> Result<Vec<Listed>, Vec<Complaint>> {
    let raw: RawGolden = parse_json(file, bytes).map_err(|it| vec![it])?;
    let mut complaints = Vec::new();
    let mut wrong = |key: String, message: String| {
        complaints.push(Complaint::new(file, message).key(&[&key]));
    };
    if raw.schema != SCHEMA {
        wrong("schema".into(), format!("is {:?}, expected {SCHEMA:?}", raw.schema));
    }
    if raw.samples.is_empty() || raw.samples.len() > MAX_SAMPLES {
        wrong("samples".into(), format!("{} samples, not 1 to {MAX_SAMPLES}", raw.samples.len()));
    }
    let mut listed = Vec::new();
    let mut names = HashSet::new();
    for (position, sample) in raw.samples.into_iter().take(MAX_SAMPLES).enumerate() {
        if !names.insert(sample.image.clone()) {
            wrong(format!("samples[{position}].image"), format!("{:?} stands twice", sample.image));
        }
        match check(sample, manifest) {
            Ok(sample) => listed.push(sample),
            Err(found) => {
                for (key, message) in found {
                    wrong(format!("samples[{position}].{key}"), message);
                }
            }
        }
    }
    if complaints.is_empty() { Ok(listed) } else { Err(complaints) }
}

fn check(
    raw: RawSample,
    manifest: Option<&Manifest>,
) -> Result<Listed, Vec<(&'static str, String)>> {
    let RawSample { image, tensor, truth, scores, verdict, note } = raw;
    let mut wrong = Vec::new();
    for (key, name) in [("image", Some(&image)), ("tensor", tensor.as_ref())] {
        if let Some(name) = name
            && (!is_plain_name(name) || name == "golden.json")
        {
            wrong.push((key, format!("{name:?} is not the name of a file beside golden.json")));
        }
    }
    let labels = manifest.map_or(&[][..], |it| &it.labels[..]);
    let is_label = |name: &String| labels.iter().any(|it| **it == **name);
    if let Some(truth) = truth.as_ref().filter(|it| !labels.is_empty() && !is_label(it)) {
        wrong.push(("truth", format!("{truth:?} is not one of the labels")));
    }
    if let Some(scores) = &scores {
        if !labels.is_empty() && scores.len() != labels.len() {
            wrong.push(("scores", format!("{} scores for {} labels", scores.len(), labels.len())));
        }
        if scores.iter().any(|it| !it.is_finite()) {
            wrong.push(("scores", "a score is not finite".to_owned()));
        }
    }
    let verdict = match verdict.map(|it| check_verdict(it, is_label)) {
        None => None,
        Some(Ok(verdict)) => Some(verdict),
        Some(Err(error)) => {
            wrong.push(error);
            None
        }
    };
    if verdict.is_some() && manifest.is_none_or(|it| it.decision.is_none()) {
        wrong.push(("verdict", "there is no [decision] in package.toml to give one".to_owned()));
    }
    // A sample that expects nothing would pass whatever is answered, and count as proof.
    let must_judge = manifest.is_some_and(|it| it.decision.is_some());
    if scores.is_none() && (must_judge || verdict.is_none()) {
        wrong.push(("scores", "are missing: nothing would be proven".to_owned()));
    }
    if must_judge && verdict.is_none() && !wrong.iter().any(|it| it.0 == "verdict") {
        wrong.push(("verdict", "is missing, though [decision] gives one".to_owned()));
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    Ok(Listed { image, tensor, expected: Expected { truth, scores, verdict, note } })
}

fn check_verdict(
    raw: RawVerdict,
    is_label: impl Fn(&String) -> bool,
) -> Result<ExpectedVerdict, (&'static str, String)> {
    let decisions = [Decision::Approve, Decision::Reject, Decision::Undecided];
    let Some(decision) = decisions.into_iter().find(|it| it.as_str() == raw.decision) else {
        return Err(("verdict", format!("{:?} is no decision", raw.decision)));
    };
    let Some(reason) = Reason::ALL.into_iter().find(|it| it.as_str() == raw.reason) else {
        return Err(("verdict", format!("{:?} is no reason", raw.reason)));
    };
    match (decision, &raw.class) {
        (_, Some(class)) if !is_label(class) => {
            Err(("verdict", format!("class {class:?} is not one of the labels")))
        }
        (Decision::Reject, None) => Err(("verdict", "a rejection names its class".to_owned())),
        (Decision::Approve | Decision::Reject | Decision::Undecided, _) => {
            Ok(ExpectedVerdict { decision, reason, class: raw.class })
        }
    }
}
