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
    load::{Connection, request},
    server::Server,
    stats::{Latency, millis, per_second, ratio},
    subject::Picture,
    window::pause,
};

/// Below the 1024 that the server accepts by default.
const CONNECTIONS: usize = 900;
const STACK: usize = 128 << 10;
pub const TARGET: Duration = Duration::from_millis(600);
/// What came in before the credit for bursts was spent has been answered by then.
const SETTLED: Duration = Duration::from_millis(3_600);
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
    /// As was reached, once settled.
    pub offered_per_second: f64,
    /// 200s within the target.
    pub goodput_per_second: f64,
    pub of_capacity: f64,
    /// Of all 200s.
    pub answered: Latency,
    pub refused: Latency,
    pub expired: usize,
    /// After the overload: until every request is answered within the target.
    pub recovery_ms: f64,
}

/// Offers each of `times` the capacity in turn, each for `lasting`.
pub fn measure(
    pictures: &Arc<[Picture]>,
    server: &Server,
    capacity: f64,
    times: &[f64],
    lasting: Duration,
) -> Result<Vec<AtLoad>> {
    times.iter().map(|it| at(pictures, server, capacity, *it, lasting)).collect()
}

fn at(
    pictures: &Arc<[Picture]>,
    server: &Server,
    capacity: f64,
    times: f64,
    lasting: Duration,
) -> Result<AtLoad> {
    let began = Instant::now() + Duration::from_millis(200);
    let plan = Plan { began, lasting, rate: capacity * times, afterwards: capacity * AFTERWARDS };
    let asked = run(pictures, server, plan)?;
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
        offered_per_second: per_second(settled.len(), time),
        goodput_per_second: goodput,
        of_capacity: goodput / capacity,
        answered: Latency::of(&took(200, &|it| it.due)),
        refused: Latency::of(&took(503, &|it| it.written)),
        expired: settled.iter().filter(|it| it.status == 504).count(),
        recovery_ms: last_bad.max().map_or(0.0, |it| millis(it - over)),
    })
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

fn run(pictures: &Arc<[Picture]>, server: &Server, plan: Plan) -> Result<Vec<Asked>> {
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
    let threads = (0..CONNECTIONS).map(spawn).collect::<io::Result<Vec<JoinHandle<_>>>>()?;
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
    let mut connection = open()?;
    let mut asked = Vec::new();
    while !shared.stop.load(Ordering::Relaxed) {
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        let Some(due) = shared.plan.due(number) else { break };
        pause(due.saturating_duration_since(Instant::now()));
        let request = requests.get(number % requests.len()).context("no pictures")?;
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

/// The section of the page.
pub fn section(capacity: f64, loads: &[AtLoad]) -> String {
    let mut out = format!(
        "## Overload\n\nOpen loop, over at most {CONNECTIONS} connections; latency counts from when a request was \
         due. Capacity is {capacity:.1} images/s. Counted from {:.1} s after the overload began; a \
         refused connection rests until `Retry-After`.\n\n\
         | offered, of capacity | offered/s | in time/s | of capacity | p50 ms | p99 ms | refusal p99 ms | expired | recovered after ms |\n\
         |--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
        SETTLED.as_secs_f64(),
    );
    for it in loads {
        out += &format!(
            "| {} | {:.1} | {:.1} | {:.3} | {:.1} | {:.1} | {:.1} | {} | {:.0} |\n",
            it.times,
            it.offered_per_second,
            it.goodput_per_second,
            it.of_capacity,
            it.answered.p50_ms,
            it.answered.p99_ms,
            it.refused.p99_ms,
            it.expired,
            it.recovery_ms,
        );
    }
    out + "\n"
}
