//! Who is let in while others wait: the budget's rule, and the credit for bursts.
//!
//! What is predicted to be answered within the target is admitted; what would come after its limit
//! is not. Between the two a burst is let in, until the prediction has stood above the target for
//! as long as the model's `burst`; from then on nothing, until it is back within the target. The
//! credit is whole again once the prediction has been below half the target. So a short burst is
//! answered late rather than refused, and under lasting overload every answer given is in time.

use std::time::Duration;

use crate::types::Instant;

/// What a model's items are held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// An answer should be ready within this.
    pub target: Duration,
    /// For how long the prediction may stand above it.
    pub burst: Duration,
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
    const TERMS: Terms =
        Terms { target: Duration::from_millis(600), burst: Duration::from_millis(600) };

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
