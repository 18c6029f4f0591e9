//! Starts lanes, gives up those that do not come back, and replaces them.
//!
//! A run that hangs inside a runtime cannot be killed: its thread is left to itself, with whatever it
//! holds, and another takes its place. If many hang, no more are replaced: then the process is beyond
//! help, and says so through [`Core::is_alive`].

use std::{
    io,
    sync::{Arc, MutexGuard, mpsc::sync_channel},
};

use super::{
    core::Core,
    event::LaneKey,
    lane,
    site::Site,
    state::{LaneId, LaneSlot, State},
};
use crate::types::Instant;

/// Threads left to themselves at a time, for each lane.
const MAX_ABANDONED: usize = 4;

impl Core {
    /// Adds lanes of a site until there are so many.
    pub(super) fn add_lanes(self: &Arc<Self>, site: Site, n: usize) -> io::Result<()> {
        let mut state = self.lock();
        let there = state.lanes.iter().filter(|it| it.site == site).count();
        for _ in there..n {
            let key = LaneKey(state.lanes.len());
            let slot = self.start_lane(LaneId { key, generation: 0, site })?;
            state.lanes.push(slot);
            state.scheduler.add_lane(site);
        }
        Ok(())
    }

    fn start_lane(self: &Arc<Self>, id: LaneId) -> io::Result<LaneSlot> {
        let (work, from) = sync_channel(1);
        let core = Arc::clone(self);
        let name = format!("lane-{}", id.key.0);
        let body = move || lane::run(id, core, &from);
        let thread = std::thread::Builder::new().name(name).spawn(body)?;
        Ok(LaneSlot { generation: id.generation, site: id.site, work, thread, interrupt: None })
    }

    /// Puts a new thread in the place of each lane that was given up.
    pub(super) fn replace_lost_lanes<'a>(
        self: &'a Arc<Self>,
        mut state: MutexGuard<'a, State>,
        now: Instant,
    ) -> MutexGuard<'a, State> {
        state.abandoned.retain(|it| !it.is_finished());
        for lane in state.scheduler.lost() {
            if state.abandoned.len() >= MAX_ABANDONED * state.lanes.len() {
                break;
            }
            let Some(slot) = state.lanes.get(lane.0) else { continue };
            let LaneSlot { site, generation, .. } = *slot;
            let id = LaneId { key: lane, generation: generation + 1, site };
            let fresh = match self.start_lane(id) {
                Ok(fresh) => fresh,
                Err(error) => {
                    // Tried again at each wake of the timer; said once.
                    if !std::mem::replace(&mut state.cannot_replace, true) {
                        tracing::error!(lane = lane.0, %error, "a lane cannot be replaced yet");
                    }
                    break;
                }
            };
            tracing::warn!(lane = lane.0, "a lane was replaced");
            state.cannot_replace = false;
            state.abandon(lane, fresh);
            let actions = state.scheduler.replaced(lane, now);
            let todo = state.carry_out(actions, now);
            self.finish(state, todo, None);
            state = self.lock();
        }
        state
    }

    /// Whether a lane can still work at every site there is.
    pub(super) fn is_alive(&self) -> bool {
        let state = self.lock();
        state.scheduler.every_site_works() && state.lanes.iter().any(|it| !it.thread.is_finished())
    }
}

impl State {
    fn abandon(&mut self, lane: LaneKey, fresh: LaneSlot) {
        if let Some(slot) = self.lanes.get_mut(lane.0) {
            let LaneSlot { thread, .. } = std::mem::replace(slot, fresh);
            self.abandoned.push(thread);
        }
    }
}
