//! What the lock guards: the scheduler, the contents of its items, and the way to the lanes.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, mpsc::SyncSender},
    thread::JoinHandle,
    time::Duration,
};

use super::{
    assignment::{Assignment, RunItem},
    demand::Demand,
    error::{BatchError, Refusal, RefusalCause},
    event::{Action, Class, ItemKey, LaneKey, ModelKey},
    interrupt::Interrupt,
    job::{Answer, Bounds, Content, Job},
    runtime::ModelRuntime,
    scheduler::{Candidate, Rejection, Scheduler},
    site::{Cost, Placement, Site},
};
use crate::{metrics::Closed, types::Instant};

/// A refused caller is asked to stay away at least this long.
const SHORTEST_RETRY: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct State {
    pub(super) scheduler: Scheduler,
    pub(super) jobs: HashMap<ItemKey, Job>,
    pub(super) models: HashMap<ModelKey, Arc<ModelRuntime>>,
    /// By [`LaneKey`]. Empty once stopping, which ends them.
    pub(super) lanes: Vec<LaneSlot>,
    /// Threads of lanes that were given up and have not come back.
    pub(super) abandoned: Vec<JoinHandle<()>>,
    /// The system gave no thread for a lane, the last time it was asked.
    pub(super) cannot_replace: bool,
    /// Of the cores.
    pub(super) demand: Demand,
    /// Of each accelerator.
    pub(super) device_demand: BTreeMap<u32, Demand>,
    pub(super) next_item: u64,
    pub(super) next_model: u32,
    /// When the timer will look by itself.
    pub(super) timer_wakes: Option<Instant>,
    pub(super) stopping: bool,
}

/// A lane's thread and the way to it.
#[derive(Debug)]
pub(super) struct LaneSlot {
    /// Tells the thread that has this place from those that had it before.
    pub(super) generation: u32,
    /// Where it runs.
    pub(super) site: Site,
    /// One place: a lane is given work only while idle.
    pub(super) work: SyncSender<Assignment>,
    pub(super) thread: JoinHandle<()>,
    /// Ends the run it is at.
    pub(super) interrupt: Option<Arc<Interrupt>>,
}

/// Names the thread that has a lane's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LaneId {
    pub(super) key: LaneKey,
    pub(super) generation: u32,
    pub(super) site: Site,
}

/// What an event leaves to be done without the lock.
#[derive(Default)]
pub(super) struct Todo {
    pub(super) assignments: Vec<(LaneKey, Assignment)>,
    pub(super) answers: Vec<(Job, Result<Answer, BatchError>)>,
    pub(super) interrupts: Vec<Arc<Interrupt>>,
    /// Lanes given up.
    pub(super) abandoned: Vec<LaneKey>,
}

impl State {
    /// Whether this thread still has its lane's place.
    pub(super) fn is_current(&self, lane: LaneId) -> bool {
        self.lanes.get(lane.key.0).is_some_and(|it| it.generation == lane.generation)
    }

    pub(super) fn candidate(
        model: &ModelRuntime,
        class: Class,
        bounds: &Bounds,
        cost: Cost,
    ) -> Candidate {
        let (aim, expires, reserve) = (bounds.aim, bounds.earliest(), model.reserve());
        Candidate { model: model.key, class, cost, aim, reserve, expires }
    }

    /// Takes note of work that a client asked for.
    pub(super) fn asked_for(&mut self, model: &ModelRuntime, cost: Cost, now: Instant) {
        let placement = &model.spec.placement;
        let load = placement.load(cost);
        self.demand.add(load.cores, now);
        if let Placement::Devices(devices) = placement {
            let each = load.devices / u32::try_from(devices.len().max(1)).unwrap_or(u32::MAX);
            for device in devices {
                let demand = self.device_demand.entry(*device);
                demand.or_insert_with(|| Demand::new(now)).add(each, now);
            }
        }
        if let Some(metrics) = &model.spec.metrics {
            metrics.demand.inc_by(load.cores.as_secs_f64());
        }
    }

