//! Who runs next: a pure state machine over all models' queues and the core tokens.
//!
//! Nothing here reads a clock, takes a lock or touches a thread: every call is handed the time and
//! answers with [`Action`]s, so the whole of it is tested by simulation. Its promises:
//!
//! - every item leaves exactly once: in a run, by [`Action::Expire`], or by the event that removed it;
//! - no lane is idle while an item waits that it could decode or run;
//! - earliest aim first; inside a model first come, first served;
//! - a lane decodes only for the next run of a model, so little more than the runs in hand is ever
//!   held decoded.
//!
//! A lane holds one core token. What can be done for an item depends on its [`State`]: a compressed
//! picture is decoded first, by any free lane; rows are gathered into a run when the first
//! `max_batch` of them are ready, or when nothing else is left to decode for them.
//!
//! `admission` says who is let in at all, by what `forecast` predicts.

mod admission;
mod forecast;
#[cfg(test)]
mod tests;

pub use admission::Terms;
pub use forecast::{Admission, Candidate};

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use self::{admission::Credit, forecast::Pace};
use super::{
    event::{Action, Arrival, ItemKey, LaneKey, ModelKey},
    job::BatchKey,
};
use crate::types::Instant;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
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
struct Item {
    arrival: Arrival,
    state: State,
    /// When it came, and how long it was then predicted to wait; `None` once a lane has turned to it.
    waits: Option<(Instant, Duration)>,
    /// Its caller has been told, or has gone; only the lane still has to give it back.
    abandoned: bool,
}

/// Place in a queue: aim first, then order of arrival.
type Place = (Instant, ItemKey);

#[derive(Debug)]
struct Queue {
    max_batch: usize,
    max_lanes: usize,
    running: usize,
    /// Items waiting to be decoded or run; those on a lane are not in here.
    waiting: BTreeSet<Place>,
    /// Predicted core time of those.
    cost: Duration,
    terms: Terms,
    credit: Credit,
}

#[derive(Debug, Clone, PartialEq)]
enum Lane {
    Idle,
    Busy { since: Instant, expected: Duration, items: Vec<ItemKey>, runs: Option<ModelKey> },
}

/// The state machine. One per process.
#[derive(Debug)]
pub struct Scheduler {
    lanes: Vec<Lane>,
    models: HashMap<ModelKey, Queue>,
    items: HashMap<ItemKey, Item>,
    expiries: BTreeSet<Place>,
    /// Predicted core time of everything in `waiting`.
    waiting_cost: Duration,
    pace: Pace,
}

impl Scheduler {
    /// A scheduler of `n_lanes` lanes, all idle, and no models.
    #[must_use]
    pub fn new(n_lanes: usize) -> Self {
        Self {
            lanes: vec![Lane::Idle; n_lanes],
            models: HashMap::new(),
            items: HashMap::new(),
            expiries: BTreeSet::new(),
            waiting_cost: Duration::ZERO,
            pace: Pace::default(),
        }
    }

    /// Opens the queue of a model: at most `max_batch` rows a run, at most `max_lanes` runs at once.
    pub fn add_model(&mut self, model: ModelKey, max_batch: usize, max_lanes: usize, terms: Terms) {
        let queue = Queue {
            terms,
            credit: Credit::default(),
            max_batch: max_batch.max(1),
            max_lanes: max_lanes.max(1),
            running: 0,
            waiting: BTreeSet::new(),
            cost: Duration::ZERO,
        };
        self.models.insert(model, queue);
    }

    /// Changes how many rows a run of a model may have.
    pub fn set_max_batch(&mut self, model: ModelKey, max_batch: usize) {
        if let Some(queue) = self.models.get_mut(&model) {
            queue.max_batch = max_batch.max(1);
        }
    }

    /// Closes the queue of a model; says which items were waiting in it. Runs under way end first.
    pub fn remove_model(&mut self, model: ModelKey) -> Vec<ItemKey> {
        let waiting = self.models.get(&model).map(|it| it.waiting.clone()).unwrap_or_default();
        let items: Vec<_> = waiting.into_iter().map(|(_, item)| item).collect();
        for item in &items {
            self.forget(*item);
        }
        self.models.remove(&model);
        items
    }

