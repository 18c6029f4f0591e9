//! When an item that arrives now would be turned to.
//!
//! The prediction adds up the predicted core time of what is ahead, which is what is under way, what
//! waits with an aim no later, and what has been promised to requests whose bodies are still coming;
//! and shares it among the lanes.

use std::{collections::BTreeMap, time::Duration};

use super::{Scheduler, item::Place, queue::Queue};
use crate::{
    batch::event::{Class, ModelKey, ReservationKey},
    types::Instant,
};

/// How long a request may take from its head to its last byte and still have its place kept.
pub(super) const KEPT: Duration = Duration::from_millis(100);

/// Core time promised to requests of which only the head is there.
#[derive(Debug, Default)]
pub(super) struct Reservations {
    /// By when each ends.
    all: BTreeMap<(Instant, ReservationKey), (ModelKey, Duration)>,
    total: Duration,
    next: u64,
}

impl Reservations {
    pub(super) fn add(&mut self, model: ModelKey, cost: Duration, now: Instant) -> ReservationKey {
        let key = ReservationKey { until: now + KEPT, serial: self.next };
        self.next += 1;
        self.all.insert((key.until, key), (model, cost));
        self.total += cost;
        key
    }

    pub(super) fn end(&mut self, key: ReservationKey) {
        if let Some((_, cost)) = self.all.remove(&(key.until, key)) {
            self.total = self.total.saturating_sub(cost);
        }
    }

    /// Ends those whose time is up.
    pub(super) fn tick(&mut self, now: Instant) {
        while let Some(entry) = self.all.first_entry()
            && entry.key().0 <= now
        {
            let (_, cost) = entry.remove();
            self.total = self.total.saturating_sub(cost);
        }
    }

    /// Promised to one model: seldom asked, and there are few.
    fn of(&self, model: ModelKey) -> Duration {
        self.all.values().filter(|it| it.0 == model).map(|it| it.1).sum()
    }
}

impl Scheduler {
    /// Predicted time until a lane turns to an item of this model that arrives now: all work ahead of
    /// it shared by the lanes, and the model's own by those it may have. Zero where it would find an
    /// idle lane.
    #[must_use]
    pub fn predicted_wait(&self, model: ModelKey, now: Instant) -> Duration {
        let target = self.models.get(&model).map_or(Duration::ZERO, |it| it.terms.target);
        self.wait_of(model, Class::Normal, now + target, now)
    }

    pub(super) fn wait_of(
        &self,
        model: ModelKey,
        class: Class,
        aim: Instant,
        now: Instant,
    ) -> Duration {
        let place = Place::last_at(aim);
        let waiting = || self.waiting_queues().map(|(_, it)| it.cost_before(class, place)).sum();
        // While a lane is idle, what waits is what may not have it, and none of that is ahead.
        let under_way = self.lanes.under_way(now);
        let waiting = under_way.map_or(Duration::ZERO, |it| it + waiting());
        let n_lanes = self.lanes.n_working();
        let shared = (waiting + self.reservations.total) / count(n_lanes);
        let Some(queue) = self.models.get(&model).filter(|it| it.max_lanes < n_lanes) else {
            return shared;
        };
        let own_runs = if queue.running < queue.max_lanes {
            Duration::ZERO
        } else {
            self.lanes.under_way_of(model, now)
        };
        let own = own_runs + queue.cost_before(class, place) + self.reservations.of(model);
        shared.max(own / count(queue.max_lanes))
    }

    /// Whether an item of this model that is here now would be turned to at once.
    pub(super) fn is_free_for(&self, model: ModelKey) -> bool {
        let has_lane = |it: &Queue| it.running < it.max_lanes && it.len() == 0;
        self.lanes.idle(None).is_some() && self.models.get(&model).is_some_and(has_lane)
    }
}

/// A number of lanes to divide by.
fn count(lanes: usize) -> u32 {
    u32::try_from(lanes.max(1)).unwrap_or(u32::MAX)
}
