//! Who is let in while others wait: the budget's rule, and the credit for bursts.
//!
//! What is predicted to be answered within the target is admitted; what would come after its limit
//! is not. Between the two a burst is let in, until the prediction has stood above the target for
//! as long as the model's `burst`; from then on nothing, until it is back within the target. The
//! credit is whole again once the prediction has been below half the target. So a short burst is
//! answered late rather than refused, and under lasting overload every answer given is in time.
//!
//! Of the target a reserve is taken off, for what a prediction misses. The server's own work is let
//! in only while clients are answered within it, and a model that is ahead of its share beside
//! others that are refused (`shares`) only up to half of it.

use std::time::Duration;

use super::Scheduler;
use crate::{
    batch::{
        event::{Class, ModelKey, ReservationKey},
        site::Cost,
    },
    types::Instant,
};

/// What a model's items are held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// An answer should be ready within this.
    pub target: Duration,
    /// And must be within this. A lane that has not come back for twice as long is given up.
    pub limit: Duration,
    /// For how long the prediction may stand above the target.
    pub burst: Duration,
    /// What is taken off the target for what a prediction misses; `None`: learnt.
    pub reserve: Option<Duration>,
    /// Its share of the cores beside other models.
    pub weight: u32,
}

impl Terms {
    /// A target and a limit, and the rest as it is by default.
    #[must_use]
    pub const fn new(target: Duration, limit: Duration) -> Self {
        Self { target, limit, burst: target, reserve: None, weight: 1 }
    }
}

/// An item that asks to be let in.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// Whose queue it would join.
    pub model: ModelKey,
    /// Whose work it is.
    pub class: Class,
    /// What answering it takes.
    pub cost: Cost,
    /// When its answer should be ready.
    pub aim: Instant,
    /// What is taken off the target.
    pub reserve: Duration,
    /// When its answer is no longer wanted.
    pub expires: Instant,
}

/// Why a candidate is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
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
    /// Judges a candidate by the budget's rule, and takes note of what was predicted for it. Says when
    /// its answer is predicted to be ready.
    ///
    /// What finds an idle lane is let in, whatever it is said to cost: the estimate may be wrong,
    /// and only trying can mend it.
    ///
    /// # Errors
    /// Why it is not let in.
    pub fn judge(&mut self, candidate: &Candidate, now: Instant) -> Result<Instant, Rejection> {
        let Candidate { model, class, cost, .. } = *candidate;
        let is_free = self.is_free_for(model, !cost.decode.is_zero());
        let done = self.judge_beside(is_free, candidate, now)?;
        if class == Class::Normal {
            let weight = self.models.get(&model).map_or(1, |it| it.terms.weight);
            self.shares.admitted(model, cost.total(), weight);
        }
        Ok(done)
    }

    fn judge_beside(
        &mut self,
        is_free: bool,
        candidate: &Candidate,
        now: Instant,
    ) -> Result<Instant, Rejection> {
        let Candidate { model, class, cost, aim, reserve, expires } = *candidate;
        self.reservations.tick(now);
        let wait = self.wait_of(model, (class, aim), !cost.decode.is_zero(), now);
        let done = now + wait + cost.total();
        let Some(queue) = self.models.get(&model) else { return Ok(done) };
        // What runs elsewhere takes at most a little decoding from it.
        let competes = |other: ModelKey| {
            self.models.get(&other).is_some_and(|it| it.placement.overlaps(&queue.placement))
        };
        let is_ahead = self.shares.is_ahead(model, competes, now);
        let Some(queue) = self.models.get_mut(&model) else { return Ok(done) };
        let target = queue.terms.target;
        // Since the last byte of its body, which is the target before the aim.
        let predicted = (done + target + reserve).saturating_duration_since(aim);
        let in_time = match class {
            Class::Low => wait + reserve <= target,
            Class::Normal => {
                let in_credit = queue.credit.admits(predicted, &queue.terms, now);
                if is_ahead { predicted <= target / 2 } else { in_credit }
            }
        };
        let verdict = if is_free || wait.is_zero() {
            Ok(done)
        } else if done > expires {
            Err(Rejection::TooLate { by: done - expires })
        } else if in_time {
            Ok(done)
        } else {
            Err(Rejection::NoCredit { by: predicted.saturating_sub(target) })
        };
        // A client that has no time is no sign of too much work.
        let is_short = predicted > target || is_ahead;
        if verdict.is_err() && is_short && class == Class::Normal {
            self.shares.refused(model, now);
        }
        verdict
    }

    /// Judges a request of which only the head is there, by the cost of one item, and keeps that
    /// place for a moment: until its items come, or [`Self::end_reservation`].
    ///
    /// # Errors
    /// Why it is not let in.
    pub fn reserve(
        &mut self,
        candidate: &Candidate,
        now: Instant,
    ) -> Result<ReservationKey, Rejection> {
        // A place is no claim to an idle lane: whoever is here first has it.
        self.judge_beside(false, candidate, now)?;
        let Candidate { model, cost, .. } = *candidate;
        let queue = self.models.get(&model);
        let load = queue.map(|it| it.placement.load(cost)).unwrap_or_default();
        Ok(self.reservations.add(model, load, now))
    }

    /// The items that a place was kept for are about to ask for their own, or will never come.
    pub fn end_reservation(&mut self, key: ReservationKey) {
        self.reservations.end(key);
    }
}

