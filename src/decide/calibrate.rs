//! A row of model output becomes probabilities, or is refused.

use serde::Deserialize;

use crate::types::{NotFinite, Probabilities};

/// How far a score that should be a probability may lie outside 0..=1 (rounding, half floats).
const RANGE_SLACK: f64 = 1e-4;
/// How far the scores of exclusive classes may be from summing to 1. Half floats over a thousand
/// classes stay well within this.
const SUM_SLACK: f64 = 1e-2;

/// What is to be applied to the model's scores output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Logits of exclusive classes.
    Softmax,
    /// Logits, each class on its own.
    Sigmoid,
    /// The graph ends in probabilities already.
    None,
}

/// Whether an item has one label or any number of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Classes {
    /// Exactly one holds (`task = "classification"`).
    Exclusive,
    /// Each holds or not (`task = "multi-label"`).
    Independent,
}

/// Turns a row of scores into probabilities; cannot hold settings that contradict each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Calibration {
    activation: Activation,
    classes: Classes,
    /// Finite, above 0.
    temperature: f64,
}

/// Why settings make no calibration.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum CalibrationError {
    /// A temperature that divides nothing.
    #[error("temperature is {given}, it must be a finite number above 0")]
    Temperature {
        /// What was given.
        given: f64,
    },
    /// A temperature where there are no logits.
    #[error("temperature {given} has no effect without logits: activation is \"none\"")]
    NothingToScale {
        /// What was given.
        given: f64,
    },
    /// Softmax makes classes exclusive.
    #[error("softmax makes labels exclude each other, which contradicts task = \"multi-label\"")]
    SoftmaxOverIndependent,
}

/// A row that holds no probabilities.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum OutputInvalid {
    /// NaN or infinity.
    #[error(transparent)]
    NotFinite(#[from] NotFinite),
    /// A score that claims to be a probability and is none.
    #[error("score {position} is {found}, not a probability")]
    OutOfRange {
        /// Which of the scores, from 0.
        position: usize,
        /// Its value.
        found: f32,
    },
    /// Scores of exclusive classes that claim to be probabilities and do not sum to 1.
    #[error("the scores sum to {sum}, not to 1")]
    Sum {
        /// What they sum to.
        sum: f64,
    },
    /// No scores at all.
    #[error("there are no scores")]
    Empty,
}

impl Calibration {
    /// Checks the settings against each other.
    ///
    /// # Errors
    /// Says which setting contradicts what.
    pub fn new(
        activation: Activation,
        classes: Classes,
        temperature: f64,
    ) -> Result<Self, CalibrationError> {
        if !(temperature.is_finite() && temperature > 0.0) {
            return Err(CalibrationError::Temperature { given: temperature });
        }
        match (activation, classes) {
            (Activation::None, _) if (temperature - 1.0).abs() > 0.0 => {
                Err(CalibrationError::NothingToScale { given: temperature })
            }
            (Activation::Softmax, Classes::Independent) => {
                Err(CalibrationError::SoftmaxOverIndependent)
            }
            _ => Ok(Self { activation, classes, temperature }),
        }
    }

    /// Probabilities of one row.
    ///
    /// # Errors
    /// When the row is empty, a score is NaN or infinite, or scores that need no activation are no
    /// probabilities.
    pub fn apply(&self, row: &[f32]) -> Result<Probabilities, OutputInvalid> {
        if row.is_empty() {
            return Err(OutputInvalid::Empty);
        }
        if let Some(position) = row.iter().position(|it| !it.is_finite()) {
            return Err(NotFinite { position }.into());
        }
        let scores = match self.activation {
            Activation::Softmax => self.softmax(row),
            Activation::Sigmoid => row.iter().map(|&it| self.sigmoid(it)).collect(),
            Activation::None => self.checked(row)?,
        };
        Ok(Probabilities::new(scores)?)
    }

    /// In `f64` and relative to the largest logit, so that no exponent overflows: the largest term
    /// is exp(0) = 1, hence the sum at least 1 and no quotient NaN.
    fn softmax(&self, row: &[f32]) -> Vec<f32> {
        let pivot = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let terms: Vec<f64> =
            row.iter().map(|&it| ((f64::from(it) - pivot) / self.temperature).exp()).collect();
        let sum: f64 = terms.iter().sum();
        terms.iter().map(|it| narrow(it / sum)).collect()
    }

    /// An infinite exponent gives 0 or 1, never NaN.
    fn sigmoid(&self, logit: f32) -> f32 {
        narrow(1.0 / (1.0 + (-f64::from(logit) / self.temperature).exp()))
    }

