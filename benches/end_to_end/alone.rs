//! One request at a time: what the way through the server adds to decoding and running.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::{
    floor::Floor,
    load::{Answered, Load, Pace, Target, Timing},
    saturation::SINK_ANSWER,
    server::Server,
    sink::Sink,
    stats::{Latency, median, millis, quantile},
    subject::Subject,
    window::Window,
};

/// Both medians of one turn, in milliseconds.
#[derive(Debug, Serialize)]
struct Round {
    in_process_p50_ms: f64,
    http_p50_ms: f64,
}

/// Where the median of each part of the way lies, as the server reports them.
#[derive(Debug, Serialize)]
pub struct Parts {
    pub read_ms: f64,
    pub queue_ms: f64,
    pub decode_ms: f64,
    pub infer_ms: f64,
    /// Head of the request to answer made, less the four above.
    pub other_ms: f64,
    /// Seen by the client and not by the server: both sockets, and waking up.
    pub outside_ms: f64,
}

/// The whole.
#[derive(Debug, Serialize)]
pub struct Alone {
    pub in_process: Latency,
    pub http: Latency,
    /// The median over the rounds of the difference of their medians.
    pub added_p50_ms: f64,
    /// A handler that reads and drops, asked as often: sockets and waking up, and nothing of ours.
    pub sink: Latency,
    pub parts: Parts,
    rounds: Vec<Round>,
}

pub fn measure(
    subject: &Subject,
    server: &Server,
    floor: &mut Floor<'_>,
    plan: (usize, Window),
) -> Result<Alone> {
    let (n_rounds, window) = plan;
    let (mut rounds, mut in_process) = (Vec::new(), Vec::new());
    let (mut http, mut dropped) = (Vec::new(), Vec::new());
    let server = Target { address: server.data, judges: true };
    let sink = Target { address: Sink::start(SINK_ANSWER)?.address(), judges: false };
    for _ in 0..n_rounds {
        let here = floor.one_by_one(window)?;
        let there = ask_one_by_one(subject, server, Pace::Closed, window)?;
        let took = took(&there);
        let rate = Pace::PerSecond(1e3 / Latency::of(&took).p50_ms);
        dropped.extend(ask_one_by_one(subject, sink, rate, window)?);
        rounds.push(Round {
            in_process_p50_ms: Latency::of(&here).p50_ms,
            http_p50_ms: Latency::of(&took).p50_ms,
        });
        in_process.extend(here);
        http.extend(there);
    }
    let added: Vec<f64> = rounds.iter().map(|it| it.http_p50_ms - it.in_process_p50_ms).collect();
    Ok(Alone {
        in_process: Latency::of(&in_process),
        http: Latency::of(&took(&http)),
        added_p50_ms: median(&added),
        sink: Latency::of(&took(&dropped)),
        parts: parts(&http),
        rounds,
    })
}

fn took(answers: &[Answered]) -> Vec<Duration> {
    answers.iter().map(|it| it.took).collect()
}

fn ask_one_by_one(
    subject: &Subject,
    target: Target,
    pace: Pace,
    window: Window,
) -> Result<Vec<Answered>> {
    let load = Load::start(target, &subject.pictures, 1, pace)?;
    window.warm_up();
    let from = linesight::types::Instant::now();
    window.measure();
    let mut answers = load.stop()?;
    answers.retain(|it| from <= it.at);
    Ok(answers)
}

fn parts(answers: &[Answered]) -> Parts {
    let of = |value: &dyn Fn(&Timing, f64) -> f64| {
        let values: Vec<f64> =
            answers.iter().map(|it| value(&it.server, millis(it.took))).collect();
        quantile(&values, 0.5)
    };
    Parts {
        read_ms: of(&|it, _| it.read),
        queue_ms: of(&|it, _| it.queue),
        decode_ms: of(&|it, _| it.decode),
        infer_ms: of(&|it, _| it.infer),
        other_ms: of(&|it, _| it.wall - it.read - it.queue - it.decode - it.infer),
        outside_ms: of(&|it, took| took - it.wall),
    }
}
