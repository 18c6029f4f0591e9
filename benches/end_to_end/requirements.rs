//! What is asked of a run, and what it found.

use crate::{
    open_loop::TARGET,
    overload::AtLoad,
    report::{Run, f3},
    saturation::Saturation,
};

/// What was asked for, and what was found.
pub struct Requirement {
    pub what: &'static str,
    pub asked: &'static str,
    pub measured: String,
    pub met: bool,
    /// Whether other programs disturb it.
    pub timed: bool,
}

/// All of them, in the order of the page.
pub fn requirements(run: &Run) -> Vec<Requirement> {
    let mut all = throughput(run);
    for it in &run.overload {
        all.extend(overload(it));
    }
    all.extend(rest(run));
    all
}

fn at_least(what: &'static str, asked: &'static str, measured: f64, least: f64) -> Requirement {
    Requirement { what, asked, measured: f3(measured), met: measured >= least, timed: true }
}

fn at_most(
    what: &'static str,
    asked: &'static str,
    (measured, most): (f64, f64),
    unit: &'static str,
) -> Requirement {
    let text =
        if most < 10.0 { format!("{measured:.2} {unit}") } else { format!("{measured:.0} {unit}") };
    Requirement { what, asked, measured: text, met: measured <= most, timed: true }
}

/// Judged at the worst of the loads that saturate: two connections leave the lanes idle while their
/// bodies travel.
fn worst(it: &Saturation) -> (f64, f64) {
    let saturated = it.at.iter().filter(|it| it.connections > 2);
    saturated.fold((f64::INFINITY, f64::INFINITY), |(raw, fair), it| {
        (it.to_raw_floor.min(raw), it.to_fair_floor.min(fair))
    })
}

fn throughput(run: &Run) -> Vec<Requirement> {
    let ((raw, fair), (large_raw, large_fair)) = (worst(&run.saturation), worst(&run.large));
    let at = |n: usize| run.saturation.at.iter().find(|it| it.connections == n);
    let lock_step =
        at(8).zip(at(32)).map_or(f64::NAN, |(few, many)| few.per_second / many.per_second);
    vec![
        at_least(
            "tensors through the lanes, of sessions in process",
            "≥ 0.98",
            run.tensors.to_raw_floor,
            0.98,
        ),
        at_least("JPEG over HTTP at saturation, of the fair floor", "≥ 0.97", fair, 0.97),
        at_least("the same, of the raw floor", "≥ 0.94", raw, 0.94),
        at_least("JPEG of four times the pixels, of the fair floor", "≥ 0.97", large_fair, 0.97),
        at_least("the same, of the raw floor", "≥ 0.92", large_raw, 0.92),
        at_least("throughput at 8 connections, of that at 32", "≥ 0.97", lock_step, 0.97),
        at_most("added p50, one at a time", "≤ 0.5 ms", (run.alone.added_p50_ms, 0.5), "ms"),
    ]
}

fn overload(it: &AtLoad) -> Vec<Requirement> {
    let target_ms = TARGET.as_secs_f64() * 1e3;
    if (it.times - 2.0).abs() < 1e-9 {
        vec![
            at_least("in time at 2x the capacity, of it", "≥ 0.98", it.of_capacity, 0.98),
            at_most("p99 of the answers at 2x", "≤ 600 ms", (it.answered.p99_ms, target_ms), "ms"),
            at_most("p99 of a refusal at 2x", "≤ 20 ms", (it.refused.p99_ms, 20.0), "ms"),
            at_most("in time again after 2x", "≤ 700 ms", (it.recovery_ms, 700.0), "ms"),
        ]
    } else if (it.times - 10.0).abs() < 1e-9 {
        let growth = it.memory.last_fifth_mb / it.memory.second_fifth_mb - 1.0;
        vec![
            at_least("in time at 10x the capacity, of it", "≥ 0.80", it.of_capacity, 0.80),
            at_most("resident memory at 10x", "≤ 350 MB", (it.memory.highest_mb, 350.0), "MB"),
            at_most("its growth, last fifth over second", "≤ 3 %", (growth * 100.0, 3.0), "%"),
        ]
    } else {
        Vec::new()
    }
}

fn rest(run: &Run) -> Vec<Requirement> {
    let untimed = |it| Requirement { timed: false, ..it };
    let ready = run.starts.median_ms / 1e3;
    vec![
        at_least(
            "350 clients that retry at once: in time, of the fair floor",
            "≥ 0.85",
            run.retries.to_fair_floor,
            0.85,
        ),
        at_least("one of 100 models, of the same alone", "≥ 0.97", run.crowd.to_alone, 0.97),
        at_most("start to ready", "≤ 0.6 s", (ready, 0.6), "s"),
        untimed(at_most(
            "resident memory, loaded and idle",
            "≤ 130 MB",
            (run.memory.loaded_mb, 130.0),
            "MB",
        )),
        untimed(at_most(
            "growth over 10,000 requests, last fifth over second",
            "≤ 3 %",
            (run.memory.growth * 100.0, 3.0),
            "%",
        )),
        at_least("shared runs against single ones", "≥ 2", run.sharing.gain, 2.0),
    ]
}
