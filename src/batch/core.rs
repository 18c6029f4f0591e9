//! The glue around the scheduler: one lock over it and the jobs, channels to the lanes, a timer.
//!
//! The lock is held for the microseconds of one event: the state machine moves, contents change
//! hands; decoding, running and answering happen outside. Whoever brings an event carries out its
//! actions, so an item that finds an idle lane reaches it with one channel send and no thread in
//! between, and a lane that has finished takes its next work with it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    assignment::{Assignment, RunResult},
    demand::Demand,
    error::{BatchError, Refusal},
    event::{Arrival, Class, ItemKey, ModelKey, ReservationKey},
    job::{Answer, BatchKey, Bounds, Content, Input, Job, Request},
    runtime::{ModelRuntime, ModelSpec},
    scheduler::{Scheduler, Service},
    site::Cost,
    state::{LaneId, LaneSlot, State, Todo, refusal},
};
use crate::{imaging::Pixels, metrics::Metrics, types::Instant};

/// What all handles, lanes and the timer share.
#[derive(Debug)]
pub(super) struct Core {
    /// Guards the scheduler and the jobs; held for one event, never while decoding or running.
    state: Mutex<State>,
    /// Wakes the timer when something is due before it would look, or when all ends.
    timer: Condvar,
    /// Core tokens: a lane for each.
    pub(super) n_cores: usize,
    pub(super) metrics: Arc<Metrics>,
    /// Versions whose queues were closed so far: lanes that see it grow close what they have open.
    pub(super) n_removed: AtomicU64,
}

