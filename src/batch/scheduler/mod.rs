//! Who runs next: a pure state machine over all models' queues and the core tokens.
//!
//! Nothing here reads a clock, takes a lock or touches a thread: every call is handed the time and
//! answers with [`Action`]s, so the whole of it is tested by simulation. Its promises:
//!
//! - every item leaves exactly once: in a run, by [`Action::Expire`], or by the event that removed it;
//! - no lane is idle while an item waits that it could decode or run;
//! - clients' work before the server's own, then earliest aim first; inside a model first come, first
//!   served;
//! - a lane decodes only for the next run of a model (on accelerators: of each of their lanes), so
//!   little more than the runs in hand is ever held decoded;
//! - a run that nobody waits for any more is ended, and a lane that does not come back is given up.
//!
//! A lane holds one core token, but for those of accelerators, which run and never decode. What can be
//! done for an item depends on its [`item::Stage`]: a compressed picture is decoded first, by any free
//! core; rows are gathered into a run when the first `max_batch` of them are ready, or when nothing
//! else is left to decode for them. An accelerator takes what is ready, as it does not decode.

mod admission; // who is let in at all: the budget's rule, credit for bursts
mod dispatch; // what an idle lane does next
mod forecast; // when an item that arrives now would be turned to
mod item; // an item, its stage, its place in the order of service
mod lanes; // what each lane holds, and until when it is waited for
mod queue; // what waits for one version, and what that costs
mod shares; // fair shares for models that are asked for too much
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use admission::{Candidate, Rejection, Terms};

use std::collections::{BTreeSet, HashMap};

use self::{
    forecast::Reservations,
    item::{Item, Place, Stage},
    lanes::{Busy, Lanes},
    queue::Queue,
    shares::Shares,
};
use super::{
    event::{Action, Arrival, ItemKey, LaneKey, ModelKey},
    site::{Placement, Site},
};
use crate::types::Instant;

/// How the items of a model are served.
#[derive(Debug, Clone)]
pub struct Service {
    /// Where runs may happen.
    pub placement: Placement,
    /// Rows a run may have.
    pub max_batch: usize,
    /// Runs at once; `None`: as many as there are lanes for it.
    pub max_lanes: Option<usize>,
    /// What its items are held to.
    pub terms: Terms,
}

/// The state machine. One per process.
#[derive(Debug, Default)]
pub struct Scheduler {
    lanes: Lanes,
    models: HashMap<ModelKey, Queue>,
    /// Those of the models in which something waits: of many models few are asked at a time.
    waiting: BTreeSet<ModelKey>,
    items: HashMap<ItemKey, Item>,
    expiries: BTreeSet<(Instant, ItemKey)>,
    reservations: Reservations,
    shares: Shares,
}

impl Scheduler {
    /// A scheduler of so many lanes on cores, all idle, and no models.
    #[must_use]
    pub fn new(n_cores: usize) -> Self {
        let mut scheduler = Self::default();
        (0..n_cores).for_each(|_| scheduler.add_lane(Site::Core));
        scheduler
    }

    /// Adds an idle lane behind those there are.
    pub fn add_lane(&mut self, site: Site) {
        self.lanes.add(site);
    }

    /// Opens the queue of a model.
    pub fn add_model(&mut self, model: ModelKey, service: Service) {
        let most = self.lanes.n(&service.placement);
        self.models.insert(model, Queue::new(service, most));
    }

    /// Changes how many rows a run of a model may have.
    pub fn set_max_batch(&mut self, model: ModelKey, max_batch: usize) {
        if let Some(queue) = self.models.get_mut(&model) {
            queue.max_batch = max_batch.max(1);
        }
    }

    /// Closes the queue of a model; says which items were waiting in it. Runs under way end first.
    pub fn remove_model(&mut self, model: ModelKey) -> Vec<ItemKey> {
        let waiting: Vec<_> = self.models.get(&model).into_iter().flat_map(Queue::items).collect();
        for item in &waiting {
            self.forget(*item);
        }
        self.models.remove(&model);
        self.waiting.remove(&model);
        self.shares.remove(model);
        waiting
    }

    /// An item joins its queue. An unknown model's item expires at once.
    pub fn arrive(&mut self, arrival: Arrival, now: Instant) -> Vec<Action> {
        let item = arrival.item;
        if !enqueue(&mut self.models, &mut self.waiting, &arrival) {
            return vec![Action::Expire { item }];
        }
        self.expiries.insert((arrival.expires, item));
        self.items.insert(item, Item::new(arrival));
        self.dispatch(None, now)
    }

    /// The caller of an item has gone: a waiting item is dropped, one on a lane is not answered.
    pub fn cancel(&mut self, item: ItemKey, now: Instant) -> Vec<Action> {
        self.give_up(item);
        self.dispatch(None, now)
    }

    /// A lane has decoded its item, well or badly. A badly decoded item is gone.
    pub fn decoded(&mut self, lane: LaneKey, ok: bool, now: Instant) -> Vec<Action> {
        for item in self.lanes.free(lane).map(|it| it.items).unwrap_or_default() {
            let keep = ok && self.is_wanted(item);
            if keep { self.requeue_ready(item) } else { self.forget(item) }
        }
        self.dispatch(Some(lane), now)
    }

