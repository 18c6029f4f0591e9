//! Probabilities become a verdict by thresholds that cannot contradict each other.
//!
//! In this order: approve if the approved label's score reaches `approve_at` + tolerance and no
//! other label's score reaches `reject_at`; else reject if another label's score reaches
//! `reject_at`, the highest one being the class; else undecided.
//!
//! The second condition of approve never binds for exclusive classes, since `approve_at` is above
//! 1 - `reject_at`. Scores of independent labels do not sum to one: there an item may look both good
//! and flawed, and is then rejected. The tolerance is what a golden score may differ by: no batch,
//! lane or thread count a version may run with can lift an item over `approve_at` alone.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde::Deserialize;

use super::sentence::{missed, reached};
use crate::types::{Decision, Label, Labels, Probabilities, Reason, Severity, Verdict};

/// `approve_at` and `reject_at` as decimals may miss their sum by this much in binary.
const DECIMAL_SLACK: f64 = 1e-9;

/// The table `[decision]` of a package, as typed.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySpec {
    /// The label that may be approved.
    pub approve: String,
    /// Approved from this score of `approve` (plus the tolerance) up.
    pub approve_at: f64,
    /// Rejected from this score of any other label up.
    pub reject_at: f64,
    /// How grave each defect is.
    #[serde(default)]
    pub severity: BTreeMap<String, Severity>,
}

/// A complaint about a [`PolicySpec`].
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PolicyError {
    /// The label to approve does not exist.
    #[error("{label:?} is not one of the labels")]
    ApproveUnknown {
        /// What was given.
        label: String,
    },
    /// With one label nothing could be rejected.
    #[error("a policy needs at least one label besides {label:?}")]
    NothingToReject {
        /// The only label.
        label: String,
    },
    /// Not above 0 and at most 1.
    #[error("{given} is not a threshold: above 0, at most 1")]
    OutOfRange {
        /// Which key.
        key: &'static str,
        /// What was given.
        given: f64,
    },
    /// One set of scores could satisfy both thresholds.
    #[error(
        "approve_at {approve_at} is not above 1 - reject_at ({reject_at}): an item could be both"
    )]
    Contradiction {
        /// The one threshold.
        approve_at: f64,
        /// The other.
        reject_at: f64,
    },
    /// No score could reach it.
    #[error("approve_at {approve_at} + tolerance {tolerance} is above 1: nothing is ever approved")]
    OutOfReach {
        /// The threshold.
        approve_at: f64,
        /// What is added to it.
        tolerance: f64,
    },
    /// A severity for what is no label.
    #[error("{label:?} is not one of the labels")]
    SeverityUnknown {
        /// What was given.
        label: String,
    },
    /// A severity for what is no defect.
    #[error("{label:?} is the approved label, it has no severity")]
    SeverityOfApproved {
        /// What was given.
        label: String,
    },
}

impl PolicyError {
    /// The key of `[decision]` the complaint is about.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            Self::ApproveUnknown { .. } | Self::NothingToReject { .. } => "approve",
            Self::OutOfRange { key, .. } => key,
            Self::Contradiction { .. } | Self::OutOfReach { .. } => "approve_at",
            Self::SeverityUnknown { .. } | Self::SeverityOfApproved { .. } => "severity",
        }
    }
}

/// The checked policy of a version.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    labels: Labels,
    /// Index into `labels`.
    approve: usize,
    /// `approve_at` + tolerance, rounded up; in 0..=1 and above 1 - `reject_at`.
    approve_from: f64,
    /// In 0..=1.
    reject_at: f64,
    severity: HashMap<Label, Severity>,
}

impl Policy {
    /// Checks a spec against the labels; `tolerance` is what a golden score may differ by.
    ///
    /// # Errors
    /// Every complaint there is.
    pub fn new(
        spec: &PolicySpec,
        labels: &Labels,
        tolerance: f64,
    ) -> Result<Self, Vec<PolicyError>> {
        let mut errors = threshold_errors(spec, tolerance);
        let approve = labels.iter().position(|it| **it == *spec.approve);
        if approve.is_none() {
            errors.push(PolicyError::ApproveUnknown { label: spec.approve.clone() });
        } else if labels.len() < 2 {
            errors.push(PolicyError::NothingToReject { label: spec.approve.clone() });
        }
        let mut severity = HashMap::new();
        for (given, &grade) in &spec.severity {
            match labels.iter().find(|it| ***it == **given) {
                None => errors.push(PolicyError::SeverityUnknown { label: given.clone() }),
                Some(_) if *given == spec.approve => {
                    errors.push(PolicyError::SeverityOfApproved { label: given.clone() });
                }
                Some(label) => {
                    severity.insert(Arc::clone(label), grade);
                }
            }
        }
        match approve {
            Some(approve) if errors.is_empty() => Ok(Self {
                labels: Arc::clone(labels),
                approve,
                approve_from: sum_rounded_up(spec.approve_at, tolerance),
                reject_at: spec.reject_at,
                severity,
            }),
            _ => Err(errors),
        }
    }