    /// An item joins its queue. An unknown model's item expires at once.
    pub fn arrive(&mut self, arrival: Arrival, now: Instant) -> Vec<Action> {
        let (item, place) = (arrival.item, (arrival.aim, arrival.item));
        let waits = Some((now, self.unscaled_wait(arrival.model, now)));
        let Some(queue) = self.models.get_mut(&arrival.model) else {
            return vec![Action::Expire { item }];
        };
        queue.waiting.insert(place);
        queue.cost += arrival.cost();
        self.waiting_cost += arrival.cost();
        self.expiries.insert((arrival.expires, item));
        let state = if arrival.decode.is_some() { State::Compressed } else { State::Ready };
        self.items.insert(item, Item { arrival, state, waits, abandoned: false });
        self.dispatch(None, now)
    }

    /// The caller of an item has gone: a waiting item is dropped, one on a lane is not answered.
    /// Says whether it was dropped.
    pub fn cancel(&mut self, item: ItemKey) -> bool {
        let Some(it) = self.items.get_mut(&item) else { return false };
        match it.state {
            State::Compressed | State::Ready => {
                self.forget(item);
                true
            }
            State::Decoding | State::Running => {
                it.abandoned = true;
                let expires = it.arrival.expires;
                self.expiries.remove(&(expires, item));
                false
            }
        }
    }

    /// A lane has decoded its item, well or badly. A badly decoded item is gone.
    pub fn decoded(&mut self, lane: LaneKey, ok: bool, now: Instant) -> Vec<Action> {
        for item in self.free(lane) {
            let keep = ok && self.items.get(&item).is_some_and(|it| !it.abandoned);
            if keep { self.requeue_ready(item) } else { self.forget(item) }
        }
        self.dispatch(Some(lane), now)
    }

    /// A lane's run has ended, well or badly: its items are gone.
    pub fn ran(&mut self, lane: LaneKey, now: Instant) -> Vec<Action> {
        for item in self.free(lane) {
            self.forget(item);
        }
        self.dispatch(Some(lane), now)
    }

    /// Whether a caller still waits for this item.
    #[must_use]
    pub fn is_wanted(&self, item: ItemKey) -> bool {
        self.items.get(&item).is_some_and(|it| !it.abandoned)
    }

