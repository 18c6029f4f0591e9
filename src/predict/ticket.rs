//! Leave to read one request's body: the version that will answer, and the bytes it holds.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    batch::{Refusal, RefusalCause},
    metrics::{self, Metrics},
    repository::ServingModel,
    types::{Instant, Reason, Verdict},
};

/// How many request bytes may be in memory at once, and how many are.
#[derive(Debug)]
pub(super) struct ByteBudget {
    limit: u64,
    used: AtomicU64,
    metrics: Arc<Metrics>,
}

impl ByteBudget {
    pub(super) fn new(limit: u64, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicU64::new(0), metrics })
    }

    /// What would be used with so many bytes more, if that is allowed.
    fn with(&self, used: u64, n_bytes: u64) -> Option<u64> {
        used.checked_add(n_bytes).filter(|it| *it <= self.limit)
    }

    fn has_room(&self, n_bytes: u64) -> Result<(), Refusal> {
        self.with(self.used.load(Ordering::Relaxed), n_bytes).map(|_| ()).ok_or(TOO_MANY_BYTES)
    }

    fn take(&self, n_bytes: u64) -> Result<(), Refusal> {
        let more = |used: u64| self.with(used, n_bytes);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .map_err(|_used| TOO_MANY_BYTES)?;
        self.metrics.process.bytes_in_flight.add(signed(n_bytes));
        Ok(())
    }

    fn give_back(&self, n_bytes: u64) {
        self.used.fetch_sub(n_bytes, Ordering::Relaxed);
        self.metrics.process.bytes_in_flight.sub(signed(n_bytes));
    }
}

/// Bytes come free as bodies are answered: within a target or so.
const TOO_MANY_BYTES: Refusal =
    Refusal { cause: RefusalCause::Bytes, retry_after: Duration::from_millis(500) };

fn signed(n_bytes: u64) -> i64 {
    i64::try_from(n_bytes).unwrap_or(i64::MAX)
}

/// Leave to read the body of one request; dropping it gives its bytes back.
#[derive(Debug)]
pub struct Ticket {
    pub(super) model: Arc<ServingModel>,
    pub(super) arrived: Instant,
    pub(super) client_deadline: Option<Instant>,
    bytes: Arc<ByteBudget>,
    held: u64,
}

impl Ticket {
    /// Refuses where there is no room for the announced bytes now. They are set aside as they come:
    /// an announcement costs a client nothing, and a few could take all the room for nothing.
    pub(super) fn issue(
        model: Arc<ServingModel>,
        arrived: Instant,
        client_deadline: Option<Instant>,
        bytes: &Arc<ByteBudget>,
        announced: u64,
    ) -> Result<Self, Refusal> {
        bytes.has_room(announced)?;
        Ok(Self { model, arrived, client_deadline, bytes: Arc::clone(bytes), held: 0 })
    }

    /// The version that will answer.
    #[must_use]
    pub fn model(&self) -> &Arc<ServingModel> {
        &self.model
    }

    /// When the client's own deadline passes; the body need not be read beyond it.
    #[must_use]
    pub fn client_deadline(&self) -> Option<Instant> {
        self.client_deadline
    }

    /// Accounts for body bytes that have come.
    ///
    /// # Errors
    /// When too many request bytes are in flight.
    pub fn grow(&mut self, n_bytes: u64) -> Result<(), Refusal> {
        self.bytes.take(n_bytes).inspect_err(|it| count_refusal(&self.model, it))?;
        self.held += n_bytes;
        Ok(())
    }
}

/// Counts a request refused before its items are known as one item.
pub(super) fn count_refusal(model: &ServingModel, refusal: &Refusal) {
    model.model_metrics.shed(refusal.cause.as_str());
    model.metrics.answered(metrics::Outcome::Shed, Duration::ZERO, model.budget);
    let verdict = Verdict::undecided(Reason::Overloaded, None);
    model.metrics.judged(None, Some(&verdict));
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.bytes.give_back(self.held);
    }
}