    fn checked(&self, row: &[f32]) -> Result<Vec<f32>, OutputInvalid> {
        let allowed = -RANGE_SLACK..=1.0 + RANGE_SLACK;
        if let Some(position) = row.iter().position(|&it| !allowed.contains(&f64::from(it))) {
            return Err(OutputInvalid::OutOfRange { position, found: row[position] });
        }
        let sum: f64 = row.iter().copied().map(f64::from).sum();
        if self.classes == Classes::Exclusive && (sum - 1.0).abs() > SUM_SLACK {
            return Err(OutputInvalid::Sum { sum });
        }
        Ok(row.to_vec())
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a probability: in range, rounded to nearest")]
fn narrow(probability: f64) -> f32 {
    probability as f32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(activation: Activation, classes: Classes) -> Calibration {
        Calibration::new(activation, classes, 1.0).unwrap()
    }

    #[test]
    fn settings_that_contradict_each_other_make_no_calibration() {
        use {Activation as A, Classes as C};
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(
                Calibration::new(A::Softmax, C::Exclusive, bad),
                Err(CalibrationError::Temperature { .. })
            ));
        }
        assert!(Calibration::new(A::None, C::Exclusive, 2.0).is_err());
        assert!(Calibration::new(A::Softmax, C::Independent, 1.0).is_err());
        assert!(Calibration::new(A::None, C::Independent, 1.0).is_ok());
        assert!(Calibration::new(A::Sigmoid, C::Exclusive, 2.0).is_ok());
    }

    #[test]
    fn what_is_no_probability_is_refused() {
        use OutputInvalid as O;
        let exclusive = plain(Activation::None, Classes::Exclusive);
        let independent = plain(Activation::None, Classes::Independent);
        let softmax = plain(Activation::Softmax, Classes::Exclusive);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let refused = Err(O::NotFinite(NotFinite { position: 1 }));
            assert_eq!(softmax.apply(&[0.0, bad]), refused);
            assert_eq!(exclusive.apply(&[0.0, bad]), refused);
        }
        assert_eq!(softmax.apply(&[]), Err(O::Empty));
        assert!(matches!(exclusive.apply(&[0.5, 0.4]), Err(O::Sum { .. })));
        assert!(matches!(exclusive.apply(&[1.5, -0.5]), Err(O::OutOfRange { position: 0, .. })));
        assert!(matches!(independent.apply(&[0.1, -0.5]), Err(O::OutOfRange { position: 1, .. })));
        assert!(independent.apply(&[0.9, 0.9]).is_ok());
        assert_eq!(exclusive.apply(&[1.000_01, 0.0]).unwrap().as_slice(), [1.0, 0.0]);
    }

    #[test]
    fn known_values() {
        let close = |found: &Probabilities, expected: &[f32]| {
            let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-6;
            assert!(found.as_slice().iter().zip(expected).all(near), "{found:?} {expected:?}");
        };
        let softmax = plain(Activation::Softmax, Classes::Exclusive);
        close(&softmax.apply(&[0.0, 0.0]).unwrap(), &[0.5, 0.5]);
        close(&softmax.apply(&[1.0, 2.0, 3.0]).unwrap(), &[0.090_030_57, 0.244_728_5, 0.665_241]);
        let warm = Calibration::new(Activation::Softmax, Classes::Exclusive, 2.0).unwrap();
        close(&warm.apply(&[2.0, 4.0, 6.0]).unwrap(), &[0.090_030_57, 0.244_728_5, 0.665_241]);
        let sigmoid = plain(Activation::Sigmoid, Classes::Independent);
        close(&sigmoid.apply(&[0.0, 100.0, -200.0]).unwrap(), &[0.5, 1.0, 0.0]);
    }

    fn finite() -> impl Strategy<Value = f32> {
        any::<f32>().prop_filter("finite", |it| it.is_finite())
    }

    proptest! {
        #[test]
        fn softmax_of_any_finite_logits_sums_to_one(
            row in prop::collection::vec(finite(), 1..40),
            temperature in prop::sample::select(vec![1e-300, 1e-3, 1.0, 1.7, 1e3, 1e300]),
        ) {
            let calibration =
                Calibration::new(Activation::Softmax, Classes::Exclusive, temperature).unwrap();
            let scores = calibration.apply(&row).unwrap();
            prop_assert!(scores.as_slice().iter().all(|it| (0.0..=1.0).contains(it)));
            let sum: f64 = scores.as_slice().iter().copied().map(f64::from).sum();
            prop_assert!((sum - 1.0).abs() < 1e-5, "{sum}");
        }

        #[test]
        fn sigmoid_of_any_finite_logits_is_a_probability(
            row in prop::collection::vec(finite(), 1..40),
            temperature in prop::sample::select(vec![1e-300, 1.0, 1e300]),
        ) {
            let calibration =
                Calibration::new(Activation::Sigmoid, Classes::Independent, temperature).unwrap();
            let scores = calibration.apply(&row).unwrap();
            prop_assert!(scores.as_slice().iter().all(|it| (0.0..=1.0).contains(it)));
        }
    }
}
