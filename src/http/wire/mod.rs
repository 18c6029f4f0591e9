//! The JSON a client reads, as plain types: field names and order are the contract.

mod answer;
mod models;
#[cfg(test)]
mod tests;

pub(super) use answer::{About, Answer, Took};
pub(super) use models::{Model, ModelList, VersionDetail};

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::extract::TopK;
use crate::{
    predict::Outcome,
    types::{Budget, RequestId},
};

/// What a client would read for an outcome, and which file it is about.
#[derive(Serialize)]
struct AnswerAbout<'a> {
    #[serde(flatten)]
    answer: Answer<'a>,
    path: &'a str,
}

/// The body a client would read for an outcome, all scores in it, with `path` added; for tools that
/// ask without HTTP. Text, as a `Value` would widen every score and lose the order of the fields.
///
/// # Errors
/// Never for an outcome of ours; serialising is fallible by its type.
pub fn answer_line(
    outcome: &Outcome,
    request_id: &RequestId,
    path: &str,
) -> serde_json::Result<String> {
    let about = About::from(&*outcome.model);
    let wall = outcome.read + outcome.total;
    let took = Took { read: outcome.read, total: outcome.total, wall };
    let answer = Answer::new(request_id, &about, &outcome.items, TopK::All, took);
    serde_json::to_string(&AnswerAbout { answer, path })
}

/// A measured time in milliseconds, to the microsecond; more digits would be noise.
#[derive(Debug, Clone, Copy)]
struct Millis(Duration);

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64((self.0.as_secs_f64() * 1e6).round() / 1e3)
    }
}

/// A set time in whole milliseconds.
fn whole_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A budget as a model's resource shows it.
#[derive(Debug, Serialize)]
struct BudgetBody {
    target_ms: u64,
    limit_ms: u64,
}

impl From<Budget> for BudgetBody {
    fn from(budget: Budget) -> Self {
        Self { target_ms: whole_millis(budget.target), limit_ms: whole_millis(budget.limit) }
    }
}
