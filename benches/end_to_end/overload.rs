//! More requests than can be answered, sent on time whether or not the answers come: what is still
//! answered within the target, how fast the rest is refused, how soon it is over.
//!
//! Open loop: a request's latency counts from when it should have been sent, so that a server that
//! holds up its clients is not flattered. A refused request is not sent again; its connection rests
//! until `Retry-After` has passed. Where all connections are busy or rest, fewer are offered than
//! were meant, so the rate that was reached is reported.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, anyhow};
use linesight::types::Instant;
use serde::Serialize;

use crate::{
    floor::Floor,
    load::{Load, Pace, Target},
    machine::Cpu,
    oha::Seen,
    open_loop::{Asked, Plan, run},
    saturation::SINK_ANSWER,
    server::Server,
    sink::Sink,
    stats::{Latency, median, millis, per_second, percentiles, quantile},
    subject::Picture,
    window::{Window, pause},
};

/// Below the 1024 that the server accepts by default.
const CONNECTIONS: usize = 900;
/// What came in before the credit for bursts was spent has been answered by then.
pub const SETTLED: Duration = Duration::from_millis(3_600);
/// Offered after the overload, of the capacity.
const AFTERWARDS: f64 = 0.5;

/// What one offered load led to.
#[derive(Debug, Serialize)]
pub struct AtLoad {
    /// Of the capacity, as was meant.
    pub times: f64,
    /// 200s a second in a closed loop, right before and right after.
    pub capacity_per_second: [f64; 2],
    /// As was reached, once settled.
    pub offered_per_second: f64,
    /// 200s within the target.
    pub goodput_per_second: f64,
    pub of_capacity: f64,
    pub floors: Floors,
    /// Of every turn, ascending.
    pub all_of_capacity: Vec<f64>,
    /// Of all 200s.
    pub answered: Latency,
    pub refused: Latency,
    pub expired: usize,
    /// Of all 200s, milliseconds at each hundredth.
    pub percentiles_ms: Vec<f64>,
    /// Processor time a second, once settled.
    pub server_cores: f64,
    pub generator_cores: f64,
    /// As the server exports it, at the end.
    pub load_ratio: f64,
    pub memory: Resident,
    /// After the overload: until every request is answered within the target.
    pub recovery_ms: f64,
}

/// Resident memory in MB of 10^6 bytes while it lasted.
#[derive(Debug, Serialize)]
pub struct Resident {
    pub second_fifth_mb: f64,
    pub last_fifth_mb: f64,
    pub highest_mb: f64,
}

/// What is answered in process, right after: alone, and while the same bodies are posted as often to a
/// handler that drops them.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Floors {
    pub raw_per_second: f64,
    pub fair_per_second: f64,
    pub to_raw: f64,
    pub to_fair: f64,
}

impl Floors {
    fn beside(
        it: &AtLoad,
        pictures: &Arc<[Picture]>,
        sink: SocketAddr,
        floor: &mut Floor<'_>,
    ) -> Result<Self> {
        let window = |seconds| Window {
            warm_up: Duration::from_secs(1),
            measured: Duration::from_secs(seconds),
        };
        let raw = floor.throughput(window(3))?.per_second;
        let target = Target { address: sink, judges: false };
        let pace = Pace::PerSecond(it.offered_per_second);
        let load = Load::start(target, pictures, CONNECTIONS, pace)?;
        let fair = floor.throughput(window(4))?.per_second;
        load.stop()?;
        let (to_raw, to_fair) = (it.goodput_per_second / raw, it.goodput_per_second / fair);
        Ok(Self { raw_per_second: raw, fair_per_second: fair, to_raw, to_fair })
    }
}

/// What is offered, of the capacity. The requirements speak of some, the others draw a line.
#[derive(Debug, Clone, Copy)]
pub struct Offered {
    pub times: &'static [f64],
    pub lasting: Duration,
    /// Odd: the middle one counts, by what was answered in time of the capacity.
    pub turns: usize,
}

