//! A size at a time, in one session: whether rows come out of a shared run as they do alone, and how long
//! it takes.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, anyhow};
use linesight::{
    batch::{ExecuteError, Executor as _, Feed},
    onnx::OrtExecutor,
    types::{Instant, Tensor},
};

use crate::subject::Subject;

/// The sizes on cores, and up to the last on a device.
const SIZES: [usize; 8] = [1, 2, 4, 8, 16, 32, 64, 128];
const LARGEST_ON_CORES: usize = 16;
/// Runs of a size that are timed, of which the shortest counts: a disturbance only makes one longer.
const TIMED: usize = 8;

/// What came of a size.
#[derive(Debug)]
pub struct Size {
    pub rows: usize,
    /// `None`: it does not run.
    pub took: Option<Duration>,
    /// By how much a calibrated score differs at most from that of the row alone.
    pub deviation: f64,
}

impl Size {
    pub fn is_sound(&self, tolerance: f64) -> bool {
        self.took.is_none() || self.deviation <= tolerance
    }
}

/// A session, and what its runs ask for.
pub struct Session {
    executor: OrtExecutor,
    input: Arc<str>,
    scores: [Arc<str>; 1],
}

impl Session {
    pub fn open(subject: &Subject) -> Result<Self> {
        let outputs = subject.serving.manifest.outputs.as_ref().context("it has no scores")?;
        let input = subject.serving.signature.inputs.first().context("it has no input")?;
        Ok(Self {
            executor: subject.graph.open_at(subject.graph.site())?,
            input: Arc::clone(&input.name),
            scores: [Arc::clone(&outputs.scores)],
        })
    }

    pub fn run(&mut self, rows: &Tensor) -> Result<Tensor, ExecuteError> {
        let feed = Feed { name: &self.input, shape: rows.shape(), data: rows.data() };
        let outputs = self.executor.execute(&[feed], &self.scores)?;
        let first = outputs.into_iter().next().map(|it| it.tensor);
        first.ok_or_else(|| ExecuteError("no scores".to_owned()))
    }
}

/// So many rows, the golden ones over and over.
pub fn stack(subject: &Subject, size: usize) -> Result<Tensor> {
    let rows: Vec<&Tensor> = subject.rows.iter().map(|it| &it.tensor).cycle().take(size).collect();
    Tensor::stack(rows).context("the rows cannot be stacked")
}

pub fn measure(subject: &Subject) -> Result<Vec<Size>> {
    let is_device = !subject.serving.plan.devices.is_empty();
    let fixed = subject.serving.signature.inputs.iter().any(|it| it.shape.first() != Some(&None));
    let mut session = Session::open(subject)?;
    let mut alone = Vec::new();
    for row in &subject.rows {
        alone.push(scores(subject, &session.run(&row.tensor)?)?);
    }
    let mut sizes = Vec::new();
    for size in SIZES.into_iter().filter(|it| is_device || *it <= LARGEST_ON_CORES) {
        if fixed && size > 1 {
            break;
        }
        let rows = stack(subject, size)?;
        let together = match session.run(&rows) {
            Ok(together) => together,
            Err(_) if size > 1 => {
                sizes.push(Size { rows: size, took: None, deviation: 0.0 });
                break;
            }
            Err(error) => return Err(error.into()),
        };
        let mut deviation: f64 = 0.0;
        for (at, expected) in (0..size).zip(alone.iter().cycle()) {
            let found = scores(subject, &together.rows(at..at + 1))?;
            for (found, expected) in found.iter().zip(expected) {
                deviation = deviation.max((f64::from(*found) - f64::from(*expected)).abs());
            }
        }
        let mut took = Duration::MAX;
        for _ in 0..TIMED {
            let started = Instant::now();
            session.run(&rows)?;
            took = took.min(started.elapsed());
        }
        sizes.push(Size { rows: size, took: Some(took), deviation });
    }
    Ok(sizes)
}

/// Scores as clients get them.
fn scores(subject: &Subject, row: &Tensor) -> Result<Vec<f32>> {
    let logits = row.as_f32().context("the scores are not f32")?;
    let Some(calibration) = &subject.serving.manifest.calibration else {
        return Ok(logits.to_vec());
    };
    let scores =
        calibration.apply(logits).map_err(|it| anyhow!("the scores are unusable: {it}"))?;
    Ok(scores.as_slice().to_vec())
}