/// A model's credit for bursts.
#[derive(Debug, Default)]
pub(super) struct Credit {
    /// Spent before `above_since`.
    spent: Duration,
    /// Since when the prediction stands above the target.
    above_since: Option<Instant>,
}

impl Credit {
    /// Whether an item is admitted that is predicted to be answered so long after its last byte;
    /// takes note of the prediction.
    pub(super) fn admits(&mut self, predicted: Duration, terms: &Terms, now: Instant) -> bool {
        if predicted <= terms.target {
            self.spent =
                if predicted < terms.target / 2 { Duration::ZERO } else { self.spent(now) };
            self.above_since = None;
            return true;
        }
        self.above_since.get_or_insert(now);
        self.spent(now) < terms.burst
    }

    fn spent(&self, now: Instant) -> Duration {
        let standing = self.above_since.map(|it| now.saturating_duration_since(it));
        self.spent.saturating_add(standing.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const TERMS: Terms = Terms::new(Duration::from_millis(600), Duration::from_secs(3));

    /// What is said to arrivals, each `(at, predicted)` in milliseconds.
    fn day(arrivals: &[(u32, u32)]) -> Vec<bool> {
        let (mut credit, start) = (Credit::default(), Instant::now());
        arrivals.iter().map(|(at, it)| credit.admits(MS * *it, &TERMS, start + MS * *at)).collect()
    }

    #[test]
    fn what_is_in_time_is_admitted() {
        assert_eq!(day(&[(0, 0), (1, 599), (2, 600)]), [true, true, true]);
    }

    #[test]
    fn a_burst_is_admitted_for_as_long_as_its_credit_lasts() {
        assert_eq!(day(&[(0, 700), (599, 1300), (600, 1300)]), [true, true, false]);
    }

    #[test]
    fn who_has_no_credit_left_is_admitted_again_within_the_target_only() {
        assert_eq!(
            day(&[(0, 700), (600, 900), (900, 600), (901, 601)]),
            [true, false, true, false]
        );
    }

    #[test]
    fn credit_is_whole_again_below_half_the_target() {
        let days = [(0, 700), (600, 900), (900, 300), (901, 601), (1000, 299), (1001, 601)];
        assert_eq!(day(&days), [true, false, true, false, true, true]);
    }

    #[test]
    fn credit_adds_up_over_several_times_above() {
        let days = [(0, 700), (400, 500), (500, 700), (699, 700), (700, 700)];
        assert_eq!(day(&days), [true, true, true, true, false]);
    }

    #[test]
    fn without_burst_the_target_is_the_bound() {
        let terms = Terms { burst: Duration::ZERO, ..TERMS };
        let mut credit = Credit::default();
        assert!(credit.admits(MS * 600, &terms, Instant::now()));
        assert!(!credit.admits(MS * 601, &terms, Instant::now()));
    }
}