    /// What is asked for of what there is: of the cores or of an accelerator, whichever is more.
    pub(super) fn load_ratio(&mut self, n_cores: usize, now: Instant) -> f64 {
        let mut ratio = self.demand.lanes(now) / to_f64(n_cores.max(1));
        for (device, demand) in &mut self.device_demand {
            let site = Site::Device(*device);
            let lanes = self.lanes.iter().filter(|it| it.site == site).count();
            ratio = ratio.max(demand.lanes(now) / to_f64(lanes.max(1)));
        }
        ratio
    }

    /// Answers expired items, and says what else is due.
    pub(super) fn tick(&mut self, now: Instant) -> Todo {
        let actions = self.scheduler.tick(now);
        self.carry_out(actions, now)
    }

    /// Turns actions into work: contents leave their jobs for a lane.
    ///
    /// Every item of the scheduler has its job, as both are changed under one lock; only `stop`
    /// takes the jobs away, and then it no longer matters that a lane gets no work.
    pub(super) fn carry_out(&mut self, actions: Vec<Action>, now: Instant) -> Todo {
        let mut todo = Todo::default();
        for action in actions {
            match action {
                Action::Expire { item } => {
                    let job = self.jobs.remove(&item);
                    todo.answers.extend(job.map(|it| (it, Err(BatchError::Expired))));
                }
                Action::Decode { lane, item } => {
                    let Some(job) = self.jobs.get_mut(&item) else { continue };
                    if let Content::Compressed { bytes, pixels } = job.leave(now) {
                        let model = Arc::clone(&job.model);
                        let work = Assignment::Decode { item, model, bytes, pixels };
                        todo.assignments.push((lane, work));
                    }
                }
                Action::Run { lane, items, closed, .. } => {
                    let run = self.run(lane, &items, closed, now);
                    todo.assignments.extend(run.map(|it| (lane, it)));
                }
                Action::Terminate { lane } => {
                    let interrupt = self.lanes.get(lane.0).and_then(|it| it.interrupt.clone());
                    todo.interrupts.extend(interrupt);
                }
                Action::Abandon { lane } => todo.abandoned.push(lane),
            }
        }
        todo
    }

    fn run(
        &mut self,
        lane: LaneKey,
        items: &[ItemKey],
        closed: Closed,
        now: Instant,
    ) -> Option<Assignment> {
        let first = self.jobs.get(items.first()?)?;
        let (model, key) = (Arc::clone(&first.model), Arc::clone(&first.key));
        if let Some(metrics) = &model.spec.metrics {
            metrics.batch_closed(closed);
        }
        let leave = |item: &ItemKey| {
            let job = self.jobs.get_mut(item)?;
            Some(RunItem { item: *item, rows: job.rows, content: job.leave(now) })
        };
        let items = items.iter().filter_map(leave).collect();
        let interrupt = Arc::<Interrupt>::default();
        if let Some(slot) = self.lanes.get_mut(lane.0) {
            slot.interrupt = Some(Arc::clone(&interrupt));
        }
        Some(Assignment::Run { model, key, items, interrupt })
    }
}

#[expect(clippy::cast_precision_loss, reason = "lanes, far below 2^52")]
fn to_f64(lanes: usize) -> f64 {
    lanes as f64
}

/// What a rejection is called outside, and when to ask again.
pub(super) fn refusal(rejection: Rejection, bounds: &Bounds) -> Refusal {
    let (cause, by) = match rejection {
        Rejection::NoCredit { by } => (RefusalCause::Burst, by),
        Rejection::TooLate { by } if bounds.earliest() + by > bounds.expires => {
            (RefusalCause::Queue, by)
        }
        Rejection::TooLate { by } => (RefusalCause::Deadline, by),
    };
    Refusal { cause, retry_after: by.max(SHORTEST_RETRY) }
}

impl Todo {
    pub(super) fn is_empty(&self) -> bool {
        let Self { assignments, answers, interrupts, abandoned } = self;
        assignments.is_empty()
            && answers.is_empty()
            && interrupts.is_empty()
            && abandoned.is_empty()
    }

    pub(super) fn extend(&mut self, other: Self) {
        self.assignments.extend(other.assignments);
        self.answers.extend(other.answers);
        self.interrupts.extend(other.interrupts);
        self.abandoned.extend(other.abandoned);
    }
}
