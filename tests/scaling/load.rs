//! Clients: as fast as answers come, or by the clock whether or not they come.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use linesight::types::Instant;

use crate::{flagship::request, support::client::Connection};

/// What became of a request.
#[derive(Debug)]
pub struct Asked {
    pub sent: Instant,
    /// Its status, or why there is none.
    pub outcome: Result<u16, String>,
}

/// When a client sends its next request.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// When it has its answer.
    Closed,
    /// So many a second over all clients, if one of them is free.
    PerSecond(f64),
}

/// Whether a client keeps its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connections {
    Kept,
    /// A proxy that is told of other replicas closes those it has.
    Fresh,
}

/// Clients at work.
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Vec<Asked>>>,
}

struct Shared {
    address: SocketAddr,
    pace: Pace,
    connections: Connections,
    began: Instant,
    next: AtomicU32,
    answered: AtomicU32,
    stop: AtomicBool,
}

impl Load {
    pub fn start(
        address: SocketAddr,
        n_clients: usize,
        pace: Pace,
        connections: Connections,
    ) -> Self {
        let shared = Arc::new(Shared {
            address,
            pace,
            connections,
            began: Instant::now(),
            next: AtomicU32::new(0),
            answered: AtomicU32::new(0),
            stop: AtomicBool::new(false),
        });
        let client = |_| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.ask_until_stopped())
        };
        let clients = (0..n_clients).map(client).collect();
        Self { shared, clients }
    }

    /// How many answers there are by now.
    pub fn answered(&self) -> u32 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Every request that was sent; those under way are answered first.
    pub fn stop(self) -> Vec<Asked> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().flat_map(|it| it.join().unwrap()).collect()
    }
}

impl Shared {
    fn ask_until_stopped(&self) -> Vec<Asked> {
        let request = request();
        let mut connection = None;
        let mut asked = Vec::new();
        while self.wait_for_turn() {
            let sent = Instant::now();
            let outcome = self.ask(&mut connection, &request);
            if self.connections == Connections::Fresh || outcome.is_err() {
                connection = None;
            }
            asked.push(Asked { sent, outcome });
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
        asked
    }

    fn ask(&self, kept: &mut Option<Connection>, request: &[u8]) -> Result<u16, String> {
        let connection = match kept {
            Some(it) => it,
            None => kept.insert(Connection::open(self.address).map_err(|it| it.to_string())?),
        };
        connection.exchange(request).map(|it| it.status).map_err(|it| it.to_string())
    }

    /// False when there is no more to send.
    fn wait_for_turn(&self) -> bool {
        if let Pace::PerSecond(rate) = self.pace {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let due = self.began + Duration::from_secs_f64(f64::from(number) / rate);
            pause(due.saturating_duration_since(Instant::now()));
        }
        !self.stop.load(Ordering::Relaxed)
    }
}

/// What is measured here is measured by the clock.
#[expect(clippy::disallowed_methods, reason = "no condition stands for time that passes")]
pub fn pause(lasting: Duration) {
    std::thread::sleep(lasting);
}

/// Answers a second to so many clients, each asking again at once: one more than lanes keeps those busy.
pub fn capacity(address: SocketAddr, n_clients: usize, connections: Connections) -> f64 {
    const LASTING: Duration = Duration::from_secs(3);
    let load = Load::start(address, n_clients, Pace::Closed, connections);
    pause(Duration::from_millis(500));
    let (before, began) = (load.answered(), Instant::now());
    pause(LASTING);
    let (n, took) = (load.answered() - before, began.elapsed());
    let failed = load.stop().into_iter().find(|it| it.outcome != Ok(200));
    assert!(failed.is_none(), "{failed:?}");
    f64::from(n) / took.as_secs_f64()
}
