//! What a version may use: a pure function of the ground it runs on, the profile and `model.toml`.
//!
//! Every choice comes with the sentence that gives its reason, since an operator who does not know
//! why will override it.

use std::{num::NonZeroUsize, time::Duration};

use super::{LatencyModel, Profile, Sharing, latency::rows_per_second};
use crate::repository::{device::Compute, model_config::Runtime};

/// A size is worth its latency if it reaches this share of the best throughput.
pub(super) const WORTH: f64 = 0.97;
/// One item on all cores is worth it if it takes at most this share of its time on one.
const WIDE_WORTH: f64 = 0.8;
/// A lane's session has one thread: measured on convolution networks, streams answer more than
/// threads inside a run do, and a lane that waits for no other keeps its promise.
const THREADS_PER_LANE: usize = 1;
/// The sizes that are tried, in this order.
const SIZES: [usize; 7] = [2, 4, 8, 16, 32, 64, 128];
/// The largest of them that is tried on cores.
const LARGEST_ON_CORES: usize = 32;
/// Lanes of a device where nobody says otherwise: while one waits for it, the other gathers and copies.
const LANES_OF_DEVICE: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1);
/// More sessions than that take memory from a device, and give it nothing to do.
pub(in crate::repository) const MOST_LANES_OF_DEVICE: usize = 8;

/// Where a version's runs happen, as far as planning needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ground<'a> {
    /// Cores this process may use.
    pub cores: NonZeroUsize,
    /// The devices of the version; none where it runs on cores.
    pub devices: &'a [u32],
}

impl Ground<'_> {
    /// Whether a device runs it, not cores.
    #[must_use]
    pub fn is_device(&self) -> bool {
        !self.devices.is_empty()
    }
}

/// How a version is run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunPlan {
    /// What computes it.
    pub compute: Compute,
    /// Runs at once, on all devices together.
    pub lanes: usize,
    /// The devices of its lanes, each with as many; none where they are cores.
    pub devices: Vec<u32>,
    /// Threads of each.
    pub threads_per_lane: usize,
    /// Rows a run of several items may have.
    pub max_batch: usize,
    /// Working memory a lane takes with runs of that size, where it is known.
    pub lane_bytes: Option<u64>,
    /// Whether one item would be run on all cores while nothing else waits.
    pub wide: Wide,
    /// Why so many lanes.
    pub why_lanes: String,
    /// Why so many threads.
    pub why_threads: String,
    /// Why so many rows.
    pub why_max_batch: String,
}

impl RunPlan {
    /// Working memory that its lanes take of the process, as far as it is known: on devices, theirs.
    #[must_use]
    pub fn process_bytes(&self) -> u64 {
        let lanes = if self.devices.is_empty() { self.lanes } else { 0 };
        let lanes = u64::try_from(lanes).unwrap_or(u64::MAX);
        self.lane_bytes.unwrap_or_default().saturating_mul(lanes)
    }
}

/// Whether running one item on all cores would gain anything. No lane does so in this version:
/// the profile says whether building one would be worth it.
#[derive(Debug, Clone, PartialEq)]
pub enum Wide {
    /// On all cores it takes this share of its time on one, which would be worth it.
    Worth(f64),
    /// It takes this share, which would not.
    NotWorth(f64),
    /// All cores are one.
    OneCore,
    /// No core runs it.
    Device,
    /// On several threads its outputs differ from those it was proven by.
    Differs(String),
    /// Not measured.
    Unknown,
}

impl Wide {
    /// The word of logs and answers.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Worth(_) => "worth it, not built",
            Self::NotWorth(_) => "not worth it",
            Self::OneCore => "one core",
            Self::Device => "on a device",
            Self::Differs(_) => "other outputs",
            Self::Unknown => "not measured",
        }
    }

    /// L(1, all) / L(1, 1), where both were measured.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        match self {
            Self::Worth(ratio) | Self::NotWorth(ratio) => Some(*ratio),
            Self::OneCore | Self::Device | Self::Differs(_) | Self::Unknown => None,
        }
    }

    /// The reason, as a sentence.
    #[must_use]
    pub fn why(&self) -> String {
        let share = |ratio: &f64, verb: &str| {
            format!(
                "one item on all cores takes {ratio:.2} of its time on one; at most {WIDE_WORTH} {verb}"
            )
        };
        match self {
            Self::Worth(ratio) => {
                format!("{}, but no lane does so in this version", share(ratio, "is worth it"))
            }
            Self::NotWorth(ratio) => share(ratio, "would be worth it"),
            Self::OneCore => "there is only one core".to_owned(),
            Self::Device => "a device runs it, not cores".to_owned(),
            Self::Differs(why) => format!("on all cores {why}"),
            Self::Unknown => "L(1, all cores) was not measured".to_owned(),
        }
    }
}