    /// A lane's run has ended, well or badly: its items are gone.
    pub fn ran(&mut self, lane: LaneKey, now: Instant) -> Vec<Action> {
        let busy = self.lanes.free(lane);
        self.end_run(busy);
        self.dispatch(Some(lane), now)
    }

    /// A lane that was given up has been replaced.
    pub fn replaced(&mut self, lane: LaneKey, now: Instant) -> Vec<Action> {
        self.lanes.replace(lane);
        self.dispatch(None, now)
    }

    /// Whether a caller still waits for this item.
    #[must_use]
    pub fn is_wanted(&self, item: ItemKey) -> bool {
        self.items.get(&item).is_some_and(|it| !it.abandoned)
    }

    /// When [`Self::tick`] has to be called at the latest.
    #[must_use]
    pub fn next_tick(&self) -> Option<Instant> {
        let expiry = self.expiries.first().map(|(at, _)| *at);
        [expiry, self.lanes.next_overdue()].into_iter().flatten().min()
    }

    /// Expires every item whose time has come, ends runs that nobody waits for, gives up lanes that
    /// have not come back.
    pub fn tick(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some(&(at, item)) = self.expiries.first()
            && at <= now
        {
            self.give_up(item);
            actions.push(Action::Expire { item });
            actions.extend(self.end_unwanted_run_of(item));
        }
        let overdue = self.lanes.overdue(now);
        for &lane in &overdue {
            let busy = self.lanes.lose(lane);
            let items = busy.iter().flat_map(|it| &it.items).copied();
            let wanted = items.filter(|it| self.is_wanted(*it));
            actions.extend(wanted.map(|item| Action::Expire { item }));
            actions.push(Action::Abandon { lane });
            self.end_run(busy);
        }
        if !actions.is_empty() {
            // Models of lost lanes may run on others again; who has gone no longer stands before others.
            actions.extend(self.dispatch(None, now));
        }
        actions
    }

    /// Whether every site has a lane that is not given up.
    #[must_use]
    pub fn every_site_works(&self) -> bool {
        self.lanes.every_site_works()
    }

    /// How many lanes are idle, busy and given up.
    #[must_use]
    pub fn lanes(&self) -> [usize; 3] {
        self.lanes.counts()
    }

    /// The lanes given up and not replaced yet.
    #[must_use]
    pub fn lost(&self) -> Vec<LaneKey> {
        self.lanes.lost()
    }

    /// How many items of a model wait.
    #[must_use]
    pub fn waiting(&self, model: ModelKey) -> usize {
        self.models.get(&model).map_or(0, Queue::len)
    }

    /// How many items there are, on lanes or waiting.
    #[must_use]
    pub fn n_items(&self) -> usize {
        self.items.len()
    }

    /// Nobody waits for it any more.
    fn give_up(&mut self, item: ItemKey) {
        let Some(it) = self.items.get_mut(&item) else { return };
        if it.is_on_lane() {
            it.abandoned = true;
            let expires = it.arrival.expires;
            self.expiries.remove(&(expires, item));
        } else {
            self.forget(item);
        }
    }

    /// An item of a run has expired: was it the last that anybody waited for?
    fn end_unwanted_run_of(&mut self, item: ItemKey) -> Option<Action> {
        let (lane, busy) = self.lanes.running(item)?;
        let items = &self.items;
        let wanted = |it: &ItemKey| items.get(it).is_some_and(|it| !it.abandoned);
        if busy.terminated || busy.items.iter().any(wanted) {
            return None;
        }
        busy.terminated = true;
        Some(Action::Terminate { lane })
    }

    fn end_run(&mut self, busy: Option<Busy>) {
        let Some(busy) = busy else { return };
        if let Some(queue) = busy.runs.and_then(|it| self.models.get_mut(&it)) {
            queue.running -= 1;
        }
        for item in busy.items {
            self.forget(item);
        }
    }

    /// Puts a decoded item back at its place in the queue.
    fn requeue_ready(&mut self, item: ItemKey) {
        let Some(it) = self.items.get_mut(&item) else { return };
        it.stage = Stage::Ready;
        it.arrival.decode = None;
        if !enqueue(&mut self.models, &mut self.waiting, &it.arrival) {
            self.forget(item);
        }
    }

    /// The queues in which something waits.
    fn waiting_queues(&self) -> impl Iterator<Item = (ModelKey, &Queue)> {
        self.waiting.iter().filter_map(|key| Some((*key, self.models.get(key)?)))
    }

    fn unqueue(&mut self, item: ItemKey) {
        let Some(it) = self.items.get(&item) else { return };
        if let Some(queue) = self.models.get_mut(&it.arrival.model) {
            queue.leave(it.arrival.class, Place::of(&it.arrival));
            if queue.len() == 0 {
                self.waiting.remove(&it.arrival.model);
            }
        }
    }

    fn forget(&mut self, item: ItemKey) {
        self.unqueue(item);
        if let Some(it) = self.items.remove(&item) {
            self.expiries.remove(&(it.arrival.expires, item));
        }
    }
}

/// Whether there is such a model.
fn enqueue(
    models: &mut HashMap<ModelKey, Queue>,
    waiting: &mut BTreeSet<ModelKey>,
    it: &Arrival,
) -> bool {
    let Some(queue) = models.get_mut(&it.model) else { return false };
    queue.join(it.class, Place::of(it), it.cost(), it.decode.is_none());
    waiting.insert(it.model);
    true
}
