//! A session whose runs are timed, and a look at what else the machine did meanwhile.
//!
//! A disturbance can only make a run longer. So the shortest of a few is the best estimate of what
//! a run takes, and one during which the thread had to wait for its core says nothing.

use std::{fs, sync::Arc, time::Duration};

use crate::{
    batch::{ExecuteError, Executor as _, Feed},
    onnx::{OrtExecutor, Signature},
    types::{Instant, NamedTensor},
};

/// A run that waited for a core for more than this share of its time was disturbed.
const DISTURBED: f64 = 0.03;

/// How many runs of a size are timed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort {
    /// Undisturbed ones that are enough once `budget` is spent.
    at_least: usize,
    /// Undisturbed ones that are enough in any case.
    at_most: usize,
    budget: Duration,
}

impl Effort {
    /// For a start, which waits for it.
    pub(super) const AT_LOAD: Self = Self { at_least: 3, at_most: 3, budget: Duration::ZERO };
    /// For a start, of what nothing hangs on.
    pub(super) const ONE_LOOK: Self = Self { at_least: 1, at_most: 1, ..Self::AT_LOAD };
    /// For `linesight profile`, which has time.
    pub(super) const THOROUGH: Self =
        Self { at_least: 5, at_most: 30, budget: Duration::from_millis(600) };

    /// Whether another run is timed. On a machine that is never quiet there is an end too.
    fn goes_on(self, quiet: usize, disturbed: usize, spent: Duration) -> bool {
        let wanted = if spent < self.budget { self.at_most } else { self.at_least };
        quiet < wanted && quiet + disturbed < wanted * 2
    }
}

/// Run times of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// The shortest run.
    pub least: Duration,
    /// Half of the runs took longer.
    pub median: Duration,
    /// Runs that count.
    pub kept: usize,
    /// Runs that were thrown away because the machine did something else. Where `kept` is 0 none
    /// was quiet, and the figures are of these.
    pub disturbed: usize,
}

impl Timing {
    /// The only run there is.
    pub(super) fn once(took: Duration) -> Self {
        Self { least: took, median: took, kept: 1, disturbed: 0 }
    }

    fn of(mut quiet: Vec<Duration>, mut disturbed: Vec<Duration>) -> Self {
        let (kept, n_disturbed) = (quiet.len(), disturbed.len());
        let times = if quiet.is_empty() { &mut disturbed } else { &mut quiet };
        times.sort_unstable();
        let at = |it: usize| times.get(it).copied().unwrap_or_default();
        Self { least: at(0), median: at(times.len() / 2), kept, disturbed: n_disturbed }
    }
}

/// A session and the names of its outputs.
#[derive(Debug)]
pub(super) struct Bench {
    session: OrtExecutor,
    outputs: Vec<Arc<str>>,
    threads: usize,
}

impl Bench {
    pub(super) fn new(session: OrtExecutor, signature: &Signature, threads: usize) -> Self {
        let outputs = signature.outputs.iter().map(|it| Arc::clone(&it.name)).collect();
        Self { session, outputs, threads }
    }

    pub(super) fn run(&mut self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, ExecuteError> {
        let feed = |it: &'_ NamedTensor| -> (Arc<str>, Vec<usize>) {
            (Arc::clone(&it.name), it.tensor.shape().to_vec())
        };
        let names: Vec<_> = inputs.iter().map(feed).collect();
        let feeds: Vec<Feed<'_>> = names
            .iter()
            .zip(inputs)
            .map(|((name, shape), it)| Feed { name, shape, data: it.tensor.data() })
            .collect();
        self.session.execute(&feeds, &self.outputs)
    }

    /// Times a size that has been run before.
    pub(super) fn time(
        &mut self,
        inputs: &[NamedTensor],
        effort: Effort,
    ) -> Result<Timing, ExecuteError> {
        let (mut quiet, mut disturbed) = (Vec::new(), Vec::new());
        let began = Instant::now();
        while effort.goes_on(quiet.len(), disturbed.len(), began.elapsed()) {
            let before = Waits::of(self.threads);
            let started = Instant::now();
            self.run(inputs)?;
            let took = started.elapsed();
            let spoilt = Waits::of(self.threads).spoilt(before, took);
            if spoilt { disturbed.push(took) } else { quiet.push(took) }
        }
        Ok(Timing::of(quiet, disturbed))
    }

