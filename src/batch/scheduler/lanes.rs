//! The lanes as the scheduler sees them: what each holds, since when, and until when it is waited for.

use std::{cmp::Reverse, time::Duration};

use crate::{
    batch::{
        event::{ItemKey, LaneKey, ModelKey},
        site::{Placement, Site},
    },
    types::Instant,
};

#[derive(Debug, Clone, PartialEq)]
enum Lane {
    Idle,
    Busy(Busy),
    /// Given up, and not replaced yet.
    Lost,
}

/// What a lane is at.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Busy {
    pub(super) since: Instant,
    /// Predicted time.
    pub(super) expected: Duration,
    pub(super) items: Vec<ItemKey>,
    /// The model, if it is a run.
    pub(super) runs: Option<ModelKey>,
    /// Its run has been asked to end.
    pub(super) terminated: bool,
    /// From when on it is given up.
    pub(super) lost_at: Instant,
}

impl Busy {
    fn remaining(&self, now: Instant) -> Duration {
        self.expected.saturating_sub(now.saturating_duration_since(self.since))
    }
}

/// All lanes, by [`LaneKey`].
#[derive(Debug, Default)]
pub(super) struct Lanes {
    all: Vec<(Site, Lane)>,
    /// Where there are any: accelerators, then the cores. What an accelerator takes makes room for
    /// cores to decode more.
    sites: Vec<Site>,
}

impl Lanes {
    /// Adds an idle lane.
    pub(super) fn add(&mut self, site: Site) {
        self.all.push((site, Lane::Idle));
        if !self.sites.contains(&site) {
            self.sites.push(site);
            self.sites.sort_unstable_by_key(|it| Reverse(*it));
        }
    }

    pub(super) fn n_sites(&self) -> usize {
        self.sites.len()
    }

    /// In the order in which they are to be given work, from 0.
    pub(super) fn site(&self, at: usize) -> Option<Site> {
        self.sites.get(at).copied()
    }

    fn of<'a>(&'a self, placement: &'a Placement) -> impl Iterator<Item = &'a Lane> {
        self.all.iter().filter(|it| placement.includes(it.0)).map(|it| &it.1)
    }

    /// How many there are, given up or not.
    pub(super) fn n(&self, placement: &Placement) -> usize {
        self.of(placement).count()
    }

    /// How many there are, but for those given up; at least 1, as it divides.
    pub(super) fn n_working(&self, placement: &Placement) -> usize {
        self.of(placement).filter(|it| **it != Lane::Lost).count().max(1)
    }

    /// Whether there is a lane at every site that is not given up.
    pub(super) fn every_site_works(&self) -> bool {
        let works = |site: &Site| self.all.iter().any(|it| it.0 == *site && it.1 != Lane::Lost);
        self.sites.iter().all(works)
    }

    /// How many are idle, busy and given up.
    pub(super) fn counts(&self) -> [usize; 3] {
        self.all.iter().fold([0; 3], |mut counts, (_, lane)| {
            counts[match lane {
                Lane::Idle => 0,
                Lane::Busy(_) => 1,
                Lane::Lost => 2,
            }] += 1;
            counts
        })
    }

    /// An idle lane of a site: `preferred`, if it is one.
    pub(super) fn idle(&self, site: Site, preferred: Option<LaneKey>) -> Option<LaneKey> {
        let is_idle = |it: &(Site, Lane)| *it == (site, Lane::Idle);
        preferred
            .filter(|it| self.all.get(it.0).is_some_and(is_idle))
            .or_else(|| self.all.iter().position(is_idle).map(LaneKey))
    }

    /// Whether a lane there is idle.
    pub(super) fn any_idle(&self, placement: &Placement) -> bool {
        self.of(placement).any(|it| *it == Lane::Idle)
    }

    pub(super) fn occupy(&mut self, lane: LaneKey, busy: Busy) {
        if let Some((_, it)) = self.all.get_mut(lane.0) {
            *it = Lane::Busy(busy);
        }
    }

    /// The lane whose run holds this item.
    pub(super) fn running(&mut self, item: ItemKey) -> Option<(LaneKey, &mut Busy)> {
        self.all.iter_mut().enumerate().find_map(|(at, (_, lane))| match lane {
            Lane::Busy(busy) if busy.runs.is_some() && busy.items.contains(&item) => {
                Some((LaneKey(at), busy))
            }
            Lane::Idle | Lane::Busy(_) | Lane::Lost => None,
        })
    }

    /// Makes a busy lane idle; says what it was at.
    pub(super) fn free(&mut self, lane: LaneKey) -> Option<Busy> {
        self.leave(lane, Lane::Idle)
    }

    /// Gives a busy lane up; says what it was at.
    pub(super) fn lose(&mut self, lane: LaneKey) -> Option<Busy> {
        self.leave(lane, Lane::Lost)
    }

    fn leave(&mut self, lane: LaneKey, then: Lane) -> Option<Busy> {
        let (_, it) = self.all.get_mut(lane.0)?;
        match std::mem::replace(it, then) {
            Lane::Busy(busy) => Some(busy),
            other @ (Lane::Idle | Lane::Lost) => {
                *it = other;
                None
            }
        }
    }

    /// The lanes given up.
    pub(super) fn lost(&self) -> Vec<LaneKey> {
        let lost = |(at, it): (usize, &(Site, Lane))| (it.1 == Lane::Lost).then_some(LaneKey(at));
        self.all.iter().enumerate().filter_map(lost).collect()
    }

    /// Makes a lane that was given up idle again.
    pub(super) fn replace(&mut self, lane: LaneKey) {
        if let Some((_, it)) = self.all.get_mut(lane.0)
            && *it == Lane::Lost
        {
            *it = Lane::Idle;
        }
    }

    /// The lanes that have not come back in time.
    pub(super) fn overdue(&self, now: Instant) -> Vec<LaneKey> {
        let overdue = |(at, (_, lane)): (usize, &(Site, Lane))| match lane {
            Lane::Busy(busy) if busy.lost_at <= now => Some(LaneKey(at)),
            Lane::Idle | Lane::Busy(_) | Lane::Lost => None,
        };
        self.all.iter().enumerate().filter_map(overdue).collect()
    }

    pub(super) fn next_overdue(&self) -> Option<Instant> {
        self.all_busy().map(|it| it.lost_at).min()
    }

    /// Predicted time until what is under way there has ended, of all lanes together; `None` while
    /// one is idle.
    pub(super) fn under_way(&self, placement: &Placement, now: Instant) -> Option<Duration> {
        let remaining = |lane: &Lane| match lane {
            Lane::Idle => None,
            Lane::Busy(busy) => Some(busy.remaining(now)),
            Lane::Lost => Some(Duration::ZERO),
        };
        self.of(placement).map(remaining).sum()
    }

    /// Predicted time until the runs of one model have ended.
    pub(super) fn under_way_of(&self, model: ModelKey, now: Instant) -> Duration {
        let own = self.all_busy().filter(|it| it.runs == Some(model));
        own.map(|it| it.remaining(now)).sum()
    }

    fn all_busy(&self) -> impl Iterator<Item = &Busy> {
        self.all.iter().filter_map(|(_, lane)| match lane {
            Lane::Busy(busy) => Some(busy),
            Lane::Idle | Lane::Lost => None,
        })
    }
}
