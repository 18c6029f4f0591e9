//! When an item that arrives now would be answered, and whether that is soon enough.
//!
//! The prediction adds up the predicted work ahead and shares it among the lanes. Lanes that run
//! beside each other, and beside the sockets, take longer than one that was measured alone, so the
//! sum is scaled by how long the last waits took of what was predicted for them.

use std::time::Duration;

use super::{Lane, Scheduler};
use crate::{batch::event::ModelKey, types::Instant};

/// An item that asks to be let in.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// Whose queue it would join.
    pub model: ModelKey,
    /// Predicted core time of answering it.
    pub cost: Duration,
    /// When its answer should be ready.
    pub aim: Instant,
    /// What is taken off the target for everything but waiting, decoding and running.
    pub reserve: Duration,
    /// When its answer is no longer wanted.
    pub expires: Instant,
}

/// What is said to a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It may join.
    Admitted,
    /// It would be answered so much after it has expired.
    TooLate {
        /// How much.
        by: Duration,
    },
    /// It would be answered so much after the target, and the credit for bursts is spent.
    NoCredit {
        /// How much.
        by: Duration,
    },
}

impl Scheduler {
    /// Judges a candidate by the budget's rule, and takes note of what was predicted for it.
    ///
    /// What finds an idle lane is let in, whatever it is said to cost: the estimate may be wrong,
    /// and only trying can mend it.
    pub fn judge(&mut self, candidate: &Candidate, now: Instant) -> Admission {
        let wait = self.predicted_wait(candidate.model, now);
        let done = now + wait + candidate.cost;
        let Some(queue) = self.models.get_mut(&candidate.model) else { return Admission::Admitted };
        // Since the last byte of its body, which is the target before the aim.
        let predicted = (done + queue.terms.target + candidate.reserve)
            .saturating_duration_since(candidate.aim);
        let in_credit = queue.credit.admits(predicted, &queue.terms, now);
        if wait.is_zero() {
            Admission::Admitted
        } else if done > candidate.expires {
            Admission::TooLate { by: done - candidate.expires }
        } else if in_credit {
            Admission::Admitted
        } else {
            Admission::NoCredit { by: predicted.saturating_sub(queue.terms.target) }
        }
    }

    /// Predicted time until a lane turns to an item of this model that arrives now: all work ahead of
    /// it shared by the lanes, and the model's own by those it may have. Zero where it would find an
    /// idle lane.
    #[must_use]
    pub fn predicted_wait(&self, model: ModelKey, now: Instant) -> Duration {
        self.pace.scaled(self.unscaled_wait(model, now))
    }

    pub(super) fn unscaled_wait(&self, model: ModelKey, now: Instant) -> Duration {
        let under_way: Duration = self.lanes.iter().map(|it| it.remaining(now)).sum();
        // While a lane is idle nothing is ahead of the item, however busy the others are.
        let ahead = if self.lanes.contains(&Lane::Idle) { Duration::ZERO } else { under_way };
        let shared = (ahead + self.waiting_cost) / count(self.lanes.len());
        let own = self
            .models
            .get(&model)
            .map_or(Duration::ZERO, |it| it.cost / count(it.max_lanes.min(self.lanes.len())));
        shared.max(own)
    }
}

impl Lane {
    fn remaining(&self, now: Instant) -> Duration {
        match self {
            Self::Idle => Duration::ZERO,
            Self::Busy { since, expected, .. } => {
                expected.saturating_sub(now.saturating_duration_since(*since))
            }
        }
    }
}

/// How long waits take, of what was predicted for them: a running mean.
#[derive(Debug)]
pub(super) struct Pace(f64);

impl Default for Pace {
    fn default() -> Self {
        Self(1.0)
    }
}

impl Pace {
    /// Shorter waits say more of the run that happened to be under way than of the pace.
    const TELLING: Duration = Duration::from_millis(50);
    /// The share of the newest wait in the mean.
    const SHARE: f64 = 1.0 / 32.0;

    pub(super) fn learn(&mut self, predicted: Duration, took: Duration) {
        if predicted >= Self::TELLING {
            let seen = took.as_secs_f64() / predicted.as_secs_f64();
            self.0 = (self.0 + Self::SHARE * (seen - self.0)).clamp(0.5, 4.0);
        }
    }

    fn scaled(&self, wait: Duration) -> Duration {
        wait.mul_f64(self.0)
    }
}

/// A number of lanes to divide by.
fn count(lanes: usize) -> u32 {
    u32::try_from(lanes.max(1)).unwrap_or(u32::MAX)
}