    /// The label that may be approved.
    #[must_use]
    pub fn approved_label(&self) -> &Label {
        &self.labels[self.approve]
    }

    /// The verdict on one item.
    ///
    /// Scores of another number than the labels are `undecided/output_invalid`.
    #[must_use]
    pub fn judge(&self, probabilities: &Probabilities) -> Verdict {
        let scores = probabilities.as_slice();
        let others = (0..scores.len()).filter(|&it| it != self.approve);
        // The first of equal scores, as in `Probabilities::ranked`.
        let worst = others.reduce(|a, b| if scores[b] > scores[a] { b } else { a });
        let (Some(worst), true) = (worst, scores.len() == self.labels.len()) else {
            let detail = format!("{} scores for {} labels", scores.len(), self.labels.len());
            return Verdict::undecided(Reason::OutputInvalid, detail);
        };
        let (good, flaw) = (scores[self.approve], scores[worst]);
        if f64::from(flaw) >= self.reject_at {
            self.reject(worst, flaw)
        } else if f64::from(good) >= self.approve_from {
            self.approve(good)
        } else {
            self.neither(good, worst, flaw)
        }
    }

    fn approve(&self, score: f32) -> Verdict {
        let label = self.approved_label();
        Verdict {
            decision: Decision::Approve,
            reason: Reason::Ok,
            class: Some(label.to_string()),
            severity: None,
            score: Some(score),
            threshold: Some(narrow(self.approve_from)),
            detail: Some(reached(label, f64::from(score), self.approve_from)),
        }
    }

    fn reject(&self, class: usize, score: f32) -> Verdict {
        let label = &self.labels[class];
        Verdict {
            decision: Decision::Reject,
            reason: Reason::Defect,
            class: Some(label.to_string()),
            severity: self.severity.get(label).copied(),
            score: Some(score),
            threshold: Some(narrow(self.reject_at)),
            detail: Some(reached(label, f64::from(score), self.reject_at)),
        }
    }

    /// Speaks of the approved label: its score is the one that would have had to be higher.
    fn neither(&self, good: f32, worst: usize, flaw: f32) -> Verdict {
        let detail = format!(
            "{}; {}",
            missed(self.approved_label(), f64::from(good), self.approve_from),
            missed(&self.labels[worst], f64::from(flaw), self.reject_at),
        );
        Verdict {
            score: Some(good),
            threshold: Some(narrow(self.approve_from)),
            ..Verdict::undecided(Reason::LowConfidence, detail)
        }
    }
}

fn threshold_errors(spec: &PolicySpec, tolerance: f64) -> Vec<PolicyError> {
    let mut errors = Vec::new();
    for (key, given) in [("approve_at", spec.approve_at), ("reject_at", spec.reject_at)] {
        if !(given > 0.0 && given <= 1.0) {
            errors.push(PolicyError::OutOfRange { key, given });
        }
    }
    if errors.is_empty() {
        let (approve_at, reject_at) = (spec.approve_at, spec.reject_at);
        if approve_at + reject_at <= 1.0 + DECIMAL_SLACK {
            errors.push(PolicyError::Contradiction { approve_at, reject_at });
        }
        // Negated, so that a NaN is refused too.
        if !(approve_at + tolerance <= 1.0 && tolerance >= 0.0) {
            errors.push(PolicyError::OutOfReach { approve_at, tolerance });
        }
    }
    errors
}

/// The smallest `f64` not below the exact sum (Knuth's two-sum gives the rounding error exactly).
fn sum_rounded_up(a: f64, b: f64) -> f64 {
    let sum = a + b;
    let b_seen = sum - a;
    let error = (a - (sum - b_seen)) + (b - b_seen);
    if error > 0.0 { sum.next_up() } else { sum }
}

#[expect(clippy::cast_possible_truncation, reason = "for display; the comparison was in f64")]
fn narrow(threshold: f64) -> f32 {
    threshold as f32
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
