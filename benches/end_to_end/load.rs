//! The load generator: one thread a connection, blocking sockets kept alive, one request at a time.
//!
//! It shares the cores with the server, so it does as little as it can; but it reads every answer
//! and stops the run at the first that is not a 200 with the right label.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
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

use crate::{subject::Picture, window::pause};

/// Who is asked.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    pub address: SocketAddr,
    /// Whether the labels of its answers mean anything.
    pub judges: bool,
}

/// When a connection sends its next request.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// When it has its answer.
    Closed,
    /// When it has its answer, until so many requests are sent over all connections.
    Requests(usize),
    /// At so many a second over all connections, if the answers come in time.
    PerSecond(f64),
}

/// One request and its answer.
#[derive(Debug, Clone, Copy)]
pub struct Answered {
    pub at: Instant,
    pub took: Duration,
    pub server: Timing,
}

/// Where the server says the time went, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    pub read: f64,
    pub queue: f64,
    pub decode: f64,
    pub infer: f64,
    pub wall: f64,
}

/// A generator at work.
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Result<Vec<Answered>>>>,
}

struct Shared {
    target: Target,
    pictures: Arc<[Picture]>,
    pace: Pace,
    started: Instant,
    stop: AtomicBool,
    sent: AtomicUsize,
    answered: AtomicUsize,
}

impl Load {
    pub fn start(
        target: Target,
        pictures: &Arc<[Picture]>,
        connections: usize,
        pace: Pace,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            target,
            pictures: Arc::clone(pictures),
            pace,
            started: Instant::now(),
            stop: AtomicBool::new(false),
            sent: AtomicUsize::new(0),
            answered: AtomicUsize::new(0),
        });
        let spawn = |at: usize| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name(format!("client-{at}")).spawn(move || {
                let result = shared.ask_until_stopped(at);
                // One wrong answer ends the run.
                shared.stop.fetch_or(result.is_err(), Ordering::Relaxed);
                result
            })
        };
        let threads = (0..connections).map(spawn).collect::<io::Result<_>>()?;
        Ok(Self { shared, threads })
    }

    /// How many answers there are by now.
    pub fn answered(&self) -> usize {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Whether every connection has ended.
    pub fn is_over(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Lets every connection have its answer, and ends it.
    pub fn stop(self) -> Result<Vec<Answered>> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.join()
    }

    fn join(self) -> Result<Vec<Answered>> {
        let mut all = Vec::new();
        for thread in self.threads {
            all.extend(thread.join().map_err(|_panic| anyhow!("a client panicked"))??);
        }
        Ok(all)
    }
}

impl Shared {
    fn ask_until_stopped(&self, at: usize) -> Result<Vec<Answered>> {
        let mut connection = Connection::open(self.target.address)?;
        let requests: Vec<(Vec<u8>, &str)> =
            self.pictures.iter().map(|it| (request(&it.jpeg), &*it.label)).collect();
        let mut answered = Vec::new();
        for (request, label) in requests.iter().cycle().skip(at) {
            if !self.wait_for_turn() {
                break;
            }
            let before = Instant::now();
            let (status, body) = connection.ask(request)?;
            let now = Instant::now();
            let server = self.check(status, body, label)?;
            answered.push(Answered { at: now, took: now - before, server });
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
        Ok(answered)
    }

    /// Waits until the next request is due; false when it is never.
    fn wait_for_turn(&self) -> bool {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        match self.pace {
            Pace::Closed => {}
            Pace::Requests(all) if number >= all => return false,
            Pace::Requests(_) => {}
            Pace::PerSecond(rate) => {
                let n = u32::try_from(number).unwrap_or(u32::MAX);
                let due = self.started + Duration::from_secs_f64(f64::from(n) / rate);
                pause(due.saturating_duration_since(Instant::now()));
            }
        }
        !self.stop.load(Ordering::Relaxed)
    }

    fn check(&self, status: u16, body: &[u8], label: &str) -> Result<Timing> {
        let text = || String::from_utf8_lossy(body).into_owned();
        if status != 200 {
            bail!("the answer is a {status}: {}", text());
        }
        let answer: Answer = serde_json::from_slice(body).with_context(text)?;
        let [item] = &answer.items[..] else { bail!("not one item: {}", text()) };
        if self.target.judges && item.label != label {
            bail!("the answer is {}, not {label}: {}", item.label, text());
        }
        let (part, whole) = (&item.timing, &answer.timing);
        let (decode, infer) = (part.decode_ms, part.infer_ms);
        let (read, wall) = (whole.read_ms, whole.wall_ms);
        Ok(Timing { read, queue: part.queue_ms, decode, infer, wall })
    }
}

#[derive(Deserialize)]
struct Answer {
    items: Vec<Item>,
    timing: WholeTiming,
}

#[derive(Deserialize)]
struct Item {
    label: String,
    timing: ItemTiming,
}

#[derive(Deserialize)]
#[expect(clippy::struct_field_names, reason = "as they stand in the answer")]
struct ItemTiming {
    decode_ms: f64,
    queue_ms: f64,
    infer_ms: f64,
}

#[derive(Deserialize)]
struct WholeTiming {
    read_ms: f64,
    wall_ms: f64,
}

pub fn request(jpeg: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /v1/models/vial-defect/predict HTTP/1.1\r\nHost: bench\r\n\
         Content-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n",
        jpeg.len()
    );
    [head.as_bytes(), jpeg].concat()
}

/// One connection, kept alive.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self { stream, buffer: vec![0; 64 << 10] })
    }

    /// Sends a whole request and reads the whole answer: status and body.
    pub fn ask(&mut self, request: &[u8]) -> io::Result<(u16, &[u8])> {
        self.send(request)?;
        self.receive()
    }

    pub fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.stream.write_all(request)
    }

    /// Reads a whole answer: status and body.
    pub fn receive(&mut self) -> io::Result<(u16, &[u8])> {
        let (mut filled, mut head) = (0, None);
        loop {
            let n = self.stream.read(&mut self.buffer[filled..])?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            filled += n;
            head = head.or_else(|| Head::parse(&self.buffer[..filled]));
            if let Some(Head { status, body, end }) = head
                && filled >= end
            {
                return Ok((status, &self.buffer[body..end]));
            }
        }
    }
}

/// What must be known of an answer's or a request's head.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    pub status: u16,
    /// Where the body begins, and ends.
    pub body: usize,
    pub end: usize,
}

impl Head {
    /// None until it is all there.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let body = bytes.windows(4).position(|it| it == b"\r\n\r\n")? + 4;
        let text = std::str::from_utf8(&bytes[..body]).ok()?;
        let status = text.split(' ').nth(1).and_then(|it| it.parse().ok()).unwrap_or(0);
        let length = text.lines().filter_map(|it| it.split_once(':'));
        let mut length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let length: usize = length.next().and_then(|(_, it)| it.trim().parse().ok()).unwrap_or(0);
        Some(Self { status, body, end: body + length })
    }
}
