//! The profile as a load takes it: as little as planning needs, in sessions that are thrown away, as
//! their memory grows with the largest run.

use std::{num::NonZeroUsize, time::Duration};

use super::{
    Ground, Profile, Sharing,
    bench::{Bench, Effort, Timing},
    plan::{max_batch, next_size},
    proof::{Proof, Unproven},
    rows::row_bytes,
};
use crate::{
    batch::{ExecuteError, Site},
    onnx::{Graph, OnnxError},
    repository::{manifest::Manifest, model_config::Runtime},
    types::{Instant, NamedTensor},
};

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub(in crate::repository) struct Subject<'a> {
    pub(in crate::repository) graph: &'a Graph,
    pub(in crate::repository) manifest: &'a Manifest,
    /// Single rows of every input, real ones where there are any, at least two of them different.
    pub(in crate::repository) rows: &'a [Vec<NamedTensor>],
}

impl Subject<'_> {
    pub(super) fn ground(&self, cores: NonZeroUsize) -> Ground<'_> {
        Ground { cores, devices: self.graph.devices() }
    }
}

/// What it is measured for.
#[derive(Debug, Clone, Copy)]
pub(in crate::repository) struct Terms<'a> {
    /// What the operator asks for.
    pub(in crate::repository) asked: &'a Runtime,
    /// A row that takes longer will not be served, so nothing else of it need be known.
    pub(in crate::repository) limit: Duration,
    pub(in crate::repository) cores: NonZeroUsize,
    /// Whether it is run even if nothing is left to be measured. Golden samples do that anyway.
    pub(in crate::repository) must_run: bool,
}

/// A profile, and whether it is worth remembering.
#[derive(Debug)]
pub(in crate::repository) struct Measured {
    pub(in crate::repository) profile: Profile,
    /// Whether anything in it is new, and what is new was taken while nothing else ran.
    pub(in crate::repository) worth_caching: bool,
}

