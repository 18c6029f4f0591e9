//! The glue around the scheduler: one lock over it and the jobs, channels to the lanes, a timer.
//!
//! The lock is held for the microseconds of one event: the state machine moves, contents change
//! hands; decoding, running and answering happen outside. Whoever brings an event carries out its
//! actions, so an item that finds an idle lane reaches it with one channel send and no thread in
//! between, and a lane that has finished takes its next work with it.

use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc::SyncSender},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    assignment::{Assignment, RunItem, RunResult},
    error::{BatchError, Refusal, RefusalCause},
    event::{Action, Arrival, ItemKey, LaneKey, ModelKey},
    job::{Answer, BatchKey, Bounds, Content, Input, Job, Request},
    runtime::{ModelRuntime, ModelSpec},
    scheduler::{Admission, Candidate, Scheduler},
};
use crate::{imaging::Pixels, metrics::Metrics, types::Instant};

/// What all handles, lanes and the timer share.
#[derive(Debug)]
pub(super) struct Core {
    /// Guards the scheduler and the jobs; held for one event, never while decoding or running.
    state: Mutex<State>,
    /// Wakes the timer when an expiry comes before the one it sleeps for, or when all ends.
    timer: Condvar,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct State {
    scheduler: Scheduler,
    jobs: HashMap<ItemKey, Job>,
    models: HashMap<ModelKey, Arc<ModelRuntime>>,
    /// One place each: a lane is given work only while idle. Empty once stopping, which ends them.
    lanes: Vec<SyncSender<Assignment>>,
    n_lanes: usize,
    next_item: u64,
    next_model: u32,
    /// When the timer will look by itself.
    timer_wakes: Option<Instant>,
    stopping: bool,
}

/// What an event leaves to be done without the lock.
#[derive(Default)]
struct Todo {
    assignments: Vec<(LaneKey, Assignment)>,
    answers: Vec<(Job, Result<Answer, BatchError>)>,
}

impl Core {
    pub(super) fn new(lanes: Vec<SyncSender<Assignment>>, metrics: Arc<Metrics>) -> Self {
        let scheduler = Scheduler::new(lanes.len());
        metrics.process.set_lanes(lanes.len(), 0);
        let state = State {
            scheduler,
            jobs: HashMap::new(),
            models: HashMap::new(),
            n_lanes: lanes.len(),
            lanes,
            next_item: 0,
            next_model: 0,
            timer_wakes: None,
            stopping: false,
        };
        Self { state: Mutex::new(state), timer: Condvar::new(), metrics }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock would be a bug of the state machine, which cannot panic; going on
        // beats refusing every later item.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add_model(&self, spec: ModelSpec) -> Arc<ModelRuntime> {
        let mut state = self.lock();
        let key = ModelKey(state.next_model);
        state.next_model += 1;
        let max_lanes = spec.max_lanes.unwrap_or(state.n_lanes);
        state.scheduler.add_model(key, spec.batching.max_batch, max_lanes, spec.terms);
        let model = Arc::new(ModelRuntime::new(key, spec));
        state.models.insert(key, Arc::clone(&model));
        model
    }

    pub(super) fn set_max_batch(&self, model: ModelKey, max_batch: usize) {
        self.lock().scheduler.set_max_batch(model, max_batch);
    }

    /// Drops the queue of a version; whoever still waits in it is told.
    pub(super) fn remove_model(&self, model: ModelKey) {
        let mut state = self.lock();
        state.models.remove(&model);
        let waiting = state.scheduler.remove_model(model);
        let _told_by_drop: Vec<Job> =
            waiting.iter().filter_map(|it| state.jobs.remove(it)).collect();
    }

    /// Whether an item of this version would be let in now, if its body were there.
    pub(super) fn has_room(&self, model: &ModelRuntime, bounds: &Bounds) -> Result<(), Refusal> {
        let cost = model.typical_cost();
        self.lock().judge(model, bounds, cost, Instant::now())
    }

