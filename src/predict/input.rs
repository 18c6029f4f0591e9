//! What an edge hands in: first what the head of a request tells, then the items themselves.

use std::time::Duration;

use bytes::Bytes;

use crate::types::{Instant, ItemId, ModelRef};

/// What is known before the body is read; enough to refuse.
#[derive(Debug, Clone)]
pub struct Announced {
    /// Which model the request is for.
    pub model: ModelRef,
    /// When the head of the request was complete. A client's own deadline counts from here.
    pub arrived: Instant,
    /// Length of the body, where it was declared.
    pub body_bytes: Option<u64>,
    /// The client's own deadline, counted from `arrived`.
    pub timeout: Option<Duration>,
    /// Whether its client was told to come later.
    pub is_early: bool,
}

/// One picture, still compressed.
#[derive(Debug, Clone, Default)]
pub struct Image {
    /// The client's name for the item; without one it gets a unique id.
    pub item_id: Option<ItemId>,
    /// The client's name for the act of taking the picture; echoed and recorded.
    pub acquisition_id: Option<ItemId>,
    /// Which declared view of an item this is; `inspect` only.
    pub view: Option<String>,
    /// A multipart file name that is no valid id; echoed.
    pub file: Option<String>,
    /// The encoded image.
    pub bytes: Bytes,
}

/// The items of one request.
#[derive(Debug, Clone)]
pub struct Input {
    /// The pictures, in the order of the request; not empty.
    pub images: Vec<Image>,
    /// When the last byte of the body was received: the start of the budget.
    pub complete: Instant,
    /// Raw outputs to answer with, by name.
    pub outputs: Vec<String>,
}
