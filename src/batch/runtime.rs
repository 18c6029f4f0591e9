//! What the lanes must know of a version: how to open it, how pictures become its input, and what
//! its runs cost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;

use super::{event::ModelKey, executor::Program, scheduler::Terms};
use crate::{
    imaging::{Limits, Preprocess},
    metrics::VersionMetrics,
};

/// A version as it is handed to the scheduler.
#[derive(Debug)]
pub struct ModelSpec {
    /// For log lines: name and version.
    pub label: String,
    /// What lanes open.
    pub program: Arc<dyn Program>,
    /// How a picture becomes the input; `None` for a version that takes only tensors.
    pub image: Option<ImageInput>,
    /// Rows a run may have, and what runs cost, to begin with.
    pub batching: Batching,
    /// Runs at once; `None`: as many as there are lanes.
    pub max_lanes: Option<usize>,
    /// What its items are held to.
    pub terms: Terms,
    /// Where its runs are counted.
    pub metrics: Option<Arc<VersionMetrics>>,
}

/// How a picture becomes the one input of a version.
#[derive(Debug)]
pub struct ImageInput {
    /// The input's name in the graph.
    pub input: Arc<str>,
    /// What happens to the pixels.
    pub preprocess: Preprocess,
    /// What is refused.
    pub limits: Limits,
}

/// How many rows share a run, and what that costs.
#[derive(Debug, Clone, PartialEq)]
pub struct Batching {
    /// Rows a run of several items may have at most; 1 where sharing is not proven.
    pub max_batch: usize,
    /// Measured run time by number of rows, on one thread, ascending; not empty.
    pub run_times: Vec<(usize, Duration)>,
}

impl Batching {
    /// One row a run, at a cost.
    #[must_use]
    pub fn single(run: Duration) -> Self {
        Self { max_batch: 1, run_times: vec![(1, run)] }
    }

    /// A row's share of a run as full as allowed.
    #[must_use]
    pub fn run_time_per_row(&self) -> Duration {
        let fits = |it: &&(usize, Duration)| it.0 <= self.max_batch;
        let best = self.run_times.iter().rfind(fits).or(self.run_times.first());
        best.map_or(Duration::ZERO, |(rows, took)| {
            *took / u32::try_from((*rows).max(1)).unwrap_or(u32::MAX)
        })
    }
}

/// A version in the scheduler's keeping.
#[derive(Debug)]
pub(super) struct ModelRuntime {
    pub(super) key: ModelKey,
    pub(super) spec: ModelSpec,
    /// What is known by now of its runs.
    pub(super) batching: ArcSwap<Batching>,
    /// Nanoseconds of decoding for a million pixels: a running mean, as it depends on the pictures.
    decode_nanos_per_megapixel: AtomicU64,
    /// Pixels of the last picture that was decoded; 0 before the first.
    last_pixels: AtomicU64,
    /// Nanoseconds that 99 of 100 items take at most beside waiting, decoding and running.
    rest_nanos: AtomicU64,
}

/// Below this many pixels a picture costs about the same: headers, tables, resizing to the input.
/// Counting fewer would read a thumbnail's fixed cost as a huge cost per megapixel.
const FEWEST_PIXELS: u64 = 250_000;

/// Decoding a megapixel of JPEG took 3.0 ms on one 2026 server core; the start of the running mean.
const DECODE_NANOS_PER_MEGAPIXEL: u64 = 3_000_000;

/// A hundred items at the most move the estimate of the rest by 2 ms.
const REST_STEP_NANOS: u64 = 20_000;

impl ModelRuntime {
    pub(super) fn new(key: ModelKey, spec: ModelSpec) -> Self {
        let batching = ArcSwap::from_pointee(spec.batching.clone());
        let decode_nanos_per_megapixel = AtomicU64::new(DECODE_NANOS_PER_MEGAPIXEL);
        let (last_pixels, rest_nanos) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { key, spec, batching, decode_nanos_per_megapixel, last_pixels, rest_nanos }
    }

    /// Predicted core time of an item of which nothing is known yet: that of one like the last.
    pub(super) fn typical_cost(&self) -> Duration {
        let decode = match self.last_pixels.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            pixels => self.decode_time(pixels),
        };
        decode + self.batching.load().run_time_per_row()
    }

    /// What is set aside of the target for everything but waiting, decoding and running.
    pub(super) fn reserve(&self) -> Duration {
        Duration::from_nanos(self.rest_nanos.load(Ordering::Relaxed))
    }

    /// Moves the 99th percentile of the rest: up by 99 steps where an item took longer, down by one
    /// where it did not, which rests where one in a hundred takes longer (H. Robbins, S. Monro: A
    /// Stochastic Approximation Method. Annals of Mathematical Statistics 22(3), 1951).
    pub(super) fn learn_rest(&self, rest: Duration) {
        let most = u64::try_from(self.spec.terms.target.as_nanos()).unwrap_or(u64::MAX) / 4;
        let known = self.rest_nanos.load(Ordering::Relaxed);
        let seen = u64::try_from(rest.as_nanos()).unwrap_or(u64::MAX);
        let moved = if seen > known {
            known.saturating_add(99 * REST_STEP_NANOS).min(seen)
        } else {
            known.saturating_sub(REST_STEP_NANOS)
        };
        // Two items may race: losing one of the two steps does no harm.
        self.rest_nanos.store(moved.min(most), Ordering::Relaxed);
    }

    /// Predicted time to decode a picture of so many pixels.
    pub(super) fn decode_time(&self, pixels: u64) -> Duration {
        let rate = self.decode_nanos_per_megapixel.load(Ordering::Relaxed);
        Duration::from_nanos(pixels.max(FEWEST_PIXELS).saturating_mul(rate) / 1_000_000)
    }

    /// Learns from a picture that was decoded; an eighth of the new value enters the mean.
    pub(super) fn learn_decode(&self, pixels: u64, took: Duration) {
        self.last_pixels.store(pixels, Ordering::Relaxed);
        let old = self.decode_nanos_per_megapixel.load(Ordering::Relaxed);
        let seen =
            took.as_nanos().saturating_mul(1_000_000) / u128::from(pixels.max(FEWEST_PIXELS));
        let seen = u64::try_from(seen).unwrap_or(u64::MAX);
        let new = (old / 8 * 7).saturating_add(seen / 8).clamp(10_000, 10_000_000_000);
        // Two lanes may race: losing one of the two samples does no harm.
        self.decode_nanos_per_megapixel.store(new, Ordering::Relaxed);
    }
}
