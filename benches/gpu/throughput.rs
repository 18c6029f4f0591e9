//! What the lanes answer, against sessions in process on the same device: as many, with as many rows a run.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use futures_util::future::try_join_all;
use linesight::{
    batch::{Bounds, Class, Input, Request},
    types::Instant,
};

use crate::{
    runs::{Session, stack},
    subject::Subject,
};

const WARM_UP: Duration = Duration::from_millis(700);
const MEASURED: Duration = Duration::from_millis(2_500);
const ROUNDS: usize = 3;
/// Callers for each row of a run of every lane: as many rows wait as are run.
const CALLERS: usize = 2;
const CALLER_THREADS: usize = 4;

/// Medians over the rounds.
#[derive(Debug)]
pub struct Rates {
    pub raw: f64,
    pub lanes: f64,
    /// Of each round with what the sessions did before and after it.
    pub ratio: f64,
    pub jpegs: f64,
}

pub fn measure(subject: &Subject, runtime: &tokio::runtime::Runtime) -> Result<Rates> {
    let mut raw = vec![sessions(subject)?];
    let (mut lanes, mut ratios) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let ours = drive(subject, runtime, tensor)?;
        let (before, after) = (raw.last().copied().unwrap_or(f64::NAN), sessions(subject)?);
        ratios.push(ours / f64::midpoint(before, after));
        lanes.push(ours);
        raw.push(after);
    }
    let jpegs = if subject.jpegs.is_empty() { f64::NAN } else { drive(subject, runtime, picture)? };
    Ok(Rates { raw: median(raw), lanes: median(lanes), ratio: median(ratios), jpegs })
}

/// Rows a second of sessions that do nothing but run.
fn sessions(subject: &Subject) -> Result<f64> {
    let plan = &subject.serving.plan;
    // One device is driven: the first, where the sessions are opened.
    let n_sessions = plan.lanes / plan.devices.len().max(1);
    let rows = stack(subject, plan.max_batch)?;
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let open = (0..n_sessions).map(|_| Session::open(subject)).collect::<Result<Vec<_>>>()?;
    std::thread::scope(|scope| {
        let (stop, done, rows) = (&stop, &done, &rows);
        let work = |mut session: Session| -> Result<()> {
            while !stop.load(Ordering::Relaxed) {
                session.run(rows)?;
                done.fetch_add(plan.max_batch, Ordering::Relaxed);
            }
            Ok(())
        };
        let threads: Vec<_> = open.into_iter().map(|it| scope.spawn(move || work(it))).collect();
        pause(WARM_UP);
        let (before, started) = (done.load(Ordering::Relaxed), Instant::now());
        pause(MEASURED);
        let rate = per_second(done.load(Ordering::Relaxed) - before, started.elapsed());
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().map_err(|_panic| anyhow!("a session's thread panicked"))??;
        }
        Ok(rate)
    })
}

/// The golden pictures, decoded.
fn tensor(subject: &Subject, at: usize) -> Option<Input> {
    let row = subject.rows.get(at % subject.rows.len())?;
    Some(Input::Tensors(vec![row.clone()]))
}

/// And as they came.
fn picture(subject: &Subject, at: usize) -> Option<Input> {
    let (bytes, header) = subject.jpegs.get(at % subject.jpegs.len())?;
    Some(Input::Image { bytes: bytes.clone(), header: *header })
}

/// Items a second through the lanes, of callers with one item at a time each. Copying a row for a request
/// takes a caller longer than a GPU takes to run it, so callers have threads too.
fn drive(
    subject: &Subject,
    runtime: &tokio::runtime::Runtime,
    input: fn(&Subject, usize) -> Option<Input>,
) -> Result<f64> {
    let window = (Instant::now() + WARM_UP, Instant::now() + WARM_UP + MEASURED);
    let plan = &subject.serving.plan;
    let n_callers = plan.lanes * plan.max_batch * CALLERS;
    let n_threads = std::thread::available_parallelism()?.get().min(CALLER_THREADS);
    let drive_some = |first: usize| {
        let callers = (first..n_callers).step_by(n_threads);
        let callers = callers.map(|it| call(subject, it, window, input));
        let done = runtime.handle().block_on(try_join_all(callers))?;
        anyhow::Ok(done.iter().sum::<usize>())
    };
    let mut items = 0;
    std::thread::scope(|scope| {
        let drive_some = &drive_some;
        let threads: Vec<_> =
            (0..n_threads).map(|it| scope.spawn(move || drive_some(it))).collect();
        for thread in threads {
            items += thread.join().map_err(|_panic| anyhow!("a caller panicked"))??;
        }
        anyhow::Ok(())
    })?;
    Ok(per_second(items, MEASURED))
}

/// One caller: items answered within the window.
async fn call(
    subject: &Subject,
    first: usize,
    (from, to): (Instant, Instant),
    input: fn(&Subject, usize) -> Option<Input>,
) -> Result<usize> {
    let scores = &subject.serving.manifest.outputs.as_ref().context("it has no scores")?.scores;
    let outputs: Arc<[Arc<str>]> = Arc::from([Arc::clone(scores)]);
    let mut items = 0;
    for at in first.. {
        if Instant::now() >= to {
            break;
        }
        let request = Request {
            input: input(subject, at).context("no picture")?,
            outputs: Arc::clone(&outputs),
            class: Class::Normal,
            bounds: Bounds::until(to + MEASURED * 100),
        };
        subject.serving.lanes.infer(request).await?;
        let now = Instant::now();
        items += usize::from(from <= now && now < to);
    }
    Ok(items)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[expect(clippy::cast_precision_loss, reason = "counts, far below 2^52")]
pub fn per_second(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64().max(1e-9)
}

#[expect(clippy::disallowed_methods, reason = "it measures real time")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}
