//! What runs of a graph cost, and whether items may share one: measured at load, never assumed.
//!
//! Items may share a run if rows stacked along axis 0 of every input come out as they do alone, in
//! axis 0 of every output. A graph can look as if they do and not: in a time-major recurrent
//! network axis 0 is time, and a row changes those behind it. So the proof runs it both ways, with
//! different rows, at every power of two that is then allowed. A declared `max_batch` says which
//! size to try; it does not stand in for the proof.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use super::manifest::Manifest;
use crate::{
    batch::{Batching, ExecuteError, Executor, Feed},
    onnx::{Signature, TensorSpec},
    types::{DType, Instant, NamedTensor, Tensor, TensorData},
};

/// The sizes tried, in this order.
const SIZES: [usize; 5] = [2, 4, 8, 16, 32];
/// A size is worth its latency if it reaches this share of the best throughput.
const WORTH: f64 = 0.97;
/// Each size is timed so often; the shortest counts, as disturbances only add.
const REPEATS: usize = 3;
/// Rows told apart by the proof.
pub(super) const DISTINCT: usize = 4;
/// How far an output of a shared run may be from that of a run alone, relative to its size. Scores
/// are held to the package's own tolerance, after calibration.
const TOLERANCE: f64 = 1e-3;

/// What was measured.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) batching: Batching,
    /// Why items may not share a run; `None` if they may.
    pub(super) refused: Option<String>,
}

/// What a version is measured by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms<'a> {
    pub(super) signature: &'a Signature,
    pub(super) manifest: &'a Manifest,
    /// The operator's word on how many rows may share a run.
    pub(super) declared: Option<NonZeroUsize>,
    /// A row that takes longer will not be served, so nothing else of it need be known.
    pub(super) limit: Duration,
}

/// Measures a graph in a session that is thrown away afterwards, as its memory grows with the
/// largest run. `rows` are single rows of every input, real ones where there are any, at least two
/// of them different.
///
/// # Errors
/// When the graph cannot be run at all.
pub(super) fn measure(
    executor: &mut dyn Executor,
    terms: Terms<'_>,
    rows: &[Vec<NamedTensor>],
) -> Result<Measured, ExecuteError> {
    let Terms { signature, declared, .. } = terms;
    let outputs: Vec<Arc<str>> = signature.outputs.iter().map(|it| Arc::clone(&it.name)).collect();
    let mut bench = Bench { executor, outputs };
    let Some(first) = rows.first() else {
        return Err(ExecuteError("no rows to measure with".to_owned()));
    };
    let single = bench.time_up_to(first, terms.limit)?;
    let mut run_times = vec![(1, single)];
    if single > terms.limit {
        return Ok(Measured { batching: Batching::single(single), refused: None });
    }
    let alone = rows.iter().map(|it| bench.run(it)).collect::<Result<Vec<_>, _>>()?;

    let fixed = signature.inputs.iter().find(|it| !matches!(it.shape.first(), Some(None)));
    let proof = match fixed {
        Some(input) => Err(format!("axis 0 of input {input} is not open")),
        None => climb(&mut bench, terms, &Rows { rows, alone: &alone }, &mut run_times),
    };
    let max_batch = match (&proof, declared) {
        (Ok(()), Some(declared)) => declared.get(),
        (Ok(()), None) => smallest_worth_it(&run_times),
        (Err(_), _) => 1,
    };
    Ok(Measured { batching: Batching { max_batch, run_times }, refused: proof.err() })
}