/// What `model.toml` asks for and cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// More lanes than may compute at once.
    #[error(
        "[runtime] lanes = {asked} in model.toml is more than the {cores} this process has, one for \
         each core it may use; allowed are 1 to {cores}"
    )]
    TooManyLanes {
        /// What the key says.
        asked: NonZeroUsize,
        /// What there is.
        cores: NonZeroUsize,
    },
    /// More lanes than a device has use for.
    #[error(
        "[runtime] lanes = {asked} in model.toml is more than a device has use for; allowed are 1 to \
         {MOST_LANES_OF_DEVICE} on each"
    )]
    TooManyLanesOfDevice {
        /// What the key says.
        asked: NonZeroUsize,
    },
    /// A lane needs more for one row.
    #[error(
        "a lane needs {} MiB to run one row, more than [runtime] memory in model.toml allows ({} MiB)",
        mebibytes(*needed), mebibytes(*allowed)
    )]
    Memory {
        /// Bytes.
        needed: u64,
        /// Bytes.
        allowed: u64,
    },
    /// Nothing is known of its memory.
    #[error(
        "[runtime] memory in model.toml cannot be kept: this ONNX Runtime does not count what a \
         session takes"
    )]
    MemoryUnknown,
}

/// Rounded up, so that what is said to be needed is enough.
pub(super) fn mebibytes(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

/// Plans a version; what computes it is for the caller to say.
///
/// # Errors
/// When `model.toml` asks for what cannot be had.
pub(in crate::repository) fn plan(
    ground: Ground<'_>,
    profile: &Profile,
    asked: &Runtime,
) -> Result<RunPlan, PlanError> {
    let (lanes, why_lanes) = lanes(ground, asked)?;
    let (max_batch, why_max_batch) = max_batch(ground, profile, asked)?;
    Ok(RunPlan {
        compute: Compute::default(),
        lanes,
        devices: ground.devices.to_vec(),
        threads_per_lane: THREADS_PER_LANE,
        max_batch,
        lane_bytes: profile.lane_bytes.get(&max_batch).copied(),
        wide: wide(ground, profile),
        why_lanes,
        why_threads: why_threads(ground, &profile.latency, max_batch),
        why_max_batch,
    })
}

/// How many lanes a version may use at a time.
///
/// # Errors
/// When `model.toml` asks for more than there are.
pub(in crate::repository) fn lanes(
    ground: Ground<'_>,
    asked: &Runtime,
) -> Result<(usize, String), PlanError> {
    let Ground { cores, devices } = ground;
    if ground.is_device() {
        let each = asked.lanes.unwrap_or(LANES_OF_DEVICE);
        if each.get() > MOST_LANES_OF_DEVICE {
            return Err(PlanError::TooManyLanesOfDevice { asked: each });
        }
        let why = match asked.lanes {
            Some(_) => "[runtime] lanes in model.toml, on each device",
            None => "two for each device: one gathers and copies while the other computes",
        };
        return Ok((each.get() * devices.len(), why.to_owned()));
    }
    match asked.lanes {
        Some(asked) if asked > cores => Err(PlanError::TooManyLanes { asked, cores }),
        Some(asked) => Ok((asked.get(), "[runtime] lanes in model.toml".to_owned())),
        None => Ok((cores.get(), "one for each core; a lane decodes and runs".to_owned())),
    }
}

/// The most rows that may share a run, and why so many.
///
/// # Errors
/// When not even one row fits the memory a lane may use.
pub(super) fn max_batch(
    ground: Ground<'_>,
    profile: &Profile,
    asked: &Runtime,
) -> Result<(usize, String), PlanError> {
    // On a device the provider itself keeps to it: what does not fit could not be measured.
    if let Some(allowed) = asked.memory
        && !ground.is_device()
    {
        let needed = *profile.lane_bytes.get(&1).ok_or(PlanError::MemoryUnknown)?;
        if needed > allowed {
            return Err(PlanError::Memory { needed, allowed });
        }
    }
    if let Sharing::Refused(why) = &profile.sharing {
        return Ok((1, format!("items may not share a run: {why}")));
    }
    let all: Vec<_> = profile.latency.measured(THREADS_PER_LANE).collect();
    let fitting: Vec<_> =
        all.iter().copied().filter(|(size, _)| fits(ground, profile, asked, *size)).collect();
    let bounded = if fitting.len() < all.len() {
        ", as far as [runtime] memory allows"
    } else if profile.too_large.is_some() {
        ", as far as the memory of the device goes"
    } else {
        ""
    };
    if let Some(declared) = asked.max_batch {
        let largest = fitting.iter().rfind(|(size, _)| *size <= declared.get());
        let size = largest.map_or(1, |(size, _)| *size);
        return Ok((size, format!("[runtime] max_batch in model.toml, and proven{bounded}")));
    }
    Ok(smallest_worth_it(&fitting, bounded))
}

/// The smallest size within [`WORTH`] of the best throughput, and why it is that.
fn smallest_worth_it(run_times: &[(usize, Duration)], bounded: &str) -> (usize, String) {
    let rate = |it: &(usize, Duration)| rows_per_second(it.0, it.1);
    let best = run_times.iter().max_by(|a, b| rate(a).total_cmp(&rate(b)));
    let Some(best) = best else { return (1, "nothing else was measured".to_owned()) };
    let worth = run_times.iter().find(|it| rate(it) >= WORTH * rate(best)).unwrap_or(best);
    if worth == best {
        let rate = rate(best);
        return (best.0, format!("the best throughput{bounded}: {rate:.1} rows a second a lane"));
    }
    let why = format!(
        "the fewest rows within {:.0} % of the best throughput{bounded}: {:.1} rows a second a lane, {:.1} \
         with {} a run",
        (1.0 - WORTH) * 100.0,
        rate(worth),
        rate(best),
        best.0
    );
    (worth.0, why)
}

/// Whether a lane that runs so many rows keeps within what it may use.
fn fits(ground: Ground<'_>, profile: &Profile, asked: &Runtime, size: usize) -> bool {
    let Some(allowed) = asked.memory.filter(|_| !ground.is_device()) else { return true };
    profile.lane_bytes.get(&size).is_some_and(|needed| *needed <= allowed)
}

/// The next size to be proven and timed; `None`: what is known is enough to plan by.
///
/// Without a declared size that is each in turn until one gains less than 3 %: a convolution network
/// gains next to nothing on a CPU, and timing it up to 32 would take seconds of the start. With one,
/// it is that, and where memory is bounded those below it, as the largest that fits is wanted. The memory of
/// a device always is.
pub(super) fn next_size(ground: Ground<'_>, profile: &Profile, asked: &Runtime) -> Option<usize> {
    if matches!(profile.sharing, Sharing::Refused(_)) {
        return None;
    }
    let largest = if ground.is_device() { usize::MAX } else { LARGEST_ON_CORES };
    let is_bounded = asked.memory.is_some() || ground.is_device();
    let sizes: Vec<usize> = match (asked.max_batch, is_bounded) {
        (None, _) => SIZES.into_iter().filter(|it| *it <= largest).collect(),
        (Some(declared), false) => vec![declared.get()],
        (Some(declared), true) => {
            let below = SIZES.into_iter().filter(|it| *it < declared.get() && *it <= largest);
            below.chain([declared.get()]).collect()
        }
    };
    let mut best = rows_per_second(1, profile.latency.at(1, THREADS_PER_LANE)?);
    let is_possible = |it: &usize| *it > 1 && profile.too_large.is_none_or(|large| *it < large);
    for size in sizes.into_iter().filter(is_possible) {
        let Some(took) = profile.latency.at(size, THREADS_PER_LANE) else { return Some(size) };
        let now = rows_per_second(size, took);
        let gains = asked.max_batch.is_some() || now > best / WORTH;
        if !gains || !fits(ground, profile, asked, size) {
            return None;
        }
        best = now;
    }
    None
}

fn wide(ground: Ground<'_>, profile: &Profile) -> Wide {
    let cores = ground.cores;
    if ground.is_device() {
        return Wide::Device;
    }
    if cores == NonZeroUsize::MIN {
        return Wide::OneCore;
    }
    if let Some(why) = &profile.wide_refused {
        return Wide::Differs(why.clone());
    }
    match (profile.latency.at(1, 1), profile.latency.at(1, cores.get())) {
        (Some(one), Some(all)) => {
            let ratio = all.as_secs_f64() / one.as_secs_f64().max(1e-9);
            if ratio <= WIDE_WORTH { Wide::Worth(ratio) } else { Wide::NotWorth(ratio) }
        }
        _ => Wide::Unknown,
    }
}

/// How many rows a second lanes of so many threads would answer, side by side and undisturbed.
#[must_use]
pub fn rows_per_second_of_all(
    cores: NonZeroUsize,
    threads: usize,
    batch: usize,
    took: Duration,
) -> f64 {
    let lanes = cores.get() / threads.max(1);
    rows_per_second(batch.saturating_mul(lanes), took)
}

/// One thread a lane is all that is built; where another number would answer more, it is said.
fn why_threads(ground: Ground<'_>, latency: &LatencyModel, batch: usize) -> String {
    if ground.is_device() {
        return "the device computes; a lane's thread waits for it".to_owned();
    }
    let cores = ground.cores;
    let rate = |threads: usize| {
        let took = latency.predict(batch, threads)?;
        Some((threads, rows_per_second_of_all(cores, threads, batch, took)))
    };
    let others = (2..=cores.get()).filter_map(rate);
    let best = others.max_by(|a, b| a.1.total_cmp(&b.1));
    match (rate(THREADS_PER_LANE), best) {
        (Some((_, one)), Some((threads, other))) => {
            let lanes = cores.get() / threads;
            let more = if other > one { "; this version has no such lanes" } else { "" };
            format!(
                "{cores} x 1 answer {one:.1} rows a second, {lanes} x {threads} would answer \
                 {other:.1}{more}"
            )
        }
        _ => "a lane's session computes on the lane's own thread".to_owned(),
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
