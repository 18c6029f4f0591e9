//! How waiting for an answer can end badly.

use std::time::Duration;

use super::executor::ExecuteError;
use crate::imaging::ImageError;

/// Why an item has no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BatchError {
    /// Refused for load.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Its limit, or its caller's own deadline, passed first.
    #[error("the deadline passed")]
    Expired,
    /// Its picture could not be decoded.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The run failed.
    #[error(transparent)]
    Execute(#[from] ExecuteError),
    /// The version, or the process, is on its way out.
    #[error("shutting down")]
    Stopped,
}

/// Why load kept an item out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{cause}; try again in {} ms", retry_after.as_millis())]
pub struct Refusal {
    /// What was exhausted.
    pub cause: RefusalCause,
    /// When the same request is likely to be admitted.
    pub retry_after: Duration,
}

/// What was exhausted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RefusalCause {
    /// The queued work takes longer than the model's limit.
    #[error("the queue is longer than the latency limit")]
    Queue,
    /// The queued work takes longer than the model's target, and a burst has lasted too long.
    #[error("the queue has been longer than the latency target for longer than a burst may last")]
    Burst,
    /// The queued work takes longer than the caller's own deadline.
    #[error("the queue is longer than the request's own deadline")]
    Deadline,
    /// Too many request bytes are in memory.
    #[error("too many request bytes are in flight")]
    Bytes,
}

impl RefusalCause {
    /// The label of `shed_total`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Burst => "burst",
            Self::Deadline => "deadline",
            Self::Bytes => "bytes",
        }
    }
}