    /// Bytes of working memory the session has taken by now.
    pub(super) fn arena_bytes(&self) -> Option<u64> {
        self.session.arena_bytes()
    }
}

/// For how long threads that could run had no core. What the kernel does not tell counts as none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Waits {
    /// This thread's, or of a session of several threads this process's.
    waited: Duration,
    /// All processors', in which the machine under this one ran something else.
    stolen: Duration,
}

impl Waits {
    fn of(threads: usize) -> Self {
        let waited = if threads == 1 {
            run_delay(&read("/proc/thread-self/schedstat"))
        } else {
            let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
            tasks.map(|it| run_delay(&read(it.path().join("schedstat")))).sum()
        };
        Self { waited, stolen: stolen(&read("/proc/stat")) }
    }

    fn spoilt(self, before: Self, took: Duration) -> bool {
        let waited = self.waited.saturating_sub(before.waited);
        let stolen = self.stolen.saturating_sub(before.stolen);
        waited + stolen > took.mul_f64(DISTURBED)
    }
}

fn read(path: impl AsRef<std::path::Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The second of the three figures of `schedstat`: nanoseconds spent ready to run.
fn run_delay(schedstat: &str) -> Duration {
    let nanos = schedstat.split_whitespace().nth(1).and_then(|it| it.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

/// The eighth figure of the line `cpu` of `/proc/stat`: `steal`, in hundredths of a second (USER_HZ
/// is 100 wherever Linux runs).
fn stolen(stat: &str) -> Duration {
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Option<u64> = line.split_whitespace().nth(8).and_then(|it| it.parse().ok());
    Duration::from_millis(ticks.unwrap_or(0).saturating_mul(10))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_the_kernel_tells_is_read() {
        assert_eq!(run_delay("125056 56915 2\n"), Duration::from_nanos(56_915));
        assert_eq!(run_delay(""), Duration::ZERO);
        assert_eq!(stolen("cpu  40 10 74 93 14 0 48 125 0 0\ncpu0 1 2\n"), 1250 * MS);
        assert_eq!(stolen("cpu  40 10\n"), Duration::ZERO);
    }

    #[test]
    fn a_run_that_waited_for_a_core_or_lost_it_is_spoilt() {
        let before = Waits { waited: 50 * MS, stolen: 70 * MS };
        for (waited, stolen, took, spoilt) in [
            (50 * MS, 70 * MS, 20 * MS, false),
            (50 * MS + MS / 10, 70 * MS, 20 * MS, false),
            (51 * MS, 70 * MS, 20 * MS, true),
            (50 * MS, 80 * MS, 20 * MS, true),
            // A tick in a long run says little.
            (50 * MS, 80 * MS, 600 * MS, false),
        ] {
            assert_eq!(
                Waits { waited, stolen }.spoilt(before, took),
                spoilt,
                "{waited:?} {stolen:?}"
            );
        }
    }

    #[test]
    fn there_are_enough_runs_and_not_too_many() {
        let (effort, budget) = (Effort::THOROUGH, Effort::THOROUGH.budget);
        for (quiet, disturbed, spent, goes_on) in [
            (0, 0, MS, true),
            (29, 30, MS, true),
            (30, 0, MS, false),
            (10, 50, MS, false),
            (4, 0, budget, true),
            (5, 0, budget, false),
            (0, 9, budget, true),
            (0, 10, budget, false),
        ] {
            assert_eq!(effort.goes_on(quiet, disturbed, spent), goes_on, "{quiet} {disturbed}");
        }
        assert!(Effort::AT_LOAD.goes_on(2, 3, MS) && !Effort::AT_LOAD.goes_on(2, 4, MS));
    }

    #[test]
    fn quiet_runs_count_alone_where_there_are_any() {
        let quiet = Timing::of(vec![3 * MS, MS, 2 * MS], vec![9 * MS]);
        assert_eq!(quiet, Timing { least: MS, median: 2 * MS, kept: 3, disturbed: 1 });
        let none = Timing::of(Vec::new(), vec![9 * MS, 8 * MS]);
        assert_eq!(none, Timing { least: 8 * MS, median: 9 * MS, kept: 0, disturbed: 2 });
    }
}