    /// Queues an item.
    ///
    /// # Errors
    /// When its answer would come too late.
    pub(super) fn submit(
        &self,
        model: &Arc<ModelRuntime>,
        request: Request,
    ) -> Result<(ItemKey, oneshot::Receiver<Result<Answer, BatchError>>), BatchError> {
        let now = Instant::now();
        let key = BatchKey::of(&request.input, &request.outputs);
        let (content, rows, decode) = match request.input {
            Input::Image { bytes, header } => {
                let pixels = u64::from(header.width) * u64::from(header.height);
                (Content::Compressed { bytes, pixels }, 1, Some(model.decode_time(pixels)))
            }
            Input::Tensors(tensors) => {
                let rows = tensors.first().map_or(1, |it| it.tensor.n_rows()).max(1);
                (Content::Tensors(tensors), rows, None)
            }
        };
        let per_row = model.batching.load().run_time_per_row();
        let run = per_row.saturating_mul(u32::try_from(rows).unwrap_or(u32::MAX));
        let Bounds { aim, .. } = request.bounds;
        let expires = request.bounds.earliest();
        let mut state = self.lock();
        if state.stopping {
            return Err(BatchError::Stopped);
        }
        state.judge(model, &request.bounds, decode.unwrap_or_default() + run, now)?;
        let item = ItemKey(state.next_item);
        state.next_item += 1;
        let (reply, answer) = oneshot::channel();
        let job = Job {
            model: Arc::clone(model),
            key: Arc::clone(&key),
            content,
            rows,
            arrived: now,
            waits_since: now,
            queue: Duration::ZERO,
            decode: Duration::ZERO,
            reply: Some(reply),
        };
        state.jobs.insert(item, job);
        let arrival =
            Arrival { item, model: model.key, batch_key: key, rows, decode, run, aim, expires };
        let actions = state.scheduler.arrive(arrival, now);
        let todo = state.carry_out(actions, now);
        self.finish(state, todo, None);
        Ok((item, answer))
    }

    /// Whether anybody still waits for an item.
    pub(super) fn is_wanted(&self, item: ItemKey) -> bool {
        self.lock().scheduler.is_wanted(item)
    }

    /// The caller of an item has gone.
    pub(super) fn cancel(&self, item: ItemKey) {
        let mut state = self.lock();
        state.scheduler.cancel(item);
        let job = state.jobs.remove(&item);
        drop(state);
        drop(job);
    }

    /// A lane has decoded; answers with its next work, if there is some.
    pub(super) fn decoded(
        &self,
        lane: LaneKey,
        item: ItemKey,
        result: Result<Pixels, BatchError>,
        took: Duration,
    ) -> Option<Assignment> {
        let now = Instant::now();
        let mut state = self.lock();
        let mut todo = state.expire(now);
        let ok = result.is_ok();
        match result {
            Ok(pixels) => {
                if let Some(job) = state.jobs.get_mut(&item) {
                    job.content = Content::Pixels(pixels);
                    job.decode = took;
                    job.waits_since = now;
                }
            }
            Err(error) => {
                let job = state.jobs.remove(&item);
                todo.answers.extend(job.map(|it| (it, Err(error))));
            }
        }
        let actions = state.scheduler.decoded(lane, ok, now);
        todo.extend(state.carry_out(actions, now));
        self.finish(state, todo, Some(lane))
    }

    /// A lane has run; answers with its next work, if there is some.
    pub(super) fn ran(&self, lane: LaneKey, results: Vec<RunResult>) -> Option<Assignment> {
        let now = Instant::now();
        let mut state = self.lock();
        let mut todo = state.expire(now);
        for RunResult { item, outputs, infer, batch_size } in results {
            // Gone: its caller has left, or has been told that its time was up.
            let Some(job) = state.jobs.remove(&item) else { continue };
            let (decode, queue) = (job.decode, job.queue);
            let answer =
                outputs.map(|outputs| Answer { outputs, decode, queue, infer, batch_size });
            todo.answers.push((job, answer));
        }
        let actions = state.scheduler.ran(lane, now);
        todo.extend(state.carry_out(actions, now));
        self.finish(state, todo, Some(lane))
    }