/// Offers each in turn.
pub fn measure(
    pictures: &Arc<[Picture]>,
    server: &Server,
    floor: &mut Floor<'_>,
    plan: &[Offered],
) -> Result<Vec<AtLoad>> {
    let sink = Sink::start(SINK_ANSWER)?;
    let mut loads = Vec::new();
    for Offered { times, lasting, turns } in plan {
        let mut taken: Vec<Vec<AtLoad>> = times.iter().map(|_| Vec::new()).collect();
        for _ in 0..*turns {
            for (times, taken) in times.iter().zip(&mut taken) {
                let mut it = at(pictures, server, *times, *lasting)?;
                it.floors = Floors::beside(&it, pictures, sink.address(), floor)?;
                taken.push(it);
            }
        }
        loads.extend(taken.into_iter().filter_map(middle));
    }
    loads.sort_by(|a, b| a.times.total_cmp(&b.times));
    Ok(loads)
}

/// The machine's speed drifts by a tenth within a minute, which one turn cannot tell from what the
/// server does.
fn middle(mut turns: Vec<AtLoad>) -> Option<AtLoad> {
    turns.sort_by(|a, b| a.of_capacity.total_cmp(&b.of_capacity));
    let all = turns.iter().map(|it| it.of_capacity).collect();
    let middle = turns.len() / 2;
    (middle < turns.len()).then(|| AtLoad { all_of_capacity: all, ..turns.swap_remove(middle) })
}

fn at(pictures: &Arc<[Picture]>, server: &Server, times: f64, lasting: Duration) -> Result<AtLoad> {
    // Taken beside it, so that drift of the machine falls on both.
    let before = capacity_of(server, pictures)?;
    let began = Instant::now() + Duration::from_millis(200);
    let plan = Plan { began, lasting, rate: before * times, afterwards: before * AFTERWARDS };
    let (asked, seen) = std::thread::scope(|scope| {
        let watching = scope.spawn(|| watch(server, began, lasting));
        let asked = run(pictures, server, plan, CONNECTIONS)?;
        let seen = watching.join().map_err(|_panic| anyhow!("the watcher panicked"))??;
        anyhow::Ok((asked, seen))
    })?;
    let after = capacity_of(server, pictures)?;
    let capacity = f64::midpoint(before, after);
    let over = began + lasting;
    let settled: Vec<&Asked> =
        asked.iter().filter(|it| began + SETTLED <= it.due && it.due < over).collect();
    let time = lasting - SETTLED;
    let took = |status: u16, from: &dyn Fn(&Asked) -> Instant| -> Vec<Duration> {
        let of = settled.iter().filter(|it| it.status == status);
        of.map(|it| it.done.saturating_duration_since(from(it))).collect()
    };
    let goodput = per_second(settled.iter().filter(|it| it.is_in_time()).count(), time);
    let last_bad = asked.iter().filter(|it| it.due >= over && !it.is_in_time()).map(|it| it.due);
    Ok(AtLoad {
        times,
        capacity_per_second: [before, after],
        offered_per_second: per_second(settled.len(), time),
        goodput_per_second: goodput,
        of_capacity: goodput / capacity,
        floors: Floors::default(),
        all_of_capacity: Vec::new(),
        answered: Latency::of(&took(200, &|it| it.due)),
        refused: Latency::of(&took(503, &|it| it.written)),
        percentiles_ms: percentiles(&took(200, &|it| it.due)),
        server_cores: seen.cores[0],
        generator_cores: seen.cores[1],
        load_ratio: seen.load_ratio,
        memory: seen.memory,
        expired: settled.iter().filter(|it| it.status == 504).count(),
        recovery_ms: last_bad.max().map_or(0.0, |it| millis(it - over)),
    })
}

/// Offers so many a second and no more than can be answered; what came of it once settled.
pub fn offer(
    pictures: &Arc<[Picture]>,
    server: &Server,
    (rate, lasting): (f64, Duration),
    connections: usize,
) -> Result<Seen> {
    let began = Instant::now() + Duration::from_millis(200);
    let plan = Plan { began, lasting, rate, afterwards: rate };
    let asked = run(pictures, server, plan, connections)?;
    let (from, to) = (began + SETTLED, began + lasting);
    let settled = asked.iter().filter(|it| from <= it.due && it.due < to && it.status == 200);
    let took: Vec<f64> = settled.map(|it| millis(it.done - it.due)).collect();
    Ok(Seen {
        per_second: per_second(took.len(), to - from),
        p50_ms: quantile(&took, 0.5),
        p99_ms: quantile(&took, 0.99),
    })
}