impl Core {
    /// Without lanes yet: `add_lanes` adds them.
    pub(super) fn new(n_cores: usize, metrics: Arc<Metrics>) -> Self {
        let state = State {
            scheduler: Scheduler::default(),
            jobs: HashMap::new(),
            models: HashMap::new(),
            lanes: Vec::with_capacity(n_cores),
            abandoned: Vec::new(),
            cannot_replace: false,
            demand: Demand::new(Instant::now()),
            device_demand: BTreeMap::new(),
            next_item: 0,
            next_model: 0,
            timer_wakes: None,
            stopping: false,
        };
        Self {
            state: Mutex::new(state),
            timer: Condvar::new(),
            n_cores,
            metrics,
            n_removed: AtomicU64::new(0),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock would be a bug of the state machine, which cannot panic; going on
        // beats refusing every later item.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add_model(&self, spec: ModelSpec) -> Arc<ModelRuntime> {
        let mut state = self.lock();
        let key = ModelKey(state.next_model);
        state.next_model += 1;
        let ModelSpec { placement, batching, max_lanes, terms, .. } = &spec;
        let service = Service {
            placement: placement.clone(),
            max_batch: batching.max_batch,
            max_lanes: *max_lanes,
            terms: *terms,
        };
        state.scheduler.add_model(key, service);
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
        if let Some(model) = state.models.remove(&model) {
            model.set_removed();
            // A lane that sees this sees that, too.
            self.n_removed.fetch_add(1, Ordering::Release);
        }
        let waiting = state.scheduler.remove_model(model);
        let told_by_drop: Vec<Job> =
            waiting.iter().filter_map(|it| state.jobs.remove(it)).collect();
        drop(state);
        drop(told_by_drop);
    }

    /// Keeps a place for a client's item of which only the head is there.
    ///
    /// # Errors
    /// When its answer would come too late.
    pub(super) fn reserve(
        &self,
        model: &ModelRuntime,
        bounds: &Bounds,
    ) -> Result<ReservationKey, Refusal> {
        let (cost, now) = (model.typical_cost(), Instant::now());
        let candidate = State::candidate(model, Class::Normal, bounds, cost);
        let mut state = self.lock();
        let reserved = state.scheduler.reserve(&candidate, now);
        reserved.map_err(|rejection| {
            // What is let in is counted when its items come.
            state.asked_for(model, cost, now);
            refusal(rejection, bounds)
        })
    }

    pub(super) fn end_reservation(&self, key: ReservationKey) {
        self.lock().scheduler.end_reservation(key);
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
        let Request { input, outputs, class, bounds } = request;
        let key = BatchKey::of(&input, &outputs);
        let (content, rows, decode) = match input {
            Input::Image { bytes, header } => {
                let pixels = u64::from(header.width) * u64::from(header.height);
                (Content::Compressed { bytes, pixels }, 1, Some(model.decode_time(pixels)))
            }
            Input::Tensors(tensors) => {
                let rows = tensors.first().map_or(1, |it| it.tensor.n_rows()).max(1);
                (Content::Tensors(tensors), rows, None)
            }
        };
        let run = model.run_time(rows);
        let cost = Cost { decode: decode.unwrap_or_default(), run };
        let candidate = State::candidate(model, class, &bounds, cost);
        let mut state = self.lock();
        if state.stopping {
            return Err(BatchError::Stopped);
        }
        if class == Class::Normal {
            state.asked_for(model, cost, now);
        }
        let judged = state.scheduler.judge(&candidate, now);
        let predicted = judged.map_err(|it| refusal(it, &bounds))?;
        let item = ItemKey(state.next_item);
        state.next_item += 1;
        let (reply, answer) = oneshot::channel();
        let job = Job {
            model: Arc::clone(model),
            key: Arc::clone(&key),
            content,
            rows,
            arrived: now,
            predicted,
            waits_since: now,
            queue: Duration::ZERO,
            decode: Duration::ZERO,
            reply: Some(reply),
        };
        state.jobs.insert(item, job);
        let arrival = Arrival {
            item,
            model: model.key,
            class,
            batch_key: key,
            rows,
            decode,
            run,
            aim: bounds.aim,
            expires: bounds.earliest(),
        };
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
        let now = Instant::now();
        let mut state = self.lock();
        let actions = state.scheduler.cancel(item, now);
        let todo = state.carry_out(actions, now);
        let job = state.jobs.remove(&item);
        self.finish(state, todo, None);
        drop(job);
    }

    /// A lane has decoded; answers with its next work, if there is some.
    pub(super) fn decoded(
        &self,
        lane: LaneId,
        item: ItemKey,
        result: Result<Pixels, BatchError>,
        took: Duration,
    ) -> Option<Assignment> {
        let now = Instant::now();
        let mut state = self.lock();
        if !state.is_current(lane) {
            return None;
        }
        let mut todo = state.tick(now);
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
        let actions = state.scheduler.decoded(lane.key, ok, now);
        todo.extend(state.carry_out(actions, now));
        self.finish(state, todo, Some(lane))
    }

    /// A lane has run; answers with its next work, if there is some.
    pub(super) fn ran(&self, lane: LaneId, results: Vec<RunResult>) -> Option<Assignment> {
        let now = Instant::now();
        let mut state = self.lock();
        if !state.is_current(lane) {
            return None;
        }
        let mut todo = state.tick(now);
        for RunResult { item, outputs, infer, batch_size } in results {
            // Gone: its caller has left, or has been told that its time was up.
            let Some(job) = state.jobs.remove(&item) else { continue };
            let Job { decode, queue, predicted, .. } = job;
            let answer = outputs.map(|outputs| Answer {
                outputs,
                decode,
                queue,
                infer,
                batch_size,
                predicted,
            });
            todo.answers.push((job, answer));
        }
        let actions = state.scheduler.ran(lane.key, now);
        todo.extend(state.carry_out(actions, now));
        self.finish(state, todo, Some(lane))
    }

    /// Body of the timer thread: answers expired items when they expire, whatever the lanes do, and
    /// replaces lanes that do not come back.
    pub(super) fn run_timer(self: &Arc<Self>) {
        let mut state = self.lock();
        while !state.stopping {
            let now = Instant::now();
            let todo = state.tick(now);
            if !todo.is_empty() {
                self.finish(state, todo, None);
                state = self.lock();
                continue;
            }
            state = self.replace_lost_lanes(state, now);
            state.timer_wakes = state.scheduler.next_tick();
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

    /// Ends the timer, the runs under way and the lanes; tells whoever waits that the server stops.
    /// Answers with the threads of the lanes, but for those given up.
    pub(super) fn stop(&self) -> Vec<JoinHandle<()>> {
        let mut state = self.lock();
        state.stopping = true;
        let slots = std::mem::take(&mut state.lanes);
        let told_by_drop = std::mem::take(&mut state.jobs);
        self.timer.notify_all();
        drop(state);
        drop(told_by_drop);
        let end = |slot: LaneSlot| {
            slot.interrupt.inspect(|it| it.request());
            slot.thread
        };
        slots.into_iter().map(end).collect()
    }

    /// Brings the gauges of queues, lanes and load up to date.
    pub(super) fn refresh_gauges(&self) {
        let now = Instant::now();
        let mut state = self.lock();
        let process = &self.metrics.process;
        process.set_lanes(state.scheduler.lanes());
        process.set_load(state.load_ratio(self.n_cores, now));
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
            metrics.predicted_wait.set(state.scheduler.predicted_wait(*key, now).as_secs_f64());
        }
    }

    /// Does what an event left to be done, all of it without the lock: whoever is woken may need it at
    /// once, and waking takes as long as the system likes. `own` is given its work instead of being
    /// sent it.
    pub(super) fn finish(
        &self,
        state: MutexGuard<'_, State>,
        todo: Todo,
        own: Option<LaneId>,
    ) -> Option<Assignment> {
        let next = state.scheduler.next_tick();
        let is_sooner = next.is_some_and(|it| state.timer_wakes.is_none_or(|wakes| it < wakes));
        let mut mine = None;
        let mut sends = Vec::new();
        for (lane, assignment) in todo.assignments {
            if own.is_some_and(|it| it.key == lane) {
                mine = Some(assignment);
            } else if let Some(slot) = state.lanes.get(lane.0) {
                sends.push((slot.work.clone(), assignment));
            }
        }
        drop(state);
        for (work, assignment) in sends {
            // Never waits, as the one place of an idle lane is free.
            let _lane_may_have_stopped = work.try_send(assignment);
        }
        // The timer replaces lanes: no other thread should wait for a thread to start.
        if is_sooner || !todo.abandoned.is_empty() {
            self.timer.notify_one();
        }
        for lane in todo.abandoned {
            tracing::error!(lane = lane.0, "a lane did not come back from a run and is given up");
            self.metrics.process.lanes_abandoned.inc();
        }
        for interrupt in todo.interrupts {
            interrupt.request();
        }
        for (mut job, answer) in todo.answers {
            job.answer(answer);
        }
        mine
    }
}