/// Times and proves larger and larger runs; the error says why items may not share one.
fn climb(
    bench: &mut Bench<'_>,
    terms: Terms<'_>,
    rows: &Rows<'_>,
    run_times: &mut Vec<(usize, Duration)>,
) -> Result<(), String> {
    let declared = terms.declared.map(|it| [it.get()]);
    let sizes = declared.as_ref().map_or(&SIZES[..], |it| &it[..]);
    let mut best = rows_per_second(run_times[0]);
    for &size in sizes.iter().filter(|it| **it > 1) {
        let inputs = stack(rows.rows, size).ok_or("the rows cannot be stacked")?;
        let together = bench.run(&inputs).map_err(|it| format!("{size} rows: {it}"))?;
        compare(&together, rows.alone, size, terms.manifest)?;
        let took = bench.time_warm(&inputs).map_err(|it| format!("{size} rows: {it}"))?;
        run_times.push((size, took));
        let now = rows_per_second((size, took));
        // A size that gains less than 3 % ends the climb: a convolution network gains nothing on a
        // CPU, and timing it up to 32 would take two seconds of the start.
        if now <= best / WORTH {
            break;
        }
        best = now;
    }
    Ok(())
}

/// Rows, and what came of each alone.
struct Rows<'a> {
    rows: &'a [Vec<NamedTensor>],
    alone: &'a [Vec<NamedTensor>],
}

#[expect(clippy::cast_precision_loss, reason = "a batch is far below 2^52 rows")]
fn rows_per_second((rows, took): (usize, Duration)) -> f64 {
    rows as f64 / took.as_secs_f64().max(1e-9)
}

/// The smallest size within [`WORTH`] of the best throughput.
fn smallest_worth_it(run_times: &[(usize, Duration)]) -> usize {
    let best = run_times.iter().map(|it| rows_per_second(*it)).fold(0.0, f64::max);
    let worth = run_times.iter().find(|it| rows_per_second(**it) >= WORTH * best);
    worth.map_or(1, |(size, _)| *size)
}

/// A session and the names of its outputs.
struct Bench<'a> {
    executor: &'a mut dyn Executor,
    outputs: Vec<Arc<str>>,
}

impl Bench<'_> {
    fn run(&mut self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, ExecuteError> {
        let feed = |it: &'_ NamedTensor| -> (Arc<str>, Vec<usize>) {
            (Arc::clone(&it.name), it.tensor.shape().to_vec())
        };
        let names: Vec<_> = inputs.iter().map(feed).collect();
        let feeds: Vec<Feed<'_>> = names
            .iter()
            .zip(inputs)
            .map(|((name, shape), it)| Feed { name, shape, data: it.tensor.data() })
            .collect();
        self.executor.execute(&feeds, &self.outputs)
    }

    /// Times a run, but not again and again one that takes longer than `limit`. The first run of a
    /// session, which pays for its memory, counts only if it is the only one.
    fn time_up_to(
        &mut self,
        inputs: &[NamedTensor],
        limit: Duration,
    ) -> Result<Duration, ExecuteError> {
        let started = Instant::now();
        self.run(inputs)?;
        let cold = started.elapsed();
        if cold > limit.saturating_mul(2) { Ok(cold) } else { self.time_warm(inputs) }
    }

    /// Times a run of a size that has been run before.
    fn time_warm(&mut self, inputs: &[NamedTensor]) -> Result<Duration, ExecuteError> {
        let mut best = Duration::MAX;
        for _ in 0..REPEATS {
            let started = Instant::now();
            self.run(inputs)?;
            best = best.min(started.elapsed());
        }
        Ok(best)
    }
}

/// `size` rows stacked, the distinct ones over and over.
fn stack(rows: &[Vec<NamedTensor>], size: usize) -> Option<Vec<NamedTensor>> {
    let n_inputs = rows.first()?.len();
    let input = |at: usize| {
        let parts: Vec<&Tensor> = rows
            .iter()
            .cycle()
            .take(size)
            .map(|row| row.get(at).map(|it| &it.tensor))
            .collect::<Option<_>>()?;
        let name = Arc::clone(&rows.first()?.get(at)?.name);
        Some(NamedTensor { name, tensor: Tensor::stack(parts)? })
    };
    (0..n_inputs).map(input).collect()
}

