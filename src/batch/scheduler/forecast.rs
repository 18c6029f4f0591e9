//! When an item that arrives now would be turned to.
//!
//! The prediction adds up the predicted time of what is ahead, which is what is under way, what waits
//! with an aim no later, and what has been promised to requests whose bodies are still coming; and
//! shares it among the lanes. What is decoded on cores and run elsewhere waits for the slower of both.

use std::{collections::BTreeMap, time::Duration};

use super::{Scheduler, item::Place, queue::Queue};
use crate::{
    batch::{
        event::{Class, ModelKey, ReservationKey},
        site::{Load, Placement},
    },
    types::Instant,
};

/// How long a request may take from its head to its last byte and still have its place kept.
pub(super) const KEPT: Duration = Duration::from_millis(100);

/// What is promised to requests of which only the head is there.
#[derive(Debug, Default)]
pub(super) struct Reservations {
    /// By when each ends.
    all: BTreeMap<(Instant, ReservationKey), (ModelKey, Load)>,
    total: Load,
    next: u64,
}

impl Reservations {
    pub(super) fn add(&mut self, model: ModelKey, load: Load, now: Instant) -> ReservationKey {
        let key = ReservationKey { until: now + KEPT, serial: self.next };
        self.next += 1;
        self.all.insert((key.until, key), (model, load));
        self.total += load;
        key
    }

    pub(super) fn end(&mut self, key: ReservationKey) {
        if let Some((_, load)) = self.all.remove(&(key.until, key)) {
            self.total = self.total.saturating_sub(load);
        }
    }

    /// Ends those whose time is up.
    pub(super) fn tick(&mut self, now: Instant) {
        while let Some(entry) = self.all.first_entry()
            && entry.key().0 <= now
        {
            let (_, load) = entry.remove();
            self.total = self.total.saturating_sub(load);
        }
    }

    /// Promised to some models: seldom asked, and there are few.
    fn of(&self, is_one: impl Fn(ModelKey) -> bool) -> Load {
        self.all.values().filter(|it| is_one(it.0)).map(|it| it.1).sum()
    }
}

impl Scheduler {
    /// Predicted time until a lane turns to an item of this model that arrives now: all work ahead of
    /// it shared by the lanes, and the model's own by those it may have. Zero where it would find an
    /// idle lane.
    #[must_use]
    pub fn predicted_wait(&self, model: ModelKey, now: Instant) -> Duration {
        let target = self.models.get(&model).map_or(Duration::ZERO, |it| it.terms.target);
        self.wait_of(model, (Class::Normal, now + target), true, now)
    }

    /// `decodes`: whether cores have anything to do for it, wherever it is run.
    pub(super) fn wait_of(
        &self,
        model: ModelKey,
        (class, aim): (Class, Instant),
        decodes: bool,
        now: Instant,
    ) -> Duration {
        let Some(queue) = self.models.get(&model) else { return Duration::ZERO };
        let (placement, place) = (&queue.placement, Place::last_at(aim));
        let mut wait = self.wait_at(placement, class, place, now);
        if *placement != Placement::Cores && decodes {
            wait = wait.max(self.wait_at(&Placement::Cores, class, place, now));
        }
        if queue.max_lanes >= self.lanes.n_working(placement) {
            return wait;
        }
        let own_runs = if queue.running < queue.max_lanes {
            Duration::ZERO
        } else {
            self.lanes.under_way_of(model, now)
        };
        let own = queue.load_before(class, place) + self.reservations.of(|it| it == model);
        wait.max((own_runs + placement.share(own)) / count(queue.max_lanes))
    }

    /// Predicted time until one of these lanes turns to what stands at `place`.
    fn wait_at(&self, placement: &Placement, class: Class, place: Place, now: Instant) -> Duration {
        let competes =
            |it: &Queue| *placement == Placement::Cores || it.placement.overlaps(placement);
        let waiting = || {
            let ahead = self.waiting_queues().filter(|(_, it)| competes(it));
            ahead.map(|(_, it)| it.load_before(class, place)).sum::<Load>()
        };
        let kept = match placement {
            Placement::Cores => self.reservations.total,
            Placement::Devices(_) => {
                self.reservations.of(|it| self.models.get(&it).is_some_and(competes))
            }
        };
        let ahead = match (self.lanes.under_way(placement, now), placement) {
            (Some(under_way), _) => under_way + placement.share(waiting()),
            // While a core is idle, what waits is what may not have it, and none of that is ahead;
            (None, Placement::Cores) => Duration::ZERO,
            // while an accelerator is, what waits is yet to be decoded, and comes before.
            (None, Placement::Devices(_)) => placement.share(waiting()),
        };
        (ahead + placement.share(kept)) / count(self.lanes.n_working(placement))
    }

    /// Whether an item of this model that is here now would be turned to at once.
    pub(super) fn is_free_for(&self, model: ModelKey, decodes: bool) -> bool {
        let is_free = |it: &Queue| {
            it.is_clear(decodes)
                && it.running < it.max_lanes
                && self.lanes.any_idle(&it.placement)
                && (!decodes || self.lanes.any_idle(&Placement::Cores))
        };
        self.models.get(&model).is_some_and(is_free)
    }
}

/// A number of lanes to divide by.
fn count(lanes: usize) -> u32 {
    u32::try_from(lanes.max(1)).unwrap_or(u32::MAX)
}
