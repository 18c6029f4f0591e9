//! Leave to read one request's body: the version that will answer, and the bytes it holds.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    batch::{Refusal, RefusalCause, Reservation},
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

    /// Whether so many bytes more would be let in now.
    pub(super) fn has_room(&self, n_bytes: u64) -> Result<(), Refusal> {
        self.with(self.used.load(Ordering::Relaxed), n_bytes).map(|_| ()).ok_or(TOO_MANY_BYTES)
    }

    /// Nothing yet of it, for one request.
    pub(super) fn share(budget: &Arc<Self>) -> HeldBytes {
        HeldBytes { of: Arc::clone(budget), held: 0 }
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

/// The bytes that one request holds; dropping it gives them back.
///
/// They are set aside as they come: an announcement costs a client nothing, and a few could take all
/// the room for nothing.
#[derive(Debug)]
pub(super) struct HeldBytes {
    of: Arc<ByteBudget>,
    held: u64,
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.of.give_back(self.held);
    }
}

/// Leave to read the body of one request; dropping it gives up its place and its bytes.
#[derive(Debug)]
pub struct Ticket {
    pub(super) model: Arc<ServingModel>,
    pub(super) arrived: Instant,
    pub(super) client_deadline: Option<Instant>,
    /// Until its items ask for their own.
    pub(super) place: Option<Reservation>,
    pub(super) bytes: HeldBytes,
}

impl Ticket {
    /// The items are here, and ask for themselves.
    pub(super) fn give_up_place(&mut self) {
        self.place = None;
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
        self.bytes
            .of
            .take(n_bytes)
            .inspect_err(|it| count_refusal(&self.model, it.cause.as_str()))?;
        self.bytes.held += n_bytes;
        Ok(())
    }
}

/// Counts a request refused before its items are known as one item.
pub(super) fn count_refusal(model: &ServingModel, reason: &'static str) {
    model.model_metrics.shed(reason);
    model.metrics.answered(metrics::Outcome::Shed, Duration::ZERO, model.budget);
    let verdict = Verdict::undecided(Reason::Overloaded, None);
    model.metrics.judged(None, Some(&verdict));
}
