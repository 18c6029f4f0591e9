//! L(batch, threads): how long a run of so many rows takes on so many threads.

use std::{collections::BTreeMap, time::Duration};

/// Measured run times of one version on one machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LatencyModel {
    /// By threads, then rows.
    times: BTreeMap<(usize, usize), Duration>,
}

impl LatencyModel {
    /// Takes note of a run time; a later one of the same size stands for the earlier.
    pub fn record(&mut self, batch: usize, threads: usize, took: Duration) {
        self.times.insert((threads, batch), took);
    }

    /// What was measured on so many threads: rows and run time, ascending.
    pub fn measured(&self, threads: usize) -> impl DoubleEndedIterator<Item = (usize, Duration)> {
        let all = self.times.range((threads, 0)..=(threads, usize::MAX));
        all.map(|((_, batch), took)| (*batch, *took))
    }

    /// Everything measured: rows, threads, run time.
    pub fn iter(&self) -> impl Iterator<Item = (usize, usize, Duration)> {
        self.times.iter().map(|((threads, batch), took)| (*batch, *threads, *took))
    }

    /// The run time of a size that was measured.
    #[must_use]
    pub fn at(&self, batch: usize, threads: usize) -> Option<Duration> {
        self.times.get(&(threads, batch)).copied()
    }

    /// The run time to expect: between two sizes on the line through them, below the smallest as
    /// long as that, beyond the largest as long a row as there. `None` for a number of threads of
    /// which nothing is known.
    #[must_use]
    pub fn predict(&self, batch: usize, threads: usize) -> Option<Duration> {
        let below = self.measured(threads).rfind(|(size, _)| *size <= batch);
        let above = self.measured(threads).find(|(size, _)| *size >= batch);
        match (below, above) {
            (None, above) => above.map(|(_, took)| took),
            (Some((size, took)), None) => Some(took.mul_f64(ratio(batch, size))),
            (Some((size, took)), Some((_, _))) if size == batch => Some(took),
            (Some((less, from)), Some((more, to))) => {
                let share = ratio(batch - less, more - less);
                let seconds = from.as_secs_f64() * (1.0 - share) + to.as_secs_f64() * share;
                Some(Duration::from_secs_f64(seconds))
            }
        }
    }
}

/// Rows a second of runs of that size, one after the other.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a batch is far below 2^52 rows")]
pub(super) fn rows_per_second(batch: usize, took: Duration) -> f64 {
    batch as f64 / took.as_secs_f64().max(1e-9)
}

#[expect(clippy::cast_precision_loss, reason = "a batch is far below 2^52 rows")]
fn ratio(a: usize, b: usize) -> f64 {
    a as f64 / b.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_was_not_measured_lies_on_the_line_between_its_neighbours() {
        let mut model = LatencyModel::default();
        for (batch, threads, took) in [(1, 1, 26), (4, 1, 32), (8, 1, 48), (2, 2, 20)] {
            model.record(batch, threads, took * MS);
        }
        for (batch, threads, expected) in [
            (1, 1, Some(26)),
            (2, 1, Some(28)),
            (4, 1, Some(32)),
            (6, 1, Some(40)),
            (16, 1, Some(96)),
            (1, 2, Some(20)),
            (2, 2, Some(20)),
            (4, 2, Some(40)),
            (1, 3, None),
        ] {
            let found = model.predict(batch, threads).map(|it| it.as_secs_f64() * 1e3);
            let near = match (found, expected) {
                (Some(found), Some(expected)) => (found - f64::from(expected)).abs() < 1e-6,
                (found, expected) => found.is_none() && expected.is_none(),
            };
            assert!(near, "L({batch}, {threads}) is {found:?}, expected {expected:?}");
        }
        assert_eq!(model.measured(1).map(|it| it.0).collect::<Vec<_>>(), [1, 4, 8]);
        assert_eq!(model.at(2, 1), None);
        assert_eq!(model.iter().count(), 4);
    }

    proptest::proptest! {
        /// More rows never take less, if they did not where it was measured.
        #[test]
        fn a_prediction_grows_with_the_batch(
            steps in proptest::collection::vec((1_usize..9, 0_u64..1_000_000), 1..6)
        ) {
            let (mut model, mut batch, mut took) = (LatencyModel::default(), 0, Duration::ZERO);
            for (rows, micros) in steps {
                batch += rows;
                took += Duration::from_micros(micros);
                model.record(batch, 1, took);
            }
            let all: Vec<_> = (1..=batch * 2).map(|it| model.predict(it, 1).unwrap()).collect();
            // A nanosecond is lost and found in floating point.
            proptest::prop_assert!(all.windows(2).all(|it| it[1] + Duration::from_nanos(2) >= it[0]));
        }
    }
}
