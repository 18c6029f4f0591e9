//! Whether items may share a run: proven at load, never assumed and never remembered.
//!
//! Items may share a run if rows stacked along axis 0 of every input come out as they do alone, in
//! axis 0 of every output. A graph can look as if they do and not: in a time-major recurrent
//! network axis 0 is time, and a row changes those behind it. So the proof runs it both ways, with
//! different rows, at every size that is then allowed. A declared `max_batch` says which size to
//! try; it does not stand in for the proof.

use std::sync::Arc;

use super::{bench::Bench, measure::Subject, rows::stack};
use crate::{
    batch::ExecuteError,
    onnx::Signature,
    repository::manifest::Manifest,
    types::{NamedTensor, Tensor, TensorData},
};

/// How far an output of a shared run may be from that of a run alone, relative to its size. Scores
/// are held to the package's own tolerance, after calibration.
const TOLERANCE: f64 = 1e-3;

/// What is measured, and what came of its rows alone, on one thread.
#[derive(Debug)]
pub(super) struct Proof<'a> {
    pub(super) subject: Subject<'a>,
    /// Of as many rows as were needed so far: a package may bring dozens.
    alone: Vec<Vec<NamedTensor>>,
}

/// Why items may not share a run of a size.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unproven {
    /// It cannot be run at all: it may be too large for the memory there is.
    #[error("{0} rows: {1}")]
    Failed(usize, ExecuteError),
    /// It can, and they do not get what they get alone; or there is no such run.
    #[error("{0}")]
    Unsound(String),
}

impl From<String> for Unproven {
    fn from(why: String) -> Self {
        Self::Unsound(why)
    }
}

impl From<&str> for Unproven {
    fn from(why: &str) -> Self {
        Self::Unsound(why.to_owned())
    }
}

impl<'a> Proof<'a> {
    /// With what came of the first row alone, on one thread.
    pub(super) fn new(subject: Subject<'a>, first: Vec<NamedTensor>) -> Self {
        Self { subject, alone: vec![first] }
    }

    /// Runs `size` rows together and compares each with what it is alone; gives the input, so that
    /// it can be timed. One row has nothing to share with: it need only be itself.
    ///
    /// `bench` has one thread, or the size was proven with one that has.
    ///
    /// # Errors
    /// Why items may not share a run of that size.
    pub(super) fn of(
        &mut self,
        size: usize,
        bench: &mut Bench,
    ) -> Result<Vec<NamedTensor>, Unproven> {
        if size == 1 {
            let row = self.subject.rows.first().ok_or("there are no rows to measure with")?;
            let outputs = bench.run(row).map_err(|it| it.0)?;
            self.same_alone(&outputs)?;
            return Ok(row.clone());
        }
        has_room(self.subject.graph.signature())?;
        let inputs = stack(self.subject.rows, size).ok_or("the rows cannot be stacked")?;
        self.run_alone(size, bench)?;
        let together = bench.run(&inputs).map_err(|it| Unproven::Failed(size, it))?;
        compare(&together, &self.alone, size, self.subject.manifest)?;
        Ok(inputs)
    }

    /// Runs those of the first `size` rows that were not run yet.
    fn run_alone(&mut self, size: usize, bench: &mut Bench) -> Result<(), String> {
        for row in self.subject.rows.iter().take(size).skip(self.alone.len()) {
            let outputs = bench.run(row).map_err(|it| format!("a row by itself: {it}"))?;
            self.alone.push(outputs);
        }
        Ok(())
    }

    /// Whether the outputs of the first row are those it had alone on one thread.
    fn same_alone(&self, outputs: &[NamedTensor]) -> Result<(), String> {
        let expected = self.alone.first().map(Vec::as_slice).unwrap_or_default();
        let differs = outputs.iter().zip(expected).find(|(got, expected)| {
            got.tensor.shape() != expected.tensor.shape()
                || !same(&got.name, &got.tensor, &expected.tensor, self.subject.manifest)
        });
        match differs {
            Some((got, _)) => Err(format!("output {} is not what it is on one thread", got.name)),
            None => Ok(()),
        }
    }
}

/// Whether a graph takes more than one row at all.
///
/// # Errors
/// Why it does not.
pub(super) fn has_room(signature: &Signature) -> Result<(), String> {
    let fixed = signature.inputs.iter().find(|it| !matches!(it.shape.first(), Some(None)));
    fixed.map_or(Ok(()), |input| Err(format!("axis 0 of input {input} is not open")))
}

/// Whether each row of a shared run is what it was alone.
fn compare(
    together: &[NamedTensor],
    alone: &[Vec<NamedTensor>],
    size: usize,
    manifest: &Manifest,
) -> Result<(), String> {
    for (at, output) in together.iter().enumerate() {
        let (name, shape) = (&output.name, output.tensor.shape());
        if shape.first() != Some(&size) {
            return Err(format!("output {name} has shape {shape:?} for {size} rows"));
        }
        for (row, alone) in (0..size).zip(alone.iter().cycle()) {
            let Some(expected) = alone.get(at).map(|it| &it.tensor) else { continue };
            let got = output.tensor.rows(row..row + 1);
            if expected.shape() != got.shape() {
                return Err(format!("output {name} has another shape alone"));
            }
            if !same(name, &got, expected, manifest) {
                return Err(format!("row {row} of output {name} is not what it is alone"));
            }
        }
    }
    Ok(())
}

/// Whether an output is the same to the tolerance it is held to.
fn same(name: &Arc<str>, got: &Tensor, expected: &Tensor, manifest: &Manifest) -> bool {
    if manifest.outputs.as_ref().is_some_and(|it| it.scores == *name) {
        same_scores(got, expected, manifest)
    } else {
        close(got.data(), expected.data())
    }
}

/// Whether two rows of scores are the same to the tolerance that `approve_at` is raised by, which is
/// one of calibrated scores: so no run an item shares can lift it over the threshold.
fn same_scores(a: &Tensor, b: &Tensor, manifest: &Manifest) -> bool {
    let (Some(calibration), Some(a), Some(b)) = (&manifest.calibration, a.as_f32(), b.as_f32())
    else {
        return close(a.data(), b.data());
    };
    match (calibration.apply(a), calibration.apply(b)) {
        (Ok(a), Ok(b)) => {
            let near = |(a, b): (&f32, &f32)| {
                (f64::from(*a) - f64::from(*b)).abs() <= manifest.tolerance.scores
            };
            a.as_slice().iter().zip(b.as_slice()).all(near)
        }
        // What cannot be judged alone cannot be judged together.
        (a, b) => a.is_err() && b.is_err(),
    }
}

fn close(a: &TensorData, b: &TensorData) -> bool {
    let near = |a: f64, b: f64| {
        a.total_cmp(&b).is_eq() || (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()).max(1.0)
    };
    match (a, b) {
        (TensorData::F32(a), TensorData::F32(b)) => {
            a.iter().zip(b).all(|(a, b)| near((*a).into(), (*b).into()))
        }
        (TensorData::F64(a), TensorData::F64(b)) => a.iter().zip(b).all(|(a, b)| near(*a, *b)),
        (TensorData::F16(a), TensorData::F16(b)) => {
            a.iter().zip(b).all(|(a, b)| near((*a).into(), (*b).into()))
        }
        // Whole numbers and words are the same or they are not.
        (a, b) => a == b,
    }
}