/// 200s a second with more connections than lanes.
fn capacity_of(server: &Server, pictures: &Arc<[Picture]>) -> Result<f64> {
    let load =
        Load::start(Target { address: server.data, judges: true }, pictures, 8, Pace::Closed)?;
    let window = Window { warm_up: Duration::from_millis(500), measured: Duration::from_secs(4) };
    window.warm_up();
    let from = Instant::now();
    window.measure();
    let to = Instant::now();
    let answers = load.stop()?;
    Ok(per_second(answers.iter().filter(|it| from <= it.at && it.at < to).count(), to - from))
}

/// What the server looked like meanwhile.
struct Watched {
    /// Used by the server and by the generator, once settled.
    cores: [f64; 2],
    memory: Resident,
    load_ratio: f64,
}

fn watch(server: &Server, began: Instant, lasting: Duration) -> Result<Watched> {
    let mut samples = Vec::new();
    let mut settled = None;
    while Instant::now() < began + lasting {
        if settled.is_none() && Instant::now() >= began + SETTLED {
            settled = Some((Instant::now(), [server.cpu(), Cpu::of_self()]));
        }
        samples.push((began.elapsed(), server.resident_mb()?));
        pause(Duration::from_millis(100));
    }
    let (from, cpu) = settled.context("it did not last long enough")?;
    let cores = cpu.map(|it| it.since().per(1) / millis(from.elapsed()));
    let fifth = |from: u32| {
        let inside = |at: &Duration| lasting / 5 * from <= *at && *at < lasting / 5 * (from + 1);
        let all = samples.iter().filter(|it| inside(&it.0)).map(|it| it.1);
        median(&all.collect::<Vec<_>>())
    };
    let memory = Resident {
        second_fifth_mb: fifth(1),
        last_fifth_mb: fifth(4),
        highest_mb: samples.iter().map(|it| it.1).fold(0.0, f64::max),
    };
    Ok(Watched { cores, memory, load_ratio: server.metric("linesight_load_ratio")? })
}

/// `0.982 (0.961–0.990)`
fn of_capacity(it: &AtLoad) -> String {
    match &it.all_of_capacity[..] {
        [least, .., most] => format!("{:.3} ({least:.3}–{most:.3})", it.of_capacity),
        [] | [_] => format!("{:.3}", it.of_capacity),
    }
}

/// The section of the page.
pub fn section(loads: &[AtLoad]) -> String {
    let mut out = format!(
        "## Overload\n\nOpen loop, over at most {CONNECTIONS} connections; latency counts from when a \
         request was due. Capacity is what a closed loop of 8 connections is answered, right before and \
         right after. Counted from {:.1} s after the overload \
         began; where a load was offered several times, the turn that is in the middle by what was in time \
         of the capacity, beside the least and the most of all turns; a refused connection rests until `retry_after_ms`. Load ratio: what \
         `linesight_load_ratio` said at the end. Floors: in process right after, with the same bodies posted \
         as often to a handler that drops them, and with nothing else. Memory: resident in the second and in the last fifth.\n\n\
         ![answered in time against offered load](img/goodput.svg)\n\n\
         | offered, of capacity | capacity before, after | offered/s | in time/s | of capacity | of the floor: fair, raw | p50 ms | p99 ms | refusal p99 ms \
         | expired | recovered after ms | load ratio | cores: server, generator | memory, MB |\n\
         |--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
        SETTLED.as_secs_f64(),
    );
    for it in loads {
        let refused = it.refused.p99_ms;
        let refused = if refused.is_nan() { "–".to_owned() } else { format!("{refused:.1}") };
        out += &format!(
            "| {} | {:.1}, {:.1} | {:.1} | {:.1} | {} | {:.3}, {:.3} | {:.1} | {:.1} | {} | {} | {:.0} | {:.2} | {:.2}, {:.2} | {:.0}, {:.0} |\n",
            it.times,
            it.capacity_per_second[0],
            it.capacity_per_second[1],
            it.offered_per_second,
            it.goodput_per_second,
            of_capacity(it),
            it.floors.to_fair,
            it.floors.to_raw,
            it.answered.p50_ms,
            it.answered.p99_ms,
            refused,
            it.expired,
            it.recovery_ms,
            it.load_ratio,
            it.server_cores,
            it.generator_cores,
            it.memory.second_fifth_mb,
            it.memory.last_fifth_mb,
        );
    }
    out + "\n"
}
