//! How long one measurement lasts, and what a throughput is.

use std::time::Duration;

use serde::Serialize;

/// A warm-up that does not count, then what counts.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    pub warm_up: Duration,
    pub measured: Duration,
}

impl Window {
    pub fn total(self) -> Duration {
        self.warm_up + self.measured
    }

    pub fn warm_up(self) {
        pause(self.warm_up);
    }

    pub fn measure(self) {
        pause(self.measured);
    }
}

/// Items a second, and the processor time each took of the process that worked on it.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Rate {
    pub per_second: f64,
    pub cpu_ms: f64,
}

/// Really sleeps, as other threads and processes are what is being watched.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}
