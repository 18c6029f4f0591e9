//! Clients that ask again at once, whatever they are told: what is still answered in time.
//!
//! Closed loop: a client sends its next request when it has its answer, of whatever kind. Each refused
//! upload costs, so the floor is measured while the same clients post the same bodies, as often as they
//! did, to a handler that drops them.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, anyhow, bail};
use linesight::types::Instant;
use serde::Serialize;

use crate::{
    floor::Floor,
    load::{Connection, Load, Pace, Target, request},
    open_loop::{STACK, TARGET},
    overload::SETTLED,
    saturation::SINK_ANSWER,
    server::Server,
    sink::Sink,
    stats::{Latency, per_second},
    subject::Subject,
    window::{Window, pause},
};

const CLIENTS: usize = 350;

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Retries {
    pub clients: usize,
    /// Answers of any kind.
    pub requests_per_second: f64,
    /// 200s within the target.
    pub goodput_per_second: f64,
    /// Of all 200s.
    pub answered: Latency,
    pub fair_floor_per_second: f64,
    pub to_fair_floor: f64,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    done: Instant,
    took: Duration,
    status: u16,
}

pub fn measure(
    subject: &Subject,
    server: &Server,
    floor: &mut Floor<'_>,
    lasting: Duration,
) -> Result<Retries> {
    let began = Instant::now();
    let asked = run(subject, server, lasting)?;
    let settled = |it: &&Asked| began + SETTLED <= it.done && it.done < began + lasting;
    let (time, all) = (lasting - SETTLED, || asked.iter().filter(settled));
    let answered: Vec<Duration> = all().filter(|it| it.status == 200).map(|it| it.took).collect();
    let in_time = answered.iter().filter(|it| **it <= TARGET).count();
    let requests_per_second = per_second(all().count(), time);
    let goodput_per_second = per_second(in_time, time);

    let sink = Sink::start(SINK_ANSWER)?;
    let target = Target { address: sink.address(), judges: false };
    let pace = Pace::PerSecond(requests_per_second);
    let load = Load::start(target, &subject.pictures, CLIENTS, pace)?;
    let warm_up = Duration::from_secs(1);
    let fair_floor = floor.throughput(Window { warm_up, measured: time })?;
    load.stop()?;
    Ok(Retries {
        clients: CLIENTS,
        requests_per_second,
        goodput_per_second,
        answered: Latency::of(&answered),
        fair_floor_per_second: fair_floor.per_second,
        to_fair_floor: goodput_per_second / fair_floor.per_second,
    })
}

fn run(subject: &Subject, server: &Server, lasting: Duration) -> Result<Vec<Asked>> {
    let requests: Arc<[Vec<u8>]> = subject.pictures.iter().map(|it| request(&it.jpeg)).collect();
    let (stop, address) = (Arc::new(AtomicBool::new(false)), server.data);
    let spawn = |at: usize| {
        let (requests, stop) = (Arc::clone(&requests), Arc::clone(&stop));
        std::thread::Builder::new().stack_size(STACK).spawn(move || -> Result<Vec<Asked>> {
            let mut connection = Connection::open(address)?;
            let mut all = Vec::new();
            for request in requests.iter().cycle().skip(at) {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let before = Instant::now();
                let (status, body) = connection.ask(request)?;
                let done = Instant::now();
                if !matches!(status, 200 | 503 | 504) {
                    bail!("the answer is a {status}: {}", String::from_utf8_lossy(body));
                }
                all.push(Asked { done, took: done - before, status });
            }
            Ok(all)
        })
    };
    let threads = (0..CLIENTS).map(spawn).collect::<io::Result<Vec<_>>>()?;
    pause(lasting);
    stop.store(true, Ordering::Relaxed);
    let mut all = Vec::new();
    for thread in threads {
        all.extend(thread.join().map_err(|_panic| anyhow!("a client panicked"))??);
    }
    Ok(all)
}

/// The section of the page.
pub fn section(it: &Retries) -> String {
    format!(
        "## Clients that retry at once\n\n{} clients, each sending its next request when it has its \
         answer, of whatever kind: {:.0} requests/s, of which {:.1}/s are answered within the target; \
         p50 of the 200s {:.0} ms, p99 {:.0} ms. The floor while the same bodies are posted as often to \
         a handler that drops them: {:.1}/s. Share: {:.3}.\n\n",
        it.clients,
        it.requests_per_second,
        it.goodput_per_second,
        it.answered.p50_ms,
        it.answered.p99_ms,
        it.fair_floor_per_second,
        it.to_fair_floor,
    )
}
