//! What the scheduler is told of an item, and what it asks for in return.

use std::{sync::Arc, time::Duration};

use super::{job::BatchKey, site::Cost};
use crate::{metrics::Closed, types::Instant};

/// Names an item for as long as the process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ItemKey(pub u64);

/// Names a registered version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelKey(pub u32);

/// Names a lane, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneKey(pub usize);

/// Names a place kept for a request whose body is still coming.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReservationKey {
    pub(super) until: Instant,
    pub(super) serial: u64,
}

/// Whose work an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Class {
    /// A client's.
    #[default]
    Normal,
    /// The server's own, as its self-checks: served when nothing of a client's waits. No client can
    /// ask for it.
    Low,
}

/// What the scheduler must know of an item to place it.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Its name.
    pub item: ItemKey,
    /// Whose queue it joins.
    pub model: ModelKey,
    /// Whose work it is.
    pub class: Class,
    /// Only items of equal keys share a run.
    pub batch_key: Arc<BatchKey>,
    /// Rows of axis 0; at least 1.
    pub rows: usize,
    /// Predicted time of decoding; `None` for what needs none.
    pub decode: Option<Duration>,
    /// Predicted time of its share of a run.
    pub run: Duration,
    /// When its answer should be ready; the order of service.
    pub aim: Instant,
    /// When its answer is no longer wanted.
    pub expires: Instant,
}

impl Arrival {
    /// What still lies ahead of it.
    pub(super) fn cost(&self) -> Cost {
        Cost { decode: self.decode.unwrap_or_default(), run: self.run }
    }
}

/// What the glue must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Let an idle lane decode an item.
    Decode {
        /// The lane.
        lane: LaneKey,
        /// The item.
        item: ItemKey,
    },
    /// Let an idle lane run items of one model and one key together.
    Run {
        /// The lane.
        lane: LaneKey,
        /// Their model.
        model: ModelKey,
        /// The items, in order of service.
        items: Vec<ItemKey>,
        /// Why there are no more.
        closed: Closed,
    },
    /// Ask a run to end at once: nobody waits for any of its items, and the time of the last is up.
    Terminate {
        /// The lane it is on.
        lane: LaneKey,
    },
    /// Give up a lane that has not come back for twice the limit, and replace it.
    Abandon {
        /// The lane.
        lane: LaneKey,
    },
    /// Tell the caller that its time is up. The item is gone, or will be when its lane is done.
    Expire {
        /// The item.
        item: ItemKey,
    },
}
