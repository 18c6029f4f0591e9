//! What an idle lane does next.

use std::sync::Arc;

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
        site::Site,
    },
    metrics::Closed,
    types::Instant,
};

impl Scheduler {
    /// Gives work to idle lanes while there is any; first to `prefer`, the lane that asks, as it is
    /// awake and holds the pixels it just made in its cache.
    pub(super) fn dispatch(&mut self, prefer: Option<LaneKey>, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        for at in 0..self.lanes.n_sites() {
            while let Some(site) = self.lanes.site(at)
                && let Some(lane) = self.lanes.idle(site, prefer)
                && let Some(action) = self.next_for(site, lane, now)
            {
                actions.push(action);
            }
        }
        actions
    }

    /// The most urgent thing an idle lane can do, already marked as under way.
    fn next_for(&mut self, site: Site, lane: LaneKey, now: Instant) -> Option<Action> {
        // Mostly the first model has work that can be done, so the others are not sorted for it.
        let first = |it: &Self, without: &[ModelKey]| {
            let can_be_done =
                |it: &Queue| site == Site::Core || (it.placement.includes(site) && it.has_ready());
            let waiting = it
                .waiting_queues()
                .filter(|(key, queue)| can_be_done(queue) && !without.contains(key));
            let firsts = waiting.filter_map(|(key, queue)| Some((rank(queue)?, key)));
            firsts.min().map(|(_, key)| key)
        };
        let mut tried = Vec::new();
        while let Some(model) = first(self, &tried) {
            if let Some(action) = self.work_of(model, site, lane, now) {
                return Some(action);
            }
            tried.push(model);
        }
        None
    }

    /// What an idle lane can do for one model: decode the first compressed item of the next batch,
    /// or run that batch.
    fn work_of(
        &mut self,
        model: ModelKey,
        site: Site,
        lane: LaneKey,
        now: Instant,
    ) -> Option<Action> {
        let queue = self.models.get(&model)?;
        let lost_at = now + queue.terms.limit * 2;
        let runs_here = queue.placement.includes(site);
        let (batch, closed) = match site {
            Site::Device(_) => self.next_batch(queue.ready(), queue.max_batch),
            Site::Core if runs_here => self.next_batch(queue.items(), queue.max_batch),
            Site::Core => {
                let ahead = queue.max_batch * self.lanes.n(&queue.placement).min(queue.max_lanes);
                self.next_batch(queue.items(), ahead)
            }
        };
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
            // On a core its run too: it will most likely follow on the same lane.
            let cost = self.items.get(&item).map(|it| it.arrival.cost()).unwrap_or_default();
            let expected = queue.placement.load(cost).cores;
            self.lanes.occupy(lane, busy(expected, vec![item], None));
            self.take(&[item], Stage::Decoding);
            return Some(Action::Decode { lane, item });
        }
        if !runs_here || batch.is_empty() || queue.running >= queue.max_lanes {
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

    /// The first of these items that may share a run, in order: equal keys, at most so many rows. The
    /// first is in it whatever its size.
    fn next_batch(
        &self,
        items: impl Iterator<Item = ItemKey>,
        max_rows: usize,
    ) -> (Vec<ItemKey>, Closed) {
        let mut batch = Vec::new();
        let mut rows = 0;
        let mut key: Option<&Arc<BatchKey>> = None;
        for item in items {
            let Some(it) = self.items.get(&item) else { continue };
            let arrival = &it.arrival;
            match key {
                None => key = Some(&arrival.batch_key),
                // An item of another key is left for a run of its own; it keeps its place.
                Some(key) if !BatchKey::same(key, &arrival.batch_key) => continue,
                Some(_) if rows + arrival.rows > max_rows => return (batch, Closed::Fits),
                Some(_) => {}
            }
            rows += arrival.rows;
            batch.push(item);
            if rows >= max_rows {
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
