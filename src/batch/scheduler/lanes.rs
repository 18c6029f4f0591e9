//! The lanes as the scheduler sees them: what each holds, since when, and until when it is waited for.

use std::time::Duration;

use crate::{
    batch::event::{ItemKey, LaneKey, ModelKey},
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
    /// Predicted core time.
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

#[derive(Debug)]
pub(super) struct Lanes(Vec<Lane>);

impl Lanes {
    pub(super) fn new(n: usize) -> Self {
        Self(vec![Lane::Idle; n])
    }

    /// How many there are, but for those given up; at least 1, as it divides.
    pub(super) fn n_working(&self) -> usize {
        self.0.iter().filter(|it| **it != Lane::Lost).count().max(1)
    }

    /// How many are idle, busy and given up.
    pub(super) fn counts(&self) -> [usize; 3] {
        self.0.iter().fold([0; 3], |mut counts, lane| {
            counts[match lane {
                Lane::Idle => 0,
                Lane::Busy(_) => 1,
                Lane::Lost => 2,
            }] += 1;
            counts
        })
    }

    /// An idle lane: `preferred`, if it is one.
    pub(super) fn idle(&self, preferred: Option<LaneKey>) -> Option<LaneKey> {
        let is_idle = |it: &LaneKey| self.0.get(it.0) == Some(&Lane::Idle);
        preferred
            .filter(is_idle)
            .or_else(|| self.0.iter().position(|it| *it == Lane::Idle).map(LaneKey))
    }

    pub(super) fn occupy(&mut self, lane: LaneKey, busy: Busy) {
        if let Some(it) = self.0.get_mut(lane.0) {
            *it = Lane::Busy(busy);
        }
    }

    /// The lane whose run holds this item.
    pub(super) fn running(&mut self, item: ItemKey) -> Option<(LaneKey, &mut Busy)> {
        self.0.iter_mut().enumerate().find_map(|(at, lane)| match lane {
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
        let it = self.0.get_mut(lane.0)?;
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
        let lost = |(at, lane): (usize, &Lane)| (*lane == Lane::Lost).then_some(LaneKey(at));
        self.0.iter().enumerate().filter_map(lost).collect()
    }

    /// Makes a lane that was given up idle again.
    pub(super) fn replace(&mut self, lane: LaneKey) {
        if let Some(it) = self.0.get_mut(lane.0)
            && *it == Lane::Lost
        {
            *it = Lane::Idle;
        }
    }

    /// The lanes that have not come back in time.
    pub(super) fn overdue(&self, now: Instant) -> Vec<LaneKey> {
        let overdue = |(at, lane): (usize, &Lane)| match lane {
            Lane::Busy(busy) if busy.lost_at <= now => Some(LaneKey(at)),
            Lane::Idle | Lane::Busy(_) | Lane::Lost => None,
        };
        self.0.iter().enumerate().filter_map(overdue).collect()
    }

    pub(super) fn next_overdue(&self) -> Option<Instant> {
        self.all_busy().map(|it| it.lost_at).min()
    }

    /// Predicted core time until what is under way has ended; `None` while a lane is idle.
    pub(super) fn under_way(&self, now: Instant) -> Option<Duration> {
        let all_busy = !self.0.contains(&Lane::Idle);
        all_busy.then(|| self.all_busy().map(|it| it.remaining(now)).sum())
    }

    /// Predicted core time until the runs of one model have ended.
    pub(super) fn under_way_of(&self, model: ModelKey, now: Instant) -> Duration {
        let own = self.all_busy().filter(|it| it.runs == Some(model));
        own.map(|it| it.remaining(now)).sum()
    }

    fn all_busy(&self) -> impl Iterator<Item = &Busy> {
        self.0.iter().filter_map(|lane| match lane {
            Lane::Busy(busy) => Some(busy),
            Lane::Idle | Lane::Lost => None,
        })
    }
}
