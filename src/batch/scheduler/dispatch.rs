//! What an idle lane does next.

use std::{sync::Arc, time::Duration};

use super::{
    Scheduler,
    item::{Place, Stage},
    lanes::Busy,
    queue::Queue,
};
use crate::{
    batch::{
        event::{Action, Class, ItemKey, LaneKey, ModelKey},
        job::BatchKey,
    },
    metrics::Closed,
    types::Instant,
};

impl Scheduler {
    /// Gives work to idle lanes while there is any; first to `prefer`, the lane that asks, as it is
    /// awake and holds the pixels it just made in its cache.
    pub(super) fn dispatch(&mut self, prefer: Option<LaneKey>, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some(lane) = self.lanes.idle(prefer)
            && let Some(action) = self.next_for(lane, now)
        {
            actions.push(action);
        }
        actions
    }

    /// The most urgent thing an idle lane can do, already marked as under way.
    fn next_for(&mut self, lane: LaneKey, now: Instant) -> Option<Action> {
        // Mostly the first model has work that can be done, so the others are not sorted for it.
        let first = |it: &Self, without: &[ModelKey]| {
            let waiting = it.waiting_queues().filter(|(key, _)| !without.contains(key));
            let firsts = waiting.filter_map(|(key, queue)| Some((rank(queue)?, key)));
            firsts.min().map(|(_, key)| key)
        };
        let mut tried = Vec::new();
        while let Some(model) = first(self, &tried) {
            if let Some(action) = self.work_of(model, lane, now) {
                return Some(action);
            }
            tried.push(model);
        }
        None
    }

    /// What an idle lane can do for one model: decode the first compressed item of the next batch,
    /// or run that batch.
    fn work_of(&mut self, model: ModelKey, lane: LaneKey, now: Instant) -> Option<Action> {
        let queue = self.models.get(&model)?;
        let lost_at = now + queue.terms.limit * 2;
        let (batch, closed) = self.next_batch(queue);
        let stage = |it: &ItemKey| self.items.get(it).map(|it| it.stage);
        let compressed = batch.iter().copied().find(|it| stage(it) == Some(Stage::Compressed));
        let busy = |expected, items, runs| Busy {
            since: now,
            expected,
            items,
            runs,
            terminated: false,
            lost_at,
        };
        if let Some(item) = compressed {
            // Its run too: it will most likely follow on the same lane.
            let expected = self.items.get(&item).map_or(Duration::ZERO, |it| it.arrival.cost());
            self.lanes.occupy(lane, busy(expected, vec![item], None));
            self.take(&[item], Stage::Decoding);
            return Some(Action::Decode { lane, item });
        }
        if batch.is_empty() || queue.running >= queue.max_lanes {
            return None;
        }
        let runs = batch.iter().filter_map(|it| self.items.get(it)).map(|it| it.arrival.run);
        self.lanes.occupy(lane, busy(runs.sum(), batch.clone(), Some(model)));
        self.take(&batch, Stage::Running);
        if let Some(queue) = self.models.get_mut(&model) {
            queue.running += 1;
        }
        Some(Action::Run { lane, model, items: batch, closed })
    }

    /// The first items of a queue that may share a run, in order: equal keys, at most `max_batch`
    /// rows. The first is in it whatever its size.
    fn next_batch(&self, queue: &Queue) -> (Vec<ItemKey>, Closed) {
        let mut batch = Vec::new();
        let mut rows = 0;
        let mut key: Option<&Arc<BatchKey>> = None;
        for item in queue.items() {
            let Some(it) = self.items.get(&item) else { continue };
            let arrival = &it.arrival;
            match key {
                None => key = Some(&arrival.batch_key),
                // An item of another key is left for a run of its own; it keeps its place.
                Some(key) if !BatchKey::same(key, &arrival.batch_key) => continue,
                Some(_) if rows + arrival.rows > queue.max_batch => return (batch, Closed::Fits),
                Some(_) => {}
            }
            rows += arrival.rows;
            batch.push(item);
            if rows >= queue.max_batch {
                return (batch, Closed::Full);
            }
        }
        (batch, Closed::Drained)
    }

    /// Moves waiting items onto a lane.
    fn take(&mut self, items: &[ItemKey], stage: Stage) {
        for item in items {
            self.unqueue(*item);
            if let Some(it) = self.items.get_mut(item) {
                it.stage = stage;
            }
        }
    }
}

/// How urgent the first of a queue is; less is more urgent.
fn rank(queue: &Queue) -> Option<(bool, Place)> {
    queue.first().map(|(class, place)| (class == Class::Low, place))
}
