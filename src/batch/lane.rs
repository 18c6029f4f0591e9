//! A lane: one OS thread that decodes and runs, one thing at a time, on one core token.
//!
//! It opens a version on first use and keeps it, with the buffers its rows are gathered in. A panic
//! in a decoder or a runtime fails the items in hand, never the lane.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak, atomic::Ordering, mpsc::Receiver},
};

use super::{
    assignment::{Assignment, RunItem, RunResult},
    core::Core,
    error::BatchError,
    event::{ItemKey, ModelKey},
    executor::{ExecuteError, Executor},
    gather::{self, Rows},
    interrupt::Interrupt,
    job::{BatchKey, Content},
    runtime::ModelRuntime,
    state::LaneId,
};
use crate::{
    imaging::{Pixels, Workspace},
    metrics::Closed,
    types::{Instant, NamedTensor},
};

/// The lane's own state; nothing of it is shared.
struct Lane {
    id: LaneId,
    core: Arc<Core>,
    workspace: Workspace,
    open: HashMap<ModelKey, Opened>,
}

/// A version this lane has opened.
struct Opened {
    /// Gone when the version has been dropped: it is closed here when this lane next falls idle.
    model: Weak<ModelRuntime>,
    executor: Box<dyn Executor>,
    /// Where pictures are gathered; grows to the largest run and is used again.
    rows: Rows,
}

/// Body of a lane's thread: works until the channel is closed.
pub(super) fn run(id: LaneId, core: Arc<Core>, work: &Receiver<Assignment>) {
    let mut lane = Lane { id, core, workspace: Workspace::new(), open: HashMap::new() };
    let mut seen_removed = 0;
    while let Ok(first) = work.recv() {
        let mut next = Some(first);
        while let Some(assignment) = next {
            next = lane.carry_out(assignment);
        }
        let removed = lane.core.n_removed.load(Ordering::Acquire);
        if std::mem::replace(&mut seen_removed, removed) != removed {
            lane.open.retain(|_, it| it.model.upgrade().is_some_and(|it| !it.is_removed()));
        }
    }
}

impl Lane {
    fn carry_out(&mut self, assignment: Assignment) -> Option<Assignment> {
        let started = Instant::now();
        match assignment {
            Assignment::Decode { item, model, bytes, pixels } => {
                let decoded = self.decode(&model, &bytes);
                let took = started.elapsed();
                if decoded.is_ok() {
                    model.learn_decode(pixels, took);
                }
                self.core.decoded(self.id, item, decoded, took)
            }
            Assignment::Run { model, key, items, interrupt } => {
                let results = self.run_isolated(&model, &key, &items, &interrupt);
                items.into_iter().for_each(|it| self.reuse(it.content));
                self.core.ran(self.id, results)
            }
        }
    }

    fn decode(&mut self, model: &ModelRuntime, bytes: &[u8]) -> Result<Pixels, BatchError> {
        let Some(image) = &model.spec.image else {
            return Err(ExecuteError("a picture for a version that takes none".to_owned()).into());
        };
        let workspace = &mut self.workspace;
        let decode = || workspace.prepare(bytes, &image.preprocess, &image.limits);
        match catch_unwind(AssertUnwindSafe(decode)) {
            Ok(decoded) => Ok(decoded?),
            Err(_panic) => {
                tracing::error!(model = %model.spec.label, "a decoder panicked");
                // Its buffers may be half-written.
                self.workspace = Workspace::new();
                Err(ExecuteError("the decoder panicked".to_owned()).into())
            }
        }
    }

    fn reuse(&mut self, content: Content) {
        if let Content::Pixels(pixels) = content {
            self.workspace.reuse(pixels);
        }
    }

    /// Runs items together; if that fails, each alone, so that only the culprit fails.
    fn run_isolated(
        &mut self,
        model: &Arc<ModelRuntime>,
        key: &BatchKey,
        items: &[RunItem],
        interrupt: &Interrupt,
    ) -> Vec<RunResult> {
        let error = match self.run_together(model, key, items, interrupt) {
            Ok(results) => return results,
            // Everyone has been told, or has gone.
            Err(_) if interrupt.is_requested() => return Vec::new(),
            Err(error) => error,
        };
        tracing::error!(model = %model.spec.label, items = items.len(), %error, "a run failed");
        if let [only] = items {
            return vec![failed(only.item, error)];
        }
        let mut results = Vec::with_capacity(items.len());
        for it in items {
            // Whoever has left meanwhile, or been told that time is up, is not worth a run. Asked
            // before each, as the runs before it take their time.
            if !self.core.is_wanted(it.item) {
                continue;
            }
            if let Some(metrics) = &model.spec.metrics {
                metrics.batch_closed(Closed::Isolated);
            }
            match self.run_together(model, key, std::slice::from_ref(it), interrupt) {
                Ok(alone) => results.extend(alone),
                Err(error) => {
                    tracing::error!(model = %model.spec.label, %error, "and alone this item failed");
                    results.push(failed(it.item, error));
                }
            }
        }
        results
    }

    fn run_together(
        &mut self,
        model: &Arc<ModelRuntime>,
        key: &BatchKey,
        items: &[RunItem],
        interrupt: &Interrupt,
    ) -> Result<Vec<RunResult>, ExecuteError> {
        let started = Instant::now();
        let is_first = !self.open.contains_key(&model.key);
        let work = || -> Result<Vec<Vec<NamedTensor>>, ExecuteError> {
            let opened = self.opened(model)?;
            let contents: Vec<_> = items.iter().map(|it| &it.content).collect();
            let feeds = gather::feeds(&contents, model.spec.image.as_ref(), &mut opened.rows)?;
            let executor = &mut opened.executor;
            let interrupter = executor.interrupter();
            let run = || executor.execute(&feeds.borrow(), key.outputs());
            let stopped = || ExecuteError("nobody waits for it any more".to_owned());
            let outputs = interrupt.guard(interrupter, run).ok_or_else(stopped)??;
            let rows: Vec<usize> = items.iter().map(|it| it.rows).collect();
            gather::scatter(outputs, &rows)
        };
        let outputs = match catch_unwind(AssertUnwindSafe(work)) {
            Ok(outputs) => outputs?,
            Err(_panic) => {
                self.open.remove(&model.key);
                return Err(ExecuteError("the runtime panicked".to_owned()));
            }
        };
        let infer = started.elapsed();
        let batch_size = items.iter().map(|it| it.rows).sum();
        if let Some(metrics) = &model.spec.metrics {
            metrics.ran(batch_size);
        }
        // The first opens the session and pays for its memory.
        if !is_first {
            model.learn_run(batch_size, infer);
        }
        let result = |(it, outputs): (&RunItem, _)| RunResult {
            item: it.item,
            outputs: Ok(outputs),
            infer,
            batch_size,
        };
        Ok(items.iter().zip(outputs).map(result).collect())
    }

    fn opened(&mut self, model: &Arc<ModelRuntime>) -> Result<&mut Opened, ExecuteError> {
        use std::collections::hash_map::Entry;
        let site = self.id.site;
        match self.open.entry(model.key) {
            Entry::Occupied(open) => Ok(open.into_mut()),
            Entry::Vacant(place) => {
                let executor = model.spec.program.open(site)?;
                let model = Arc::downgrade(model);
                Ok(place.insert(Opened { model, executor, rows: Rows::default() }))
            }
        }
    }
}

fn failed(item: ItemKey, error: ExecuteError) -> RunResult {
    RunResult {
        item,
        outputs: Err(BatchError::Execute(error)),
        infer: std::time::Duration::ZERO,
        batch_size: 0,
    }
}
