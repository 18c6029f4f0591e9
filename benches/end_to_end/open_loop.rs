//! Requests sent when they are due, whether or not answers come.
//!
//! A refused request is not sent again; its connection rests until `Retry-After` has passed. Where all
//! connections are busy or rest, fewer are sent than were meant.

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
use serde::Deserialize;

use crate::{
    load::{Connection, request},
    server::Server,
    stats::ratio,
    subject::Picture,
    window::pause,
};

/// Of a client's thread.
pub const STACK: usize = 128 << 10;
/// An answer that comes later was not in time.
pub const TARGET: Duration = Duration::from_millis(600);
/// What is asked after the overload.
const AFTERWARDS_FOR: Duration = Duration::from_secs(6);

/// One request, and what became of it.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub due: Instant,
    /// When its last byte was written.
    pub written: Instant,
    pub done: Instant,
    pub status: u16,
}

impl Asked {
    pub fn is_in_time(&self) -> bool {
        self.status == 200 && self.done - self.due <= TARGET
    }
}

/// What is sent when.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub began: Instant,
    pub lasting: Duration,
    /// Requests a second, during the overload and after it.
    pub rate: f64,
    pub afterwards: f64,
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

/// Sends every request when it is due, over at most so many connections.
pub fn run(
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
