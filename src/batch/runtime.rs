//! What the lanes must know of a version: how to open it, how pictures become its input, and what
//! its runs cost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;

use super::{
    event::ModelKey,
    executor::Program,
    scheduler::Terms,
    site::{Cost, Placement},
};
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
    /// Where its runs may happen.
    pub placement: Placement,
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

impl Batching {
    /// Measured time of a run of so many rows; between two measured sizes on the line through both,
    /// beyond the largest by the row.
    #[must_use]
    pub fn run_time(&self, rows: usize) -> Duration {
        let at = |(size, took): &(usize, Duration)| (to_f64(*size), took.as_secs_f64());
        let wanted = to_f64(rows.max(1));
        let above = self.run_times.iter().map(at).find(|it| it.0 >= wanted);
        let below = self.run_times.iter().map(at).rfind(|it| it.0 <= wanted);
        let seconds = match (below, above) {
            (Some(below), Some(above)) if below.0 < above.0 => {
                below.1 + (above.1 - below.1) * (wanted - below.0) / (above.0 - below.0)
            }
            (_, Some(one)) | (Some(one), None) => one.1 * (wanted / one.0).max(1.0),
            (None, None) => 0.0,
        };
        Duration::try_from_secs_f64(seconds).unwrap_or_default()
    }
}

#[expect(clippy::cast_precision_loss, reason = "rows of a run, far below 2^52")]
fn to_f64(rows: usize) -> f64 {
    rows as f64
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
    /// How long runs take, of what was measured alone: a running mean, as the bits of an `f64`.
    run_pace: AtomicU64,
    /// Its queue is closed.
    removed: AtomicBool,
    /// Nanoseconds by which all but a few answers are late at most, of when they were predicted.
    miss_nanos: AtomicU64,
}

/// Below this many pixels a picture costs about the same: headers, tables, resizing to the input.
/// Counting fewer would read a thumbnail's fixed cost as a huge cost per megapixel.
const FEWEST_PIXELS: u64 = 250_000;

/// Decoding a megapixel of JPEG took 3.0 ms on one 2026 server core; the start of the running mean.
const DECODE_NANOS_PER_MEGAPIXEL: u64 = 3_000_000;

/// The share of the newest run in [`ModelRuntime::run_pace`].
const SHARE_OF_RUN: f64 = 1.0 / 16.0;

/// One answer in so many may be later than the reserve foresees.
const ONE_IN: u64 = 100;
/// What an answer in time takes off the reserve; one that is late adds `ONE_IN - 1` times as much.
const MISS_STEP_NANOS: u64 = 20_000;
/// The least that is taken off a target: a 20th part of it. What the sockets and the client add after the
/// last byte was sent, and before the first is read, cannot be seen from here.
const LEAST_RESERVE: u32 = 20;
/// And the most: a sixth of it. A machine that stood still makes all that waited late at once, and much is
/// learnt from that which will not come again soon.
const MOST_RESERVE: u32 = 6;

impl ModelRuntime {
    pub(super) fn new(key: ModelKey, spec: ModelSpec) -> Self {
        let batching = ArcSwap::from_pointee(spec.batching.clone());
        let decode_nanos_per_megapixel = AtomicU64::new(DECODE_NANOS_PER_MEGAPIXEL);
        Self {
            key,
            spec,
            batching,
            decode_nanos_per_megapixel,
            last_pixels: AtomicU64::new(0),
            run_pace: AtomicU64::new(1.0_f64.to_bits()),
            removed: AtomicBool::new(false),
            miss_nanos: AtomicU64::new(0),
        }
    }

    /// Whether its queue has been closed.
    pub(super) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// Takes note that its queue has been closed.
    pub(super) fn set_removed(&self) {
        self.removed.store(true, Ordering::Release);
    }

    /// Predicted cost of an item of which nothing is known yet: that of one like the last.
    pub(super) fn typical_cost(&self) -> Cost {
        let decode = match self.last_pixels.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            pixels => self.decode_time(pixels),
        };
        Cost { decode, run: self.run_time(1) }
    }

    /// Predicted core time of so many rows, each in a run as full as allowed.
    pub(super) fn run_time(&self, rows: usize) -> Duration {
        let per_row = self.batching.load().run_time_per_row();
        per_row.mul_f64(self.run_pace()) * u32::try_from(rows).unwrap_or(u32::MAX)
    }

    fn run_pace(&self) -> f64 {
        f64::from_bits(self.run_pace.load(Ordering::Relaxed))
    }

    /// Learns from a run. Lanes that run beside each other, and beside the sockets, take longer than
    /// one that was measured alone.
    pub(super) fn learn_run(&self, rows: usize, took: Duration) {
        let measured = self.batching.load().run_time(rows);
        if measured.is_zero() {
            return;
        }
        let (old, seen) = (self.run_pace(), took.as_secs_f64() / measured.as_secs_f64());
        // One run may have been stopped for seconds, with the whole machine: it says little.
        let seen = seen.clamp(old / 2.0, old * 2.0);
        let new = (old + SHARE_OF_RUN * (seen - old)).clamp(0.125, 64.0);
        // Two lanes may race: losing one of the two samples does no harm.
        self.run_pace.store(new.to_bits(), Ordering::Relaxed);
    }

    /// What is set aside of the target for what a prediction misses.
    pub(super) fn reserve(&self) -> Duration {
        let Terms { target, reserve, .. } = self.spec.terms;
        reserve.unwrap_or_else(|| {
            let learnt = Duration::from_nanos(self.miss_nanos.load(Ordering::Relaxed));
            (target / LEAST_RESERVE + learnt).min(target / MOST_RESERVE)
        })
    }

    /// Moves the quantile of misses: far up where an answer came later than foreseen, a little down
    /// where it did not, which rests where one in [`ONE_IN`] is later (H. Robbins, S. Monro: A
    /// Stochastic Approximation Method. Annals of Mathematical Statistics 22(3), 1951).
    pub(super) fn learn_miss(&self, miss: Duration) {
        let known = self.miss_nanos.load(Ordering::Relaxed);
        let seen = u64::try_from(miss.as_nanos()).unwrap_or(u64::MAX);
        let moved = if seen > known {
            known.saturating_add((ONE_IN - 1) * MISS_STEP_NANOS).min(seen)
        } else {
            known.saturating_sub(MISS_STEP_NANOS)
        };
        let most = self.spec.terms.target / MOST_RESERVE;
        let most = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
        // Two items may race: losing one of the two steps does no harm.
        self.miss_nanos.store(moved.min(most), Ordering::Relaxed);
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
