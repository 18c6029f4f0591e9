//! An item in the scheduler's keeping, and its place in the order of service.

use std::cmp::Ordering;

use crate::{
    batch::event::{Arrival, ItemKey},
    types::Instant,
};

/// What can be done for an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Waiting to be decoded.
    Compressed,
    /// On a lane, being decoded.
    Decoding,
    /// Waiting for a run.
    Ready,
    /// On a lane, in a run.
    Running,
}

#[derive(Debug)]
pub(super) struct Item {
    pub(super) arrival: Arrival,
    pub(super) stage: Stage,
    /// Its caller has been told, or has gone; only the lane still has to give it back.
    pub(super) abandoned: bool,
}

impl Item {
    pub(super) fn new(arrival: Arrival) -> Self {
        let stage = if arrival.decode.is_some() { Stage::Compressed } else { Stage::Ready };
        Self { arrival, stage, abandoned: false }
    }

    pub(super) fn is_on_lane(&self) -> bool {
        matches!(self.stage, Stage::Decoding | Stage::Running)
    }
}

/// Place in the order of service: earliest aim first, then order of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) aim: Instant,
    pub(super) item: ItemKey,
}

impl Place {
    pub(super) fn of(arrival: &Arrival) -> Self {
        Self { aim: arrival.aim, item: arrival.item }
    }

    /// Behind everything that aims at the same moment or earlier.
    pub(super) fn last_at(aim: Instant) -> Self {
        Self { aim, item: ItemKey(u64::MAX) }
    }
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.aim, self.item).cmp(&(other.aim, other.item))
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