/// Why a version cannot be measured.
#[derive(Debug, thiserror::Error)]
pub(in crate::repository) enum MeasureError {
    #[error(transparent)]
    Open(#[from] OnnxError),
    #[error(transparent)]
    Run(#[from] ExecuteError),
}

/// Measures what is not known yet, and proves the size that will be used, known or not.
///
/// # Errors
/// When the graph cannot be opened, or cannot be run at all.
pub(in crate::repository) fn at_load(
    subject: Subject<'_>,
    terms: Terms<'_>,
    known: Option<&Profile>,
) -> Result<Measured, MeasureError> {
    let Terms { asked, limit, cores, must_run } = terms;
    // What refuses a version must be measured today.
    let known = known.filter(|it| it.single().is_some_and(|it| it <= limit));
    let mut profile = known.cloned().unwrap_or_default();
    let ground = subject.ground(cores);
    let wide_known = knows_wide(&profile, ground);
    let is_complete = profile.single().is_some() && next_size(ground, &profile, asked).is_none();
    let shares = max_batch(ground, &profile, asked).is_ok_and(|(size, _)| size > 1);
    if is_complete && wide_known && !shares && !must_run {
        return Ok(Measured { profile, worth_caching: false });
    }

    let graph = subject.graph;
    let mut bench = Bench::new(graph.open_at(graph.site())?, graph.signature(), 1);
    let (first, single) = single(&mut bench, subject, limit, &mut profile)?;
    if profile.single().is_some_and(|it| it > limit) {
        return Ok(Measured { profile, worth_caching: false });
    }
    let mut proof = Proof::new(subject, first);
    let mut timings = climb(&mut bench, &mut proof, (ground, asked), &mut profile);
    timings.extend(single);
    drop(bench);
    let is_quiet = timings.iter().all(|it| it.kept > 0);
    // Nothing that is built hangs on this one: were it disturbed, measuring it again at every start
    // would cost more than it is worth.
    if !wide_known {
        wide(&mut proof, cores, &mut profile);
    }
    let worth_caching = is_quiet && known != Some(&profile);
    Ok(Measured { profile, worth_caching })
}

/// Whether it is known what one item takes on all cores, as far as it can be.
fn knows_wide(profile: &Profile, ground: Ground<'_>) -> bool {
    let cores = ground.cores;
    ground.is_device()
        || cores == NonZeroUsize::MIN
        || profile.wide_refused.is_some()
        || profile.latency.at(1, cores.get()).is_some()
}

/// Runs one row, for what comes of it, and times it unless that is known; but not again and again one
/// that takes longer than `limit`. The first run of a session, which pays for its memory, counts only
/// if it is the only one.
fn single(
    bench: &mut Bench,
    subject: Subject<'_>,
    limit: Duration,
    profile: &mut Profile,
) -> Result<(Vec<NamedTensor>, Option<Timing>), ExecuteError> {
    let Some(first) = subject.rows.first() else {
        return Err(ExecuteError("no rows to measure with".to_owned()));
    };
    let started = Instant::now();
    let outputs = bench.run(first)?;
    let cold = started.elapsed();
    if profile.single().is_some() {
        return Ok((outputs, None));
    }
    let timing = if cold > limit.saturating_mul(2) {
        Timing::once(cold)
    } else {
        bench.time(first, Effort::AT_LOAD)?
    };
    profile.latency.record(1, 1, timing.least);
    note_memory(bench, subject, 1, profile);
    Ok((outputs, Some(timing)))
}

/// Proves and times larger and larger runs, then proves the size that is used if that was not done
/// on the way.
///
/// On a device a run that fails after smaller ones were proven ends the climb and no more: it is the
/// memory there that has come to its end, not the soundness of sharing.
fn climb(
    bench: &mut Bench,
    proof: &mut Proof<'_>,
    (ground, asked): (Ground<'_>, &Runtime),
    profile: &mut Profile,
) -> Vec<Timing> {
    let (mut proven, mut timings) = (Vec::new(), Vec::new());
    while let Some(size) = next_size(ground, profile, asked) {
        let timed = proof.of(size, bench).and_then(|inputs| {
            bench.time(&inputs, Effort::AT_LOAD).map_err(|it| Unproven::Failed(size, it))
        });
        match timed {
            Err(Unproven::Failed(_, why)) if ground.is_device() && !proven.is_empty() => {
                tracing::info!(rows = size, %why, "a run of so many rows failed; no larger one is tried");
                profile.too_large = Some(size);
            }
            Err(why) => profile.sharing = Sharing::Refused(why.to_string()),
            Ok(timing) => {
                profile.latency.record(size, 1, timing.least);
                note_memory(bench, proof.subject, size, profile);
                proven.push(size);
                timings.push(timing);
            }
        }
    }
    // What is remembered was proven another day.
    if let Ok((size, _)) = max_batch(ground, profile, asked)
        && size > 1
        && !proven.contains(&size)
        && let Err(why) = proof.of(size, bench)
    {
        profile.sharing = Sharing::Refused(why.to_string());
    }
    timings
}

/// What a lane takes that has just run so many rows: the arena of its session, which never shrinks,
/// and the rows it gathers, which on a device are not where the arena is.
pub(super) fn note_memory(bench: &Bench, subject: Subject<'_>, size: usize, profile: &mut Profile) {
    let (Some(arena), Some(row)) = (bench.arena_bytes(), subject.rows.first()) else { return };
    if let Site::Device(_) = subject.graph.site() {
        profile.lane_bytes.insert(size, arena);
        return;
    }
    let rows = row_bytes(row).saturating_mul(u64::try_from(size).unwrap_or(u64::MAX));
    profile.lane_bytes.insert(size, arena.saturating_add(rows));
}

/// Times one row on all cores, if its outputs are those it has on one.
fn wide(proof: &mut Proof<'_>, cores: NonZeroUsize, profile: &mut Profile) {
    let graph = proof.subject.graph;
    let mut timed = || {
        let session = graph.open_wide(cores).map_err(|it| it.to_string())?;
        let mut bench = Bench::new(session, graph.signature(), cores.get());
        let row = proof.of(1, &mut bench).map_err(|it| it.to_string())?;
        bench.time(&row, Effort::ONE_LOOK).map_err(|it| it.to_string())
    };
    match timed() {
        Ok(timing) => profile.latency.record(1, cores.get(), timing.least),
        Err(why) => profile.wide_refused = Some(why),
    }
}