    /// Body of the timer thread: answers expired items when they expire, whatever the lanes do.
    pub(super) fn run_timer(&self) {
        let mut state = self.lock();
        while !state.stopping {
            let now = Instant::now();
            let todo = state.expire(now);
            if !todo.answers.is_empty() {
                self.finish(state, todo, None);
                state = self.lock();
                continue;
            }
            state.timer_wakes = state.scheduler.next_expiry();
            state = match state.timer_wakes {
                None => self.timer.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let wait = at.saturating_duration_since(now);
                    let woken = self.timer.wait_timeout(state, wait);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Ends the timer and tells whoever waits that the server is stopping.
    pub(super) fn stop(&self) {
        let mut state = self.lock();
        state.stopping = true;
        state.lanes.clear();
        let told_by_drop = std::mem::take(&mut state.jobs);
        self.timer.notify_all();
        drop(state);
        drop(told_by_drop);
    }

    /// Items waiting and the longest wait, by version: for the gauges.
    pub(super) fn refresh_gauges(&self) {
        let now = Instant::now();
        let state = self.lock();
        let (idle, busy) = state.scheduler.lanes();
        self.metrics.process.set_lanes(idle, busy);
        let mut oldest: HashMap<ModelKey, Duration> = HashMap::new();
        for job in state.jobs.values().filter(|it| !matches!(it.content, Content::Away)) {
            let age = now.saturating_duration_since(job.arrived);
            let entry = oldest.entry(job.model.key).or_default();
            *entry = age.max(*entry);
        }
        for (key, model) in &state.models {
            let Some(metrics) = &model.spec.metrics else { continue };
            let waiting = state.scheduler.waiting(*key);
            metrics.queue_depth.set(i64::try_from(waiting).unwrap_or(i64::MAX));
            metrics.queue_oldest.set(oldest.get(key).map_or(0.0, Duration::as_secs_f64));
        }
    }

    /// Sends what an event left to be done, and answers without the lock; `own` is given its work
    /// instead of being sent it.
    fn finish(
        &self,
        state: MutexGuard<'_, State>,
        todo: Todo,
        own: Option<LaneKey>,
    ) -> Option<Assignment> {
        let next = state.scheduler.next_expiry();
        if next.is_some_and(|next| state.timer_wakes.is_none_or(|wakes| next < wakes)) {
            self.timer.notify_one();
        }
        let mut mine = None;
        for (lane, assignment) in todo.assignments {
            if own == Some(lane) {
                mine = Some(assignment);
            } else if let Some(to) = state.lanes.get(lane.0) {
                // Never waits, as the one place of an idle lane is free.
                let _lane_may_have_stopped = to.try_send(assignment);
            }
        }
        drop(state);
        for (mut job, answer) in todo.answers {
            job.answer(answer);
        }
        mine
    }
}

/// A refused caller is asked to stay away at least this long.
const SHORTEST_RETRY: Duration = Duration::from_millis(100);

impl State {
    /// Lets a candidate in, or says why not and when to ask again.
    fn judge(
        &mut self,
        model: &ModelRuntime,
        bounds: &Bounds,
        cost: Duration,
        now: Instant,
    ) -> Result<(), Refusal> {
        let (aim, expires, reserve) = (bounds.aim, bounds.earliest(), model.reserve());
        let candidate = Candidate { model: model.key, cost, aim, reserve, expires };
        let (cause, by) = match self.scheduler.judge(&candidate, now) {
            Admission::Admitted => return Ok(()),
            Admission::NoCredit { by } => (RefusalCause::Burst, by),
            Admission::TooLate { by } if expires + by > bounds.expires => (RefusalCause::Queue, by),
            Admission::TooLate { by } => (RefusalCause::Deadline, by),
        };
        Err(Refusal { cause, retry_after: by.max(SHORTEST_RETRY) })
    }

    fn expire(&mut self, now: Instant) -> Todo {
        let actions = self.scheduler.tick(now);
        self.carry_out(actions, now)
    }

    /// Turns actions into work: contents leave their jobs for a lane.
    ///
    /// Every item of the scheduler has its job, as both are changed under one lock; only `stop`
    /// takes the jobs away, and then it no longer matters that a lane gets no work.
    fn carry_out(&mut self, actions: Vec<Action>, now: Instant) -> Todo {
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
                Action::Run { lane, items, .. } => {
                    let Some((model, key)) = items.first().and_then(|it| {
                        let job = self.jobs.get(it)?;
                        Some((Arc::clone(&job.model), Arc::clone(&job.key)))
                    }) else {
                        continue;
                    };
                    let leave = |item: ItemKey| {
                        let job = self.jobs.get_mut(&item)?;
                        Some(RunItem { item, rows: job.rows, content: job.leave(now) })
                    };
                    let items = items.into_iter().filter_map(leave).collect();
                    todo.assignments.push((lane, Assignment::Run { model, key, items }));
                }
            }
        }
        todo
    }
}

impl Todo {
    fn extend(&mut self, other: Self) {
        self.assignments.extend(other.assignments);
        self.answers.extend(other.answers);
    }
}
