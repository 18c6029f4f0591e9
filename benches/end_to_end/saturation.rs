//! Throughput over HTTP against the in-process floor, in turns, so that drift falls on both.

use anyhow::{Context as _, Result};
use linesight::types::Instant;
use serde::Serialize;

use crate::{
    floor::Floor,
    load::{Answered, Load, Pace, Target},
    machine::{Cpu, Everything},
    server::Server,
    sink::Sink,
    stats::{Latency, mean, median, per_second, percentiles},
    subject::Subject,
    window::{Rate, Window},
};

/// Of the pictures as they are, and of larger ones.
pub const CONNECTIONS: &[usize] = &[2, 8, 32];
pub const CONNECTIONS_LARGE: &[usize] = &[8];
/// The connections whose rate is posted to the sink beside the fair floor.
const FAIR: usize = 8;

/// One turn of everything.
#[derive(Debug, Serialize)]
struct Round {
    floor_before: Rate,
    served: Vec<Served>,
    fair_floor: Rate,
    floor_after: Rate,
}

/// The server with so many connections.
#[derive(Debug, Clone, Serialize)]
struct Served {
    connections: usize,
    server: Rate,
    /// Processor time of the generator for one answer.
    generator_cpu_ms: f64,
}

/// One line of the table: medians over the rounds, but for processor times, which are means, as
/// Linux counts them coarsely.
#[derive(Debug, Serialize)]
pub struct AtConnections {
    pub connections: usize,
    pub per_second: f64,
    pub to_raw_floor: f64,
    pub to_fair_floor: f64,
    pub server_cpu_ms: f64,
    pub generator_cpu_ms: f64,
    pub latency: Latency,
    /// Milliseconds at each hundredth of the answers.
    pub percentiles_ms: Vec<f64>,
}

/// The whole.
#[derive(Debug, Serialize)]
pub struct Saturation {
    pub floor_per_second: f64,
    pub floor_cpu_ms: f64,
    pub fair_floor_per_second: f64,
    pub at: Vec<AtConnections>,
    /// Share of the machine's processor time that neither the server nor this program used.
    pub others_share: f64,
    rounds: Vec<Round>,
}

pub fn measure(
    subject: &Subject,
    server: &Server,
    floor: &mut Floor<'_>,
    connections: &[usize],
    plan: (usize, Window),
) -> Result<Saturation> {
    let (n_rounds, window) = plan;
    let (everything, own, served, started) =
        (Everything::now(), Cpu::of_self(), server.cpu(), Instant::now());
    let sink = Sink::start(SINK_ANSWER)?;
    let mut latencies = vec![Vec::new(); connections.len()];
    let mut rounds = Vec::new();
    let mut last = floor.throughput(window)?;
    for _ in 0..n_rounds {
        let mut served = Vec::new();
        for (&connections, latencies) in connections.iter().zip(&mut latencies) {
            let (it, answers) = serve(subject, server, connections, window)?;
            latencies.extend(answers.iter().map(|it| it.took));
            served.push(it);
        }
        let rate = served.iter().find(|it| it.connections == FAIR).context("no fair rate")?;
        let rate = Pace::PerSecond(rate.server.per_second);
        let target = Target { address: sink.address(), judges: false };
        let load = Load::start(target, &subject.pictures, FAIR, rate)?;
        let fair_floor = floor.throughput(window)?;
        load.stop()?;
        let floor_after = floor.throughput(window)?;
        rounds.push(Round { floor_before: last, served, fair_floor, floor_after });
        last = floor_after;
    }
    let ours = [own.since(), served.since()];
    let others_share = everything.others_share(&ours, started.elapsed());
    Ok(summary(connections, rounds, &latencies, others_share))
}

/// What the sink answers: as long as what the server does, and read the same way.
pub const SINK_ANSWER: &[u8] = include_bytes!("sink_answer.json");

fn serve(
    subject: &Subject,
    server: &Server,
    connections: usize,
    window: Window,
) -> Result<(Served, Vec<Answered>)> {
    let target = Target { address: server.data, judges: true };
    let load = Load::start(target, &subject.pictures, connections, Pace::Closed)?;
    window.warm_up();
    let (cpu, own, from) = (server.cpu(), Cpu::of_self(), Instant::now());
    window.measure();
    let (cpu, own, to) = (cpu.since(), own.since(), Instant::now());
    let mut answers = load.stop()?;
    answers.retain(|it| from <= it.at && it.at < to);
    let n = answers.len();
    let server = Rate { per_second: per_second(n, to - from), cpu_ms: cpu.per(n) };
    Ok((Served { connections, server, generator_cpu_ms: own.per(n) }, answers))
}

fn summary(
    connections: &[usize],
    rounds: Vec<Round>,
    latencies: &[Vec<std::time::Duration>],
    others_share: f64,
) -> Saturation {
    let over =
        |value: &dyn Fn(&Round) -> f64| median(&rounds.iter().map(value).collect::<Vec<_>>());
    let raw = |it: &Round| f64::midpoint(it.floor_before.per_second, it.floor_after.per_second);
    let at = connections.iter().zip(latencies).enumerate();
    let at = at.map(|(at, (&connections, latencies))| {
        let of = |value: &dyn Fn(&Round, &Served) -> f64| {
            over(&|round| round.served.get(at).map_or(f64::NAN, |it| value(round, it)))
        };
        let mean_of = |value: &dyn Fn(&Served) -> f64| {
            mean(&rounds.iter().filter_map(|it| it.served.get(at)).map(value).collect::<Vec<_>>())
        };
        AtConnections {
            connections,
            per_second: of(&|_, it| it.server.per_second),
            to_raw_floor: of(&|round, it| it.server.per_second / raw(round)),
            to_fair_floor: of(&|round, it| it.server.per_second / round.fair_floor.per_second),
            server_cpu_ms: mean_of(&|it| it.server.cpu_ms),
            generator_cpu_ms: mean_of(&|it| it.generator_cpu_ms),
            latency: Latency::of(latencies),
            percentiles_ms: percentiles(latencies),
        }
    });
    Saturation {
        at: at.collect(),
        floor_per_second: over(&raw),
        floor_cpu_ms: mean(&rounds.iter().map(|it| it.floor_after.cpu_ms).collect::<Vec<_>>()),
        fair_floor_per_second: over(&|it| it.fair_floor.per_second),
        others_share,
        rounds,
    }
}
