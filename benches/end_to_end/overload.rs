//! More requests than can be answered, sent on time whether or not the answers come: what is still
//! answered within the target, how fast the rest is refused, how soon it is over.
//!
//! Open loop: a request's latency counts from when it should have been sent, so that a server that
//! holds up its clients is not flattered. A refused request is not sent again; its connection rests
//! until `Retry-After` has passed. Where all connections are busy or rest, fewer are offered than
//! were meant, so the rate that was reached is reported.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use linesight::types::Instant;
use serde::{Deserialize, Serialize};

use crate::{
    load::{Connection, Load, Pace, Target, request},
    machine::Cpu,
    oha::Seen,
    server::Server,
    stats::{Latency, median, millis, per_second, percentiles, quantile, ratio},
    subject::Picture,
    window::{Window, pause},
};

/// Below the 1024 that the server accepts by default.
const CONNECTIONS: usize = 900;
pub const STACK: usize = 128 << 10;
pub const TARGET: Duration = Duration::from_millis(600);
/// What came in before the credit for bursts was spent has been answered by then.
pub const SETTLED: Duration = Duration::from_millis(3_600);
/// Offered after the overload, of the capacity.
const AFTERWARDS: f64 = 0.5;
const AFTERWARDS_FOR: Duration = Duration::from_secs(6);

/// One request, and what became of it.
#[derive(Debug, Clone, Copy)]
struct Asked {
    due: Instant,
    /// When its last byte was written.
    written: Instant,
    done: Instant,
    status: u16,
}

impl Asked {
    fn is_in_time(&self) -> bool {
        self.status == 200 && self.done - self.due <= TARGET
    }
}

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
    plan: &[Offered],
) -> Result<Vec<AtLoad>> {
    let mut loads = Vec::new();
    for Offered { times, lasting, turns } in plan {
        let mut taken: Vec<Vec<AtLoad>> = times.iter().map(|_| Vec::new()).collect();
        for _ in 0..*turns {
            for (times, taken) in times.iter().zip(&mut taken) {
                taken.push(at(pictures, server, *times, *lasting)?);
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

/// What is sent when.
#[derive(Debug, Clone, Copy)]
struct Plan {
    began: Instant,
    lasting: Duration,
    /// Requests a second, during the overload and after it.
    rate: f64,
    afterwards: f64,
}

impl Plan {
    /// When a request is due; None after the last.
    fn due(&self, number: usize) -> Option<Instant> {
        let during =
            self.lasting.mul_f64(ratio(number, 1) / (self.lasting.as_secs_f64() * self.rate));
        if during < self.lasting {
            return Some(self.began + during);
        }
        let later = (during - self.lasting).mul_f64(self.rate / self.afterwards);
        (later < AFTERWARDS_FOR).then(|| self.began + self.lasting + later)
    }
}

struct Shared {
    plan: Plan,
    next: AtomicUsize,
    stop: AtomicBool,
}

fn run(
    pictures: &Arc<[Picture]>,
    server: &Server,
    plan: Plan,
    connections: usize,
) -> Result<Vec<Asked>> {
    let shared = Arc::new(Shared { plan, next: AtomicUsize::new(0), stop: AtomicBool::new(false) });
    let requests: Arc<[Vec<u8>]> = pictures.iter().map(|it| request(&it.jpeg)).collect();
    let address = server.data;
    let spawn = |_| {
        let (shared, requests) = (Arc::clone(&shared), Arc::clone(&requests));
        std::thread::Builder::new().stack_size(STACK).spawn(move || {
            let result = ask(&shared, &requests, || Connection::open(address));
            shared.stop.fetch_or(result.is_err(), Ordering::Relaxed);
            result
        })
    };
    let threads = (0..connections).map(spawn).collect::<io::Result<Vec<JoinHandle<_>>>>()?;
    let mut all = Vec::new();
    for thread in threads {
        all.extend(thread.join().map_err(|_panic| anyhow!("a client panicked"))??);
    }
    Ok(all)
}

fn ask(
    shared: &Shared,
    requests: &[Vec<u8>],
    open: impl Fn() -> io::Result<Connection>,
) -> Result<Vec<Asked>> {
    // Opened when first needed: the server closes one that brings nothing for five seconds.
    let mut connection = None;
    let mut asked = Vec::new();
    while !shared.stop.load(Ordering::Relaxed) {
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        let Some(due) = shared.plan.due(number) else { break };
        pause(due.saturating_duration_since(Instant::now()));
        let request = requests.get(number % requests.len()).context("no pictures")?;
        let connection = match &mut connection {
            Some(it) => it,
            none => none.insert(open()?),
        };
        connection.send(request)?;
        let written = Instant::now();
        let (status, body) = connection.receive()?;
        let done = Instant::now();
        asked.push(Asked { due, written, done, status });
        match status {
            200 | 504 => {}
            503 => pause(Duration::from_millis(
                serde_json::from_slice::<Refusal>(body)?.retry_after_ms,
            )),
            other => bail!("the answer is a {other}: {}", String::from_utf8_lossy(body)),
        }
    }
    Ok(asked)
}

#[derive(Deserialize)]
struct Refusal {
    retry_after_ms: u64,
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
         `linesight_load_ratio` said at the end. Memory: resident in the second and in the last fifth.\n\n\
         ![answered in time against offered load](img/goodput.svg)\n\n\
         | offered, of capacity | capacity before, after | offered/s | in time/s | of capacity | p50 ms | p99 ms | refusal p99 ms \
         | expired | recovered after ms | load ratio | cores: server, generator | memory, MB |\n\
         |--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
        SETTLED.as_secs_f64(),
    );
    for it in loads {
        let refused = it.refused.p99_ms;
        let refused = if refused.is_nan() { "–".to_owned() } else { format!("{refused:.1}") };
        out += &format!(
            "| {} | {:.1}, {:.1} | {:.1} | {:.1} | {} | {:.1} | {:.1} | {} | {} | {:.0} | {:.2} | {:.2}, {:.2} | {:.0}, {:.0} |\n",
            it.times,
            it.capacity_per_second[0],
            it.capacity_per_second[1],
            it.offered_per_second,
            it.goodput_per_second,
            of_capacity(it),
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
