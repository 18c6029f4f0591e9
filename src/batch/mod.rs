//! Runs items against the clock: one scheduler over all models, one lane per core token.
//!
//! The life of an item: [`ModelHandle::infer`] queues it (or refuses it); a free lane decodes it if
//! it is a picture; a free lane gathers it with others where that is proven to be sound, runs them,
//! and answers. A timer answers it when its limit passes first; dropping the future abandons it.
//!
//! `scheduler` decides, purely; `core` is the lock and the channels around it; `lane` does the work.
//! This module has never heard of HTTP, of models on disk, or of ONNX Runtime: it opens a
//! [`Program`] and calls an [`Executor`].

mod assignment;
mod core;
mod error;
mod event;
mod executor;
mod gather;
mod job;
mod lane;
mod runtime;
mod scheduler;

pub use error::{BatchError, Refusal, RefusalCause};
pub use event::{Action, Arrival, ItemKey, LaneKey, ModelKey};
pub use executor::{ExecuteError, Executor, Feed, Program};
pub use job::{Answer, Bounds, Input, Request};
pub use runtime::{Batching, ImageInput, ModelSpec};
pub use scheduler::{Admission, Candidate, Scheduler, Terms};

use std::{
    io,
    num::NonZeroUsize,
    sync::{Arc, mpsc::sync_channel},
    thread::JoinHandle,
    time::Duration,
};

use self::{core::Core, runtime::ModelRuntime};
use crate::metrics::Metrics;

/// Owns the lanes and the timer; dropping it stops them and tells whoever waits.
#[derive(Debug)]
pub struct Batcher {
    core: Arc<Core>,
    lanes: Vec<JoinHandle<()>>,
    timer: Option<JoinHandle<()>>,
}

impl Batcher {
    /// Starts one lane per core token, and the timer.
    ///
    /// # Errors
    /// When the system gives no more threads.
    pub fn start(n_lanes: NonZeroUsize, metrics: Arc<Metrics>) -> io::Result<Self> {
        let channels: Vec<_> = (0..n_lanes.get()).map(|_| sync_channel(1)).collect();
        let senders = channels.iter().map(|(to, _)| to.clone()).collect();
        let core = Arc::new(Core::new(senders, metrics));
        let mut lanes = Vec::new();
        for (at, (_, work)) in channels.into_iter().enumerate() {
            let core = Arc::clone(&core);
            let name = format!("lane-{at}");
            let body = move || lane::run(LaneKey(at), core, &work);
            lanes.push(std::thread::Builder::new().name(name).spawn(body)?);
        }
        let of_timer = Arc::clone(&core);
        let body = move || of_timer.run_timer();
        let timer = Some(std::thread::Builder::new().name("expiry-timer".to_owned()).spawn(body)?);
        Ok(Self { core, lanes, timer })
    }

    /// Opens the queue of a version. It is closed when the last clone of the handle is dropped.
    #[must_use]
    pub fn register(&self, spec: ModelSpec) -> ModelHandle {
        let model = self.core.add_model(spec);
        ModelHandle(Arc::new(Registered { core: Arc::clone(&self.core), model }))
    }

    /// How many lanes there are.
    #[must_use]
    pub fn n_lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Whether any lane can still work.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.lanes.iter().any(|it| !it.is_finished())
    }

    /// Brings the gauges of queues and lanes up to date.
    pub fn refresh_gauges(&self) {
        self.core.refresh_gauges();
    }
}

impl Drop for Batcher {
    fn drop(&mut self) {
        self.core.stop();
        for thread in self.lanes.drain(..).chain(self.timer.take()) {
            if thread.join().is_err() {
                tracing::error!("a thread of the batcher had panicked");
            }
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

    /// Whether an item that arrives now would be let in; asked before a body is read.
    ///
    /// # Errors
    /// When its answer would come too late.
    pub fn has_room(&self, bounds: &Bounds) -> Result<(), Refusal> {
        self.0.core.has_room(&self.0.model, bounds)
    }

    /// Takes what has been learnt about runs since the version was registered.
    pub fn set_batching(&self, batching: Batching) {
        self.0.core.set_max_batch(self.0.model.key, batching.max_batch);
        self.0.model.batching.store(Arc::new(batching));
    }

    /// Takes note of what an item took beside waiting, decoding and running.
    pub fn learn_rest(&self, rest: Duration) {
        self.0.model.learn_rest(rest);
    }

    /// How runs are filled, and what they cost.
    #[must_use]
    pub fn batching(&self) -> Arc<Batching> {
        self.0.model.batching.load_full()
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
