//! What a model says about one item, checked: a NaN gets no further than here.

use std::sync::Arc;

/// A class name, shared rather than copied into every answer.
pub type Label = Arc<str>;

/// The classes of a model, in the order of its scores.
pub type Labels = Arc<[Label]>;

/// A model output held NaN or infinity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("score {position} is not a finite number")]
pub struct NotFinite {
    /// Which of the scores, from 0.
    pub position: usize,
}

/// One finite score in 0..=1 per label. They sum to one for a softmax, not for a sigmoid.
#[derive(Debug, Clone, PartialEq)]
pub struct Probabilities(Vec<f32>);

impl Probabilities {
    /// Takes scores already in 0..=1 (tiny excess from rounding is cut off).
    ///
    /// # Errors
    /// Names the first score that is not finite.
    pub fn new(mut scores: Vec<f32>) -> Result<Self, NotFinite> {
        if let Some(position) = scores.iter().position(|it| !it.is_finite()) {
            return Err(NotFinite { position });
        }
        for score in &mut scores {
            *score = score.clamp(0.0, 1.0);
        }
        Ok(Self(scores))
    }

    /// The scores in label order.
    #[must_use]
    pub fn as_slice(&self) -> &[f32] {
        &self.0
    }

    /// `(label index, score)` of the highest score; of equal ones the first. `None` if there are none.
    #[must_use]
    pub fn best(&self) -> Option<(usize, f32)> {
        let scores = self.0.iter().copied().enumerate();
        scores.reduce(|a, b| if b.1 > a.1 { b } else { a })
    }

    /// `(label index, score)`, highest first; equal scores in label order.
    #[must_use]
    pub fn ranked(&self) -> Vec<(usize, f32)> {
        let mut ranked: Vec<_> = self.0.iter().copied().enumerate().collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        ranked
    }
}
