//! What a handler may touch, and the limits of the data plane.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{metrics::Metrics, predict::Predictor};

/// What a request may bring, and how long its body may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// Bytes a body may have.
    pub body_limit: u64,
    /// From the head of a request to the last byte of its body.
    pub body_timeout: Duration,
    /// Pieces (chunks, DATA frames) a body may come in. Each costs work whatever its size, so a
    /// byte limit alone does not bound a flood of tiny ones.
    pub body_frames: usize,
    /// Images a request may hold.
    pub images: usize,
    /// A refused body up to this long is read and thrown away, so that the connection can stay
    /// open; a longer one closes it.
    pub discard_bytes: u64,
    /// How long throwing a body away may take.
    pub discard_timeout: Duration,
    /// Whether a connection that comes back before its `Retry-After` has its refusals held.
    pub pace_retries: bool,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            body_limit: 16 << 20,
            // 16 MiB at 5 Mbit/s.
            body_timeout: Duration::from_secs(30),
            // Triton's number; 16 MiB in pieces of 256 bytes.
            body_frames: 65_536,
            images: 64,
            discard_bytes: 1 << 20,
            discard_timeout: Duration::from_secs(1),
            pace_retries: true,
        }
    }
}

/// Shared by every handler; cheap to clone.
#[derive(Debug, Clone)]
pub struct HttpState {
    /// Answers requests.
    pub predictor: Predictor,
    /// Everything that is counted.
    pub metrics: Arc<Metrics>,
    /// The limits of a request.
    pub config: Arc<HttpConfig>,
    draining: Arc<AtomicBool>,
}

impl HttpState {
    /// Puts together what handlers need.
    #[must_use]
    pub fn new(predictor: Predictor, metrics: Arc<Metrics>, config: HttpConfig) -> Self {
        Self { predictor, metrics, config: Arc::new(config), draining: Arc::default() }
    }

    /// Turns readiness off for good, on every listener that shares this state: the first step of
    /// stopping, while requests are still answered.
    pub fn start_draining(&self) {
        // Relaxed: a flag that only ever rises, and guards no other data.
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the server is about to stop.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}
