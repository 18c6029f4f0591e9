//! Logits to probabilities to one verdict; pure, and the only place that can say `approve`.
//!
//! [`decide`] is the whole path of one image: [`Calibration`] turns a row of model output into
//! [`Probabilities`] or refuses it, [`Policy`] turns those into a [`Verdict`]. [`aggregate`] joins
//! the verdicts of the views of one item. Nothing here reads a file, a clock or a setting; a
//! contradictory policy cannot be built, so judging cannot fail.

mod aggregate;
mod calibrate;
mod policy;
mod sentence;

pub use aggregate::{DeclaredViews, ViewVerdict, aggregate};
pub use calibrate::{Activation, Calibration, CalibrationError, Classes, OutputInvalid};
pub use policy::{Policy, PolicyError, PolicySpec};

use crate::types::{Probabilities, Verdict};

/// What became of one row of model output.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// The calibrated scores, in label order.
    pub probabilities: Probabilities,
    /// `None` for a version that has no policy.
    pub verdict: Option<Verdict>,
}

/// One row of model output to scores and, where there is a policy, a verdict.
///
/// # Errors
/// When the row holds no probabilities: NaN, infinity, scores outside 0..=1. Such an item is
/// `undecided/output_invalid`.
pub fn decide(
    row: &[f32],
    calibration: &Calibration,
    policy: Option<&Policy>,
) -> Result<Judged, OutputInvalid> {
    let probabilities = calibration.apply(row)?;
    let verdict = policy.map(|it| it.judge(&probabilities));
    Ok(Judged { probabilities, verdict })
}
