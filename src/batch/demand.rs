//! How much is asked for, of what the lanes can do.

use std::{collections::VecDeque, time::Duration};

use crate::types::Instant;

/// What the average is taken over.
const WINDOW: Duration = Duration::from_secs(10);
/// The window moves on in steps of this.
const STEP: Duration = Duration::from_millis(250);

/// Predicted time of lanes asked for lately, whether or not it was let in.
#[derive(Debug)]
pub(super) struct Demand {
    began: Instant,
    /// By step of time, oldest first; steps without demand are not in here.
    steps: VecDeque<(Instant, Duration)>,
}

impl Demand {
    pub(super) fn new(now: Instant) -> Self {
        Self { began: now, steps: VecDeque::new() }
    }

    pub(super) fn add(&mut self, cost: Duration, now: Instant) {
        match self.steps.back_mut() {
            Some((at, sum)) if now.saturating_duration_since(*at) < STEP => *sum += cost,
            Some(_) | None => {
                self.forget(now);
                self.steps.push_back((now, cost));
            }
        }
    }

    fn forget(&mut self, now: Instant) {
        while let Some((at, _)) = self.steps.front()
            && now.saturating_duration_since(*at) >= WINDOW
        {
            self.steps.pop_front();
        }
    }

    /// Seconds of lanes asked for a second, over the last ten or as long as it has been watched.
    pub(super) fn lanes(&mut self, now: Instant) -> f64 {
        self.forget(now);
        let watched = now.saturating_duration_since(self.began).clamp(STEP * 4, WINDOW);
        let asked: Duration = self.steps.iter().map(|(_, sum)| *sum).sum();
        asked.as_secs_f64() / watched.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 40 ms of work, so many times a second, for so many seconds; then what is seen.
    fn seen(per_second: u32, seconds: u32) -> f64 {
        let start = Instant::now();
        let mut demand = Demand::new(start);
        for n in 0..per_second * seconds {
            demand.add(Duration::from_millis(40), start + Duration::from_secs(1) * n / per_second);
        }
        demand.lanes(start + Duration::from_secs(1) * seconds)
    }

    #[test]
    fn demand_is_what_was_asked_for_a_second() {
        for (per_second, seconds, cores) in
            [(50, 2, 2.0), (50, 30, 2.0), (500, 30, 20.0), (0, 5, 0.0)]
        {
            let found = seen(per_second, seconds);
            assert!((found - cores).abs() <= 0.03 * cores, "{found} for {cores}");
        }
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let start = Instant::now();
        let mut demand = Demand::new(start);
        demand.add(Duration::from_secs(5), start);
        assert!(demand.lanes(start + Duration::from_secs(9)) > 0.5);
        assert!(demand.lanes(start + Duration::from_secs(11)) < 1e-9);
    }
}
