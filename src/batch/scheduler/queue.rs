//! The queue of one version: what waits in it, in order, and what that will cost.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Service,
    admission::{Credit, Terms},
    item::Place,
};
use crate::batch::{
    event::{Class, ItemKey},
    site::{Cost, Load, Placement},
};

/// Items of one class, in order of service.
#[derive(Debug, Default)]
struct Line {
    /// By place, the load of all that had ever joined when the item did, itself included: the
    /// difference of two of these is the load of what lies between them, but for what has left from
    /// the middle.
    waiting: BTreeMap<Place, Joined>,
    ever_joined: Load,
    /// Of what waits now.
    load: Load,
}

#[derive(Debug, Clone, Copy)]
struct Joined {
    load: Load,
    up_to: Load,
}

impl Line {
    fn join(&mut self, place: Place, load: Load) {
        self.ever_joined += load;
        self.load += load;
        self.waiting.insert(place, Joined { load, up_to: self.ever_joined });
    }

    fn leave(&mut self, place: Place) -> bool {
        let left = self.waiting.remove(&place);
        self.load = self.load.saturating_sub(left.map(|it| it.load).unwrap_or_default());
        left.is_some()
    }

    /// Of what would be served before `place`, at most too much.
    fn load_before(&self, place: Place) -> Load {
        let first = self.waiting.first_key_value();
        let last_before = self.waiting.range(..place).next_back();
        let (Some((_, first)), Some((at, last))) = (first, last_before) else {
            return Load::default();
        };
        if self.waiting.last_key_value().is_some_and(|(it, _)| it == at) {
            return self.load;
        }
        (last.up_to.saturating_sub(first.up_to) + first.load).min(self.load)
    }
}

#[derive(Debug)]
pub(super) struct Queue {
    pub(super) terms: Terms,
    pub(super) placement: Placement,
    pub(super) credit: Credit,
    pub(super) max_batch: usize,
    pub(super) max_lanes: usize,
    /// Runs under way.
    pub(super) running: usize,
    normal: Line,
    low: Line,
    /// For accelerators, which do not decode: those of both lines that can be run as they are, the
    /// server's own behind the clients'. A core takes whatever comes first.
    ready: BTreeSet<(bool, Place)>,
}

impl Queue {
    /// `most`: lanes there are for it.
    pub(super) fn new(service: Service, most: usize) -> Self {
        let Service { placement, max_batch, max_lanes, terms } = service;
        let max_lanes = max_lanes.unwrap_or(most);
        Self {
            terms,
            placement,
            credit: Credit::default(),
            max_batch: max_batch.max(1),
            max_lanes: max_lanes.max(1),
            running: 0,
            normal: Line::default(),
            low: Line::default(),
            ready: BTreeSet::new(),
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

    /// `is_ready`: it can be run as it is.
    pub(super) fn join(&mut self, class: Class, place: Place, cost: Cost, is_ready: bool) {
        let load = self.placement.load(cost);
        self.line_mut(class).join(place, load);
        if is_ready && self.placement != Placement::Cores {
            self.ready.insert((class == Class::Low, place));
        }
    }

    /// Whatever is not waiting is left alone.
    pub(super) fn leave(&mut self, class: Class, place: Place) {
        self.line_mut(class).leave(place);
        self.ready.remove(&(class == Class::Low, place));
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

    /// Whether an accelerator finds anything to run.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether nothing waits that would be turned to before an item that comes now.
    pub(super) fn is_clear(&self, decodes: bool) -> bool {
        match self.placement {
            // An accelerator does not wait for what cores have still to decode.
            Placement::Devices(_) if !decodes => self.ready.is_empty(),
            Placement::Cores | Placement::Devices(_) => self.len() == 0,
        }
    }

    /// What an accelerator may run, in order of service.
    pub(super) fn ready(&self) -> impl Iterator<Item = ItemKey> {
        self.ready.iter().map(|(_, place)| place.item)
    }

    /// Of what would be served before an item of this class with this aim.
    pub(super) fn load_before(&self, class: Class, place: Place) -> Load {
        match class {
            Class::Normal => self.normal.load_before(place),
            Class::Low => self.normal.load + self.low.load_before(place),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::types::Instant;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_load_before_a_place_is_that_of_what_stands_before_it() {
        let start = Instant::now();
        let place = |at: u32| Place { aim: start + MS * at, item: ItemKey(u64::from(at)) };
        let cores = |ms: u32| Load { cores: MS * ms, ..Load::default() };
        let mut line = Line::default();
        for at in [10, 20, 30, 40] {
            line.join(place(at), cores(at));
        }
        for (at, expected) in [(5, 0), (10, 0), (11, 10), (21, 30), (40, 60), (99, 100)] {
            assert_eq!(line.load_before(place(at)), cores(expected), "before {at}");
        }
        assert!(line.leave(place(10)));
        assert!(!line.leave(place(10)));
        assert_eq!(line.load_before(place(35)), cores(50));
        assert_eq!(line.load_before(place(99)), cores(90));
    }
}
