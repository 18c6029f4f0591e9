//! Runs items against the clock: one scheduler over all models, one lane per core token.
//!
//! The life of an item: [`ModelHandle::infer`] queues it (or refuses it); a free lane decodes it if
//! it is a picture; a free lane gathers it with others where that is proven to be sound, runs them,
//! and answers. A timer answers it when its limit passes first; dropping the future abandons it.
//!
//! `scheduler` decides, purely; `core` is the lock and the channels around it, `state` what the lock
//! guards; `lane` does the work, and `supervise` starts lanes and replaces those that hang.
//! This module has never heard of HTTP, of models on disk, or of ONNX Runtime: it opens a
//! [`Program`] and calls an [`Executor`].

mod assignment;
mod core;
mod demand;
mod error;
mod event;
mod executor;
mod gather;
mod interrupt;
mod job;
mod lane;
mod runtime;
mod scheduler;
mod site;
mod state;
mod supervise;

pub use error::{BatchError, Refusal, RefusalCause};
pub use event::{Action, Arrival, Class, ItemKey, LaneKey, ModelKey, ReservationKey};
pub use executor::{ExecuteError, Executor, Feed, Program};
pub use interrupt::Interrupter;
pub use job::{Answer, Bounds, Input, Request};
pub use runtime::{Batching, ImageInput, ModelSpec};
pub use scheduler::{Candidate, Rejection, Scheduler, Service, Terms};
pub use site::{Cost, Placement, Site};

use std::{
    io,
    num::NonZeroUsize,
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use self::{core::Core, runtime::ModelRuntime};
use crate::{metrics::Metrics, types::Instant};

/// What a lane is given to come back when the process ends: it was told to end its run.
const GRACE: Duration = Duration::from_secs(2);

/// Owns the lanes and the timer; dropping it stops them and tells whoever waits.
#[derive(Debug)]
pub struct Batcher {
    core: Arc<Core>,
    timer: Option<JoinHandle<()>>,
}

impl Batcher {
    /// Starts one lane per core token, and the timer.
    ///
    /// # Errors
    /// When the system gives no more threads.
    pub fn start(n_cores: NonZeroUsize, metrics: Arc<Metrics>) -> io::Result<Self> {
        let core = Arc::new(Core::new(n_cores.get(), metrics));
        core.add_lanes(Site::Core, n_cores.get())?;
        let of_timer = Arc::clone(&core);
        let body = move || of_timer.run_timer();
        let timer = Some(std::thread::Builder::new().name("expiry-timer".to_owned()).spawn(body)?);
        Ok(Self { core, timer })
    }

    /// Sees to it that an accelerator has so many lanes. They take no core token: a thread that waits
    /// for an accelerator computes nothing.
    ///
    /// # Errors
    /// When the system gives no more threads.
    pub fn add_device(&self, device: u32, n_lanes: NonZeroUsize) -> io::Result<()> {
        self.core.add_lanes(Site::Device(device), n_lanes.get())
    }

    /// Opens the queue of a version. It is closed when the last clone of the handle is dropped.
    #[must_use]
    pub fn register(&self, spec: ModelSpec) -> ModelHandle {
        let model = self.core.add_model(spec);
        ModelHandle(Arc::new(Registered { core: Arc::clone(&self.core), model }))
    }

    /// How many cores lanes may use, which is how many lanes there are but for those of accelerators.
    #[must_use]
    pub fn n_cores(&self) -> usize {
        self.core.n_cores
    }

    /// Whether a lane can still work at every site there is.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.core.is_alive()
    }

    /// Brings the gauges of queues, lanes and load up to date.
    pub fn refresh_gauges(&self) {
        self.core.refresh_gauges();
    }
}

impl Drop for Batcher {
    fn drop(&mut self) {
        let lanes = self.core.stop();
        if self.timer.take().is_some_and(|it| it.join().is_err()) {
            tracing::error!("the timer had panicked");
        }
        // A run that hangs must not hang the end of the process.
        let (all_ended, wait) = mpsc::channel();
        let joiner = std::thread::Builder::new().name("lane-joiner".to_owned()).spawn(move || {
            for lane in lanes {
                if lane.join().is_err() {
                    tracing::error!("a lane had panicked");
                }
            }
            let _nobody_waits_any_more = all_ended.send(());
        });
        if joiner.is_ok() && wait.recv_timeout(GRACE).is_err() {
            tracing::error!("a lane did not come back; its run is left to the end of the process");
        }
    }
}

/// The way to the queue of one version. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ModelHandle(Arc<Registered>);

#[derive(Debug)]
struct Registered {
    core: Arc<Core>,
    model: Arc<ModelRuntime>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.core.remove_model(self.model.key);
    }
}

impl ModelHandle {
    /// Queues an item and waits for its answer. Dropping the future abandons the item.
    ///
    /// # Errors
    /// Refused for load, expired, undecodable, or failed: see [`BatchError`].
    pub async fn infer(&self, request: Request) -> Result<Answer, BatchError> {
        let (item, answer) = self.0.core.submit(&self.0.model, request)?;
        let mut guard = Abandon { core: &self.0.core, item: Some(item) };
        let answer = answer.await;
        guard.item = None;
        // The sender is dropped unanswered only when the process stops.
        answer.unwrap_or(Err(BatchError::Stopped))
    }

    /// Keeps a place for an item of which only the request's head is there, for 100 ms at most.
    ///
    /// # Errors
    /// When its answer would come too late.
    pub fn reserve(&self, bounds: &Bounds) -> Result<Reservation, Refusal> {
        let key = self.0.core.reserve(&self.0.model, bounds)?;
        Ok(Reservation { of: Arc::clone(&self.0), key })
    }

    /// Takes what has been learnt about runs since the version was registered.
    pub fn set_batching(&self, batching: Batching) {
        self.0.core.set_max_batch(self.0.model.key, batching.max_batch);
        self.0.model.batching.store(Arc::new(batching));
    }

    /// Takes note of when an answer was ready that had been predicted for `predicted`.
    pub fn learn_miss(&self, predicted: Instant, ready: Instant) {
        self.0.model.learn_miss(ready.saturating_duration_since(predicted));
    }

    /// How runs are filled, and what they cost.
    #[must_use]
    pub fn batching(&self) -> Arc<Batching> {
        self.0.model.batching.load_full()
    }
}

/// A place kept for an item that is still coming. Dropping it gives the place up: as the item itself
/// arrives, or when it never will.
#[derive(Debug)]
pub struct Reservation {
    of: Arc<Registered>,
    key: ReservationKey,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.of.core.end_reservation(self.key);
    }
}

/// Takes an item out of the queue if its caller stops waiting for it.
struct Abandon<'a> {
    core: &'a Core,
    item: Option<ItemKey>,
}

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        if let Some(item) = self.item {
            self.core.cancel(item);
        }
    }
}