    /// When [`Self::tick`] has to be called at the latest.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Instant> {
        self.expiries.first().map(|(at, _)| *at)
    }

    /// Expires every item whose time has come.
    pub fn tick(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some(&(at, item)) = self.expiries.first()
            && at <= now
        {
            self.expiries.remove(&(at, item));
            self.cancel(item);
            actions.push(Action::Expire { item });
        }
        actions
    }

    /// How many lanes are idle and busy.
    #[must_use]
    pub fn lanes(&self) -> (usize, usize) {
        let idle = self.lanes.iter().filter(|it| **it == Lane::Idle).count();
        (idle, self.lanes.len() - idle)
    }

    /// How many items of a model wait.
    #[must_use]
    pub fn waiting(&self, model: ModelKey) -> usize {
        self.models.get(&model).map_or(0, |it| it.waiting.len())
    }

    /// How many items there are, on lanes or waiting.
    #[must_use]
    pub fn n_items(&self) -> usize {
        self.items.len()
    }

    /// Gives work to idle lanes while there is any; first to `prefer`, the lane that asks, as it is
    /// awake and holds the pixels it just made in its cache.
    fn dispatch(&mut self, prefer: Option<LaneKey>, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        let idle = |lanes: &[Lane]| {
            let preferred = prefer.filter(|it| lanes.get(it.0) == Some(&Lane::Idle));
            preferred.or_else(|| lanes.iter().position(|it| *it == Lane::Idle).map(LaneKey))
        };
        while let Some(lane) = idle(&self.lanes)
            && let Some(action) = self.next_for(lane, now)
        {
            actions.push(action);
        }
        actions
    }

    /// The most urgent thing an idle lane can do, already marked as under way.
    fn next_for(&mut self, lane: LaneKey, now: Instant) -> Option<Action> {
        let mut by_urgency: Vec<(Place, ModelKey)> = self
            .models
            .iter()
            .filter_map(|(key, queue)| queue.waiting.first().map(|place| (*place, *key)))
            .collect();
        by_urgency.sort_unstable();
        by_urgency.into_iter().find_map(|(_, model)| self.work_of(model, lane, now))
    }

    /// What an idle lane can do for one model: decode the first compressed item of the next batch,
    /// or run that batch.
    fn work_of(&mut self, model: ModelKey, lane: LaneKey, now: Instant) -> Option<Action> {
        let queue = self.models.get(&model)?;
        let batch = self.next_batch(queue);
        let compressed = batch.iter().copied().find(|it| self.state(*it) == State::Compressed);
        if let Some(item) = compressed {
            self.take(&[item], State::Decoding, now);
            // Its run too: it will most likely follow on the same lane.
            let expected = self.items.get(&item).map_or(Duration::ZERO, |it| it.arrival.cost());
            self.occupy(lane, Lane::Busy { since: now, expected, items: vec![item], runs: None });
            return Some(Action::Decode { lane, item });
        }
        if batch.is_empty() || queue.running >= queue.max_lanes {
            return None;
        }
        let expected =
            batch.iter().filter_map(|it| self.items.get(it)).map(|it| it.arrival.run).sum();
        self.take(&batch, State::Running, now);
        if let Some(queue) = self.models.get_mut(&model) {
            queue.running += 1;
        }
        let items = batch.clone();
        self.occupy(lane, Lane::Busy { since: now, expected, items, runs: Some(model) });
        Some(Action::Run { lane, model, items: batch })
    }

    /// The first items of a queue that may share a run, in order: equal keys, at most `max_batch`
    /// rows. The first is in it whatever its size.
    fn next_batch(&self, queue: &Queue) -> Vec<ItemKey> {
        let mut batch = Vec::new();
        let mut rows = 0;
        let mut key: Option<&Arc<BatchKey>> = None;
        for (_, item) in &queue.waiting {
            let Some(it) = self.items.get(item) else { continue };
            let arrival = &it.arrival;
            match key {
                None => key = Some(&arrival.batch_key),
                // An item of another key is left for a run of its own; it keeps its place.
                Some(key) if !BatchKey::same(key, &arrival.batch_key) => continue,
                Some(_) if rows + arrival.rows > queue.max_batch => break,
                Some(_) => {}
            }
            rows += arrival.rows;
            batch.push(*item);
            if rows >= queue.max_batch {
                break;
            }
        }
        batch
    }

    fn state(&self, item: ItemKey) -> State {
        self.items.get(&item).map_or(State::Ready, |it| it.state)
    }

    /// Moves waiting items onto a lane.
    fn take(&mut self, items: &[ItemKey], state: State, now: Instant) {
        for item in items {
            self.unqueue(*item);
            if let Some(it) = self.items.get_mut(item) {
                it.state = state;
                if let Some((since, predicted)) = it.waits.take() {
                    self.pace.learn(predicted, now.saturating_duration_since(since));
                }
            }
        }
    }

    fn occupy(&mut self, lane: LaneKey, busy: Lane) {
        if let Some(it) = self.lanes.get_mut(lane.0) {
            *it = busy;
        }
    }

    /// Makes a lane idle; gives back what it held.
    fn free(&mut self, lane: LaneKey) -> Vec<ItemKey> {
        let Some(it) = self.lanes.get_mut(lane.0) else { return Vec::new() };
        let Lane::Busy { items, runs, .. } = std::mem::replace(it, Lane::Idle) else {
            return Vec::new();
        };
        if let Some(queue) = runs.and_then(|it| self.models.get_mut(&it)) {
            queue.running -= 1;
        }
        items
    }

    /// Puts a decoded item back at its place in the queue.
    fn requeue_ready(&mut self, item: ItemKey) {
        let Some(it) = self.items.get_mut(&item) else { return };
        it.state = State::Ready;
        it.arrival.decode = None;
        let (model, place, cost) = (it.arrival.model, (it.arrival.aim, item), it.arrival.cost());
        match self.models.get_mut(&model) {
            Some(queue) => {
                queue.waiting.insert(place);
                queue.cost += cost;
                self.waiting_cost += cost;
            }
            None => self.forget(item),
        }
    }

    fn unqueue(&mut self, item: ItemKey) {
        let Some(it) = self.items.get(&item) else { return };
        let (model, place, cost) = (it.arrival.model, (it.arrival.aim, item), it.arrival.cost());
        if let Some(queue) = self.models.get_mut(&model)
            && queue.waiting.remove(&place)
        {
            queue.cost = queue.cost.saturating_sub(cost);
            self.waiting_cost = self.waiting_cost.saturating_sub(cost);
        }
    }

    fn forget(&mut self, item: ItemKey) {
        self.unqueue(item);
        if let Some(it) = self.items.remove(&item) {
            self.expiries.remove(&(it.arrival.expires, item));
        }
    }
}
