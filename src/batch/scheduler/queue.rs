//! The queue of one version: what waits in it, in order, and what that will cost.

use std::{collections::BTreeMap, time::Duration};

use super::{
    admission::{Credit, Terms},
    item::Place,
};
use crate::batch::event::{Class, ItemKey};

/// Items of one class, in order of service.
#[derive(Debug, Default)]
struct Line {
    /// By place, the cost of all that had ever joined when the item did, itself included: the
    /// difference of two of these is the cost of what lies between them, but for what has left from
    /// the middle.
    waiting: BTreeMap<Place, Joined>,
    ever_joined: Duration,
    /// Predicted core time of what waits now.
    cost: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Joined {
    cost: Duration,
    up_to: Duration,
}

impl Line {
    fn join(&mut self, place: Place, cost: Duration) {
        self.ever_joined += cost;
        self.cost += cost;
        self.waiting.insert(place, Joined { cost, up_to: self.ever_joined });
    }

    fn leave(&mut self, place: Place) -> bool {
        let left = self.waiting.remove(&place);
        self.cost = self.cost.saturating_sub(left.map_or(Duration::ZERO, |it| it.cost));
        left.is_some()
    }

    /// Predicted core time of what would be served before `place`, at most too much.
    fn cost_before(&self, place: Place) -> Duration {
        let first = self.waiting.first_key_value();
        let last_before = self.waiting.range(..place).next_back();
        let (Some((_, first)), Some((at, last))) = (first, last_before) else {
            return Duration::ZERO;
        };
        if self.waiting.last_key_value().is_some_and(|(it, _)| it == at) {
            return self.cost;
        }
        (last.up_to.saturating_sub(first.up_to) + first.cost).min(self.cost)
    }
}

#[derive(Debug)]
pub(super) struct Queue {
    pub(super) terms: Terms,
    pub(super) credit: Credit,
    pub(super) max_batch: usize,
    pub(super) max_lanes: usize,
    /// Runs under way.
    pub(super) running: usize,
    normal: Line,
    low: Line,
}

impl Queue {
    pub(super) fn new(max_batch: usize, max_lanes: usize, terms: Terms) -> Self {
        Self {
            terms,
            credit: Credit::default(),
            max_batch: max_batch.max(1),
            max_lanes: max_lanes.max(1),
            running: 0,
            normal: Line::default(),
            low: Line::default(),
        }
    }

    fn line(&self, class: Class) -> &Line {
        match class {
            Class::Normal => &self.normal,
            Class::Low => &self.low,
        }
    }

    fn line_mut(&mut self, class: Class) -> &mut Line {
        match class {
            Class::Normal => &mut self.normal,
            Class::Low => &mut self.low,
        }
    }

    pub(super) fn join(&mut self, class: Class, place: Place, cost: Duration) {
        self.line_mut(class).join(place, cost);
    }

    /// Whatever is not waiting is left alone.
    pub(super) fn leave(&mut self, class: Class, place: Place) {
        self.line_mut(class).leave(place);
    }

    /// The first that waits.
    pub(super) fn first(&self) -> Option<(Class, Place)> {
        [Class::Normal, Class::Low]
            .into_iter()
            .find_map(|class| Some((class, *self.line(class).waiting.first_key_value()?.0)))
    }

    /// All that wait, in order of service.
    pub(super) fn items(&self) -> impl Iterator<Item = ItemKey> {
        self.normal.waiting.keys().chain(self.low.waiting.keys()).map(|it| it.item)
    }

    pub(super) fn len(&self) -> usize {
        self.normal.waiting.len() + self.low.waiting.len()
    }

    /// Predicted core time of what would be served before an item of this class with this aim.
    pub(super) fn cost_before(&self, class: Class, place: Place) -> Duration {
        match class {
            Class::Normal => self.normal.cost_before(place),
            Class::Low => self.normal.cost + self.low.cost_before(place),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Instant;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_cost_before_a_place_is_that_of_what_stands_before_it() {
        let start = Instant::now();
        let place = |at: u32| Place { aim: start + MS * at, item: ItemKey(u64::from(at)) };
        let mut line = Line::default();
        for at in [10, 20, 30, 40] {
            line.join(place(at), MS * at);
        }
        for (at, expected) in [(5, 0), (10, 0), (11, 10), (21, 30), (40, 60), (99, 100)] {
            assert_eq!(line.cost_before(place(at)), MS * expected, "before {at}");
        }
        assert!(line.leave(place(10)));
        assert!(!line.leave(place(10)));
        assert_eq!(line.cost_before(place(35)), MS * 50);
        assert_eq!(line.cost_before(place(99)), MS * 90);
    }
}
