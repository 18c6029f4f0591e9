//! The profile as a load takes it: as little as planning needs, in sessions that are thrown away, as
//! their memory grows with the largest run.

use std::{num::NonZeroUsize, time::Duration};

use super::{
    Profile, Sharing,
    bench::{Bench, Effort, Timing},
    plan::{max_batch, next_size},
    proof::Proof,
    rows::row_bytes,
};
use crate::{
    batch::ExecuteError,
    onnx::{Graph, OnnxError},
    repository::{manifest::Manifest, model_config::Runtime},
    types::NamedTensor,
};

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub(in crate::repository) struct Subject<'a> {
    pub(in crate::repository) graph: &'a Graph,
    pub(in crate::repository) manifest: &'a Manifest,
    /// Single rows of every input, real ones where there are any, at least two of them different.
    pub(in crate::repository) rows: &'a [Vec<NamedTensor>],
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
    let wide_known = knows_wide(&profile, cores);
    let is_complete = profile.single().is_some() && next_size(&profile, asked).is_none();
    let shares = max_batch(&profile, asked).is_ok_and(|(size, _)| size > 1);
    if is_complete && wide_known && !shares && !must_run {
        return Ok(Measured { profile, worth_caching: false });
    }

    let one = NonZeroUsize::MIN;
    let mut bench = Bench::new(subject.graph.open_wide(one)?, subject.graph.signature(), 1);
    let single = single(&mut bench, subject, limit, &mut profile)?;
    if profile.single().is_some_and(|it| it > limit) {
        return Ok(Measured { profile, worth_caching: false });
    }
    let alone = subject.rows.iter().map(|it| bench.run(it)).collect::<Result<Vec<_>, _>>()?;
    let proof = Proof { subject, alone: &alone };
    let mut timings = climb(&mut bench, proof, asked, &mut profile);
    timings.extend(single);
    drop(bench);
    let is_quiet = timings.iter().all(|it| it.kept > 0);
    // Nothing that is built hangs on this one: were it disturbed, measuring it again at every start
    // would cost more than it is worth.
    if !wide_known {
        wide(proof, cores, &mut profile);
    }
    let worth_caching = is_quiet && known != Some(&profile);
    Ok(Measured { profile, worth_caching })
}

/// Whether it is known what one item takes on all cores, as far as it can be.
fn knows_wide(profile: &Profile, cores: NonZeroUsize) -> bool {
    cores == NonZeroUsize::MIN
        || profile.wide_refused.is_some()
        || profile.latency.at(1, cores.get()).is_some()
}

/// Runs one row, and times it unless that is known; but not again and again one that takes longer
/// than `limit`. The first run of a session, which pays for its memory, counts only if it is the
/// only one.
fn single(
    bench: &mut Bench,
    subject: Subject<'_>,
    limit: Duration,
    profile: &mut Profile,
) -> Result<Option<Timing>, ExecuteError> {
    let Some(first) = subject.rows.first() else {
        return Err(ExecuteError("no rows to measure with".to_owned()));
    };
    let cold = bench.run_cold(first)?;
    if profile.single().is_some() {
        return Ok(None);
    }
    let timing = if cold > limit.saturating_mul(2) {
        Timing::once(cold)
    } else {
        bench.time(first, Effort::AT_LOAD)?
    };
    profile.latency.record(1, 1, timing.least);
    note_memory(bench, subject, 1, profile);
    Ok(Some(timing))
}

/// Proves and times larger and larger runs, then proves the size that is used if that was not done
/// on the way.
fn climb(
    bench: &mut Bench,
    proof: Proof<'_>,
    asked: &Runtime,
    profile: &mut Profile,
) -> Vec<Timing> {
    let (mut proven, mut timings) = (Vec::new(), Vec::new());
    while let Some(size) = next_size(profile, asked) {
        let timed = proof.of(size, bench).and_then(|inputs| {
            bench.time(&inputs, Effort::AT_LOAD).map_err(|it| format!("{size} rows: {it}"))
        });
        match timed {
            Err(why) => profile.sharing = Sharing::Refused(why),
            Ok(timing) => {
                profile.latency.record(size, 1, timing.least);
                note_memory(bench, proof.subject, size, profile);
                proven.push(size);
                timings.push(timing);
            }
        }
    }
    // What is remembered was proven another day.
    if let Ok((size, _)) = max_batch(profile, asked)
        && size > 1
        && !proven.contains(&size)
        && let Err(why) = proof.of(size, bench)
    {
        profile.sharing = Sharing::Refused(why);
    }
    timings
}

/// What a lane takes that has just run so many rows: the arena of its session, which never shrinks,
/// and the rows it gathers.
pub(super) fn note_memory(bench: &Bench, subject: Subject<'_>, size: usize, profile: &mut Profile) {
    let (Some(arena), Some(row)) = (bench.arena_bytes(), subject.rows.first()) else { return };
    let rows = row_bytes(row).saturating_mul(u64::try_from(size).unwrap_or(u64::MAX));
    profile.lane_bytes.insert(size, arena.saturating_add(rows));
}

/// Times one row on all cores, if its outputs are those it has on one.
fn wide(proof: Proof<'_>, cores: NonZeroUsize, profile: &mut Profile) {
    let graph = proof.subject.graph;
    let timed = || {
        let session = graph.open_wide(cores).map_err(|it| it.to_string())?;
        let mut bench = Bench::new(session, graph.signature(), cores.get());
        let row = proof.of(1, &mut bench)?;
        bench.time(&row, Effort::AT_LOAD).map_err(|it| it.to_string())
    };
    match timed() {
        Ok(timing) => profile.latency.record(1, cores.get(), timing.least),
        Err(why) => profile.wide_refused = Some(why),
    }
}
