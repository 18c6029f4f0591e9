//! What came of a request, item by item.

use std::{sync::Arc, time::Duration};

use super::error::ItemError;
use crate::{
    repository::ServingModel,
    types::{ItemId, NamedTensor, Probabilities, Verdict},
};

/// The answer to one request that was looked at.
#[derive(Debug)]
pub struct Outcome {
    /// The version that answered; one for the whole request.
    pub model: Arc<ServingModel>,
    /// One entry per item, in the order of the request. `inspect` has exactly one.
    pub items: Vec<ItemOutcome>,
    /// From the last byte of the body to now.
    pub total: Duration,
    /// From the head of the request to the last byte of its body.
    pub read: Duration,
}

impl Outcome {
    /// Whether at least one item was judged; if not, the whole request is an error.
    #[must_use]
    pub fn any_judged(&self) -> bool {
        self.items.iter().any(|it| it.result.is_ok())
    }
}

/// What came of one item.
#[derive(Debug)]
pub struct ItemOutcome {
    /// The client's id, or a unique one.
    pub item_id: ItemId,
    /// Echo of the client's acquisition id.
    pub acquisition_id: Option<ItemId>,
    /// Echo of the view's name.
    pub view: Option<String>,
    /// Echo of a file name that is no valid id.
    pub file: Option<String>,
    /// What the model said, or why it could not be asked.
    pub result: Result<Judged, ItemError>,
    /// The pictures of an item of several views, each as if it stood alone; empty for `predict`.
    pub views: Vec<ItemOutcome>,
    /// Where the time went.
    pub timing: ItemTiming,
}

/// What the model said about one item.
#[derive(Debug, Default)]
pub struct Judged {
    /// One score per label; `None` for `task = "tensors"` and for an item of several views.
    pub scores: Option<Probabilities>,
    /// `None` for a version without verdicts.
    pub verdict: Option<Verdict>,
    /// Raw outputs, as asked for; one row each.
    pub outputs: Vec<NamedTensor>,
}

/// Where an item's time went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ItemTiming {
    /// Bytes to resized pixels.
    pub decode: Duration,
    /// Waiting for a lane, before and after decoding.
    pub queue: Duration,
    /// Rows in the run it was part of; 0 if there was none.
    pub batch_size: usize,
    /// The run.
    pub infer: Duration,
}
