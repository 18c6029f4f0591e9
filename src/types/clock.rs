//! The door through which time enters: a monotonic instant tests can pause, wall-clock stamps, and
//! the two numbers a model is held to.

#![expect(clippy::disallowed_types, reason = "this is the one door for wall-clock time")]

use std::time::{Duration, SystemTime};

/// A point on the monotonic clock. Tokio's, so that tests can pause it; on a thread without a
/// runtime it reads the system's clock.
pub use tokio::time::Instant;

/// A moment of the wall clock, in UTC; for records and answers, never for measuring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WallTime(SystemTime);

impl WallTime {
    /// The present moment.
    #[must_use]
    pub fn now() -> Self {
        Self(SystemTime::now())
    }

    /// Milliseconds since 1970-01-01T00:00:00Z; 0 for a clock set before it.
    #[must_use]
    pub fn unix_millis(self) -> u64 {
        let since = self.0.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

impl std::fmt::Display for WallTime {
    /// RFC 3339 with milliseconds: `2026-11-21T10:00:00.123Z`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        humantime::format_rfc3339_millis(self.0).fmt(f)
    }
}

/// What a model is held to. Both run from the last byte of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// An answer *should* be ready within this.
    pub target: Duration,
    /// An answer *must* be ready within this; after it the item is `undecided/deadline`.
    pub limit: Duration,
}

impl Default for Budget {
    fn default() -> Self {
        Self { target: Duration::from_millis(600), limit: Duration::from_secs(3) }
    }
}
