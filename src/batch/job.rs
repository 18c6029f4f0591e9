//! One queued item: what it brings, what it wants back, and the promise to answer it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{error::BatchError, runtime::ModelRuntime};
use crate::{
    imaging::{Header, Pixels},
    types::{DType, Instant, NamedTensor},
};

/// What a caller hands in.
#[derive(Debug)]
pub struct Request {
    /// The picture or the tensors.
    pub input: Input,
    /// The outputs wanted back, by name, in that order.
    pub outputs: Arc<[Arc<str>]>,
    /// Between when and when it is wanted.
    pub bounds: Bounds,
}

/// When an answer should be ready, and when it is no longer wanted.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// When it should be ready: the model's target; the order of service.
    pub aim: Instant,
    /// When it is no longer wanted: the model's limit.
    pub expires: Instant,
    /// The caller's own deadline.
    pub client_deadline: Option<Instant>,
}

impl Bounds {
    /// Only a last moment, as of work that no caller waits for: whoever has a target comes first.
    #[must_use]
    pub fn until(last: Instant) -> Self {
        Self { aim: last, expires: last, client_deadline: None }
    }

    /// The earlier of the limit and the caller's own deadline.
    pub(super) fn earliest(&self) -> Instant {
        self.client_deadline.map_or(self.expires, |it| it.min(self.expires))
    }
}

/// What an item brings.
#[derive(Debug)]
pub enum Input {
    /// A picture, still compressed, checked by its header: one row.
    Image {
        /// The encoded bytes.
        bytes: Bytes,
        /// What its header says.
        header: Header,
    },
    /// Every input of the model, the same number of rows in each; at least one.
    Tensors(Vec<NamedTensor>),
}

/// What a caller gets.
#[derive(Debug)]
pub struct Answer {
    /// The item's own rows of the outputs asked for.
    pub outputs: Vec<NamedTensor>,
    /// Bytes to resized pixels.
    pub decode: Duration,
    /// Waiting, before and after decoding.
    pub queue: Duration,
    /// The run it was part of.
    pub infer: Duration,
    /// Rows in that run.
    pub batch_size: usize,
}

/// What two items must have in common to share a run: the outputs asked for, and name, type and
/// every dimension but the first of each input. Empty `inputs`: pictures, which all become alike.
#[derive(Debug, PartialEq, Eq)]
pub struct BatchKey {
    outputs: Arc<[Arc<str>]>,
    inputs: Vec<(Arc<str>, DType, Vec<usize>)>,
}

impl BatchKey {
    pub(super) fn of(input: &Input, outputs: &Arc<[Arc<str>]>) -> Arc<Self> {
        let inputs = match input {
            Input::Image { .. } => Vec::new(),
            Input::Tensors(tensors) => tensors
                .iter()
                .map(|it| {
                    let rest = it.tensor.shape().get(1..).unwrap_or_default().to_vec();
                    (Arc::clone(&it.name), it.tensor.dtype(), rest)
                })
                .collect(),
        };
        Arc::new(Self { outputs: Arc::clone(outputs), inputs })
    }

    /// A key without inputs, for tests of the scheduler.
    #[cfg(test)]
    pub(super) fn named(name: &str) -> Arc<Self> {
        Arc::new(Self { outputs: Arc::from([Arc::from(name)]), inputs: Vec::new() })
    }

    /// Equality that sees at a glance that a key equals itself.
    pub(super) fn same(a: &Arc<Self>, b: &Arc<Self>) -> bool {
        Arc::ptr_eq(a, b) || a == b
    }

    /// The outputs asked for.
    pub(super) fn outputs(&self) -> &Arc<[Arc<str>]> {
        &self.outputs
    }
}

/// What an item is at the moment.
#[derive(Debug)]
pub(super) enum Content {
    /// On a lane.
    Away,
    /// A picture of so many pixels, still compressed.
    Compressed { bytes: Bytes, pixels: u64 },
    /// A picture, decoded and resized; normalised while gathering.
    Pixels(Pixels),
    /// Tensors.
    Tensors(Vec<NamedTensor>),
}

/// An item in the scheduler's keeping. Dropping it tells the caller that the server is stopping:
/// nobody waits for ever.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) model: Arc<ModelRuntime>,
    pub(super) key: Arc<BatchKey>,
    pub(super) content: Content,
    pub(super) rows: usize,
    /// When it joined the queue.
    pub(super) arrived: Instant,
    /// When it began to wait; moved on when a lane gives it back decoded.
    pub(super) waits_since: Instant,
    pub(super) queue: Duration,
    pub(super) decode: Duration,
    /// `None` once answered.
    pub(super) reply: Option<oneshot::Sender<Result<Answer, BatchError>>>,
}

impl Job {
    /// Answers, unless that has been done; a caller that has gone is no concern of the lanes.
    pub(super) fn answer(&mut self, answer: Result<Answer, BatchError>) {
        if let Some(reply) = self.reply.take() {
            let _caller_may_be_gone = reply.send(answer);
        }
    }
}

impl Job {
    /// Hands the content to a lane; the wait up to now counts as queueing.
    pub(super) fn leave(&mut self, now: Instant) -> Content {
        self.queue += now.saturating_duration_since(self.waits_since);
        std::mem::replace(&mut self.content, Content::Away)
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.answer(Err(BatchError::Stopped));
    }
}
