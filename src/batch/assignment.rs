//! What passes between the glue and a lane.

use std::{sync::Arc, time::Duration};

use super::{
    error::BatchError,
    event::ItemKey,
    interrupt::Interrupt,
    job::{BatchKey, Content},
    runtime::ModelRuntime,
};
use crate::types::NamedTensor;

/// Work for one lane.
#[derive(Debug)]
pub(super) enum Assignment {
    /// Turn compressed bytes into pixels.
    Decode { item: ItemKey, model: Arc<ModelRuntime>, bytes: bytes::Bytes, pixels: u64 },
    /// Run these together.
    Run {
        model: Arc<ModelRuntime>,
        key: Arc<BatchKey>,
        items: Vec<RunItem>,
        interrupt: Arc<Interrupt>,
    },
}

/// An item as a lane holds it.
#[derive(Debug)]
pub(super) struct RunItem {
    pub(super) item: ItemKey,
    pub(super) rows: usize,
    pub(super) content: Content,
}

/// What a run made of one item.
#[derive(Debug)]
pub(super) struct RunResult {
    pub(super) item: ItemKey,
    pub(super) outputs: Result<Vec<NamedTensor>, BatchError>,
    pub(super) infer: Duration,
    pub(super) batch_size: usize,
}