/// Whether each row of a shared run is what it was alone.
fn compare(
    together: &[NamedTensor],
    alone: &[Vec<NamedTensor>],
    size: usize,
    manifest: &Manifest,
) -> Result<(), String> {
    let scores = manifest.outputs.as_ref().map(|it| &it.scores);
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
            let same = if scores == Some(name) {
                same_scores(&got, expected, manifest)
            } else {
                close(got.data(), expected.data())
            };
            if !same {
                return Err(format!("row {row} of output {name} is not what it is alone"));
            }
        }
    }
    Ok(())
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

/// Rows made up from the signature, for a graph that came without samples: every dimension that is
/// open, but for axis 0, becomes `open_dim`; an axis 0 that is fixed keeps its size. The values are
/// arbitrary, differ from row to row, and are the same at every start.
pub(super) fn made_up_rows(
    signature: &Signature,
    open_dim: usize,
) -> Option<Vec<Vec<NamedTensor>>> {
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let mut row = || {
        let tensor = |spec: &TensorSpec| {
            let rest = spec.shape.iter().skip(1).map(|it| it.unwrap_or(open_dim));
            let shape: Vec<usize> =
                spec.shape.first().map(|it| it.unwrap_or(1)).into_iter().chain(rest).collect();
            let len = shape.iter().try_fold(1_usize, |all, &dim| all.checked_mul(dim))?;
            // 256 million elements: beyond it a made-up input says nothing, and fills the memory.
            let data = (len <= 1 << 28).then(|| dice.fill(spec.dtype, len))?;
            let tensor = Tensor::new(shape, data).ok()?;
            Some(NamedTensor { name: Arc::clone(&spec.name), tensor })
        };
        signature.inputs.iter().map(tensor).collect()
    };
    (0..DISTINCT).map(|_| row()).collect()
}

/// A small deterministic generator (SplitMix64); the values need only differ.
struct Dice(u64);

impl Dice {
    /// In -1..1.
    fn unit(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let bits = u16::try_from((z ^ (z >> 31)) >> 48).unwrap_or(0);
        f32::from(bits) / 32_768.0 - 1.0
    }

    /// Numbers in -1..1; whole numbers 0 or 1, which are valid for most indices.
    fn fill(&mut self, dtype: DType, len: usize) -> TensorData {
        macro_rules! whole {
            ($variant:ident) => {
                TensorData::$variant((0..len).map(|_| u8::from(self.unit() > 0.0).into()).collect())
            };
        }
        match dtype {
            DType::F32 => TensorData::F32((0..len).map(|_| self.unit()).collect()),
            DType::F64 => TensorData::F64((0..len).map(|_| self.unit().into()).collect()),
            DType::F16 => {
                TensorData::F16((0..len).map(|_| half::f16::from_f32(self.unit())).collect())
            }
            DType::BF16 => {
                TensorData::BF16((0..len).map(|_| half::bf16::from_f32(self.unit())).collect())
            }
            DType::I8 => TensorData::I8((0..len).map(|_| i8::from(self.unit() > 0.0)).collect()),
            DType::I16 => whole!(I16),
            DType::I32 => whole!(I32),
            DType::I64 => whole!(I64),
            DType::U8 => whole!(U8),
            DType::U16 => whole!(U16),
            DType::U32 => whole!(U32),
            DType::U64 => whole!(U64),
            DType::Bool => TensorData::Bool((0..len).map(|_| self.unit() > 0.0).collect()),
            DType::String => TensorData::String((0..len).map(|_| "a".to_owned()).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_smallest_size_worth_its_latency_is_chosen() {
        // EfficientNet-B0 and a wide MLP, both as measured on one core.
        let flat = [(1, MS * 114), (2, MS * 222), (4, MS * 456)];
        assert_eq!(smallest_worth_it(&flat), 1);
        let gains =
            [(1, MS * 26), (2, MS * 28), (4, MS * 32), (8, MS * 43), (16, MS * 70), (32, MS * 122)];
        assert_eq!(smallest_worth_it(&gains), 32);
    }
}
