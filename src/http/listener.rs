//! The accept loop: how many connections there may be, and how they end.
//!
//! Promises: connections beyond the limit are closed at once; running out of file descriptors
//! slows accepting down instead of spinning or ending it; when told to stop, who has connected is
//! answered, what is in flight is finished within the grace, and then every task is joined. Not here: TLS (a proxy's work) and
//! anything about single requests.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::Router;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::{JoinError, JoinSet},
};

use super::{
    activity::Timeouts,
    connection::{Connections, Ended},
};
use crate::{metrics::Metrics, types::Instant};

/// Bounds on connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerConfig {
    /// Connections at a time; more are closed at once.
    pub connections: usize,
    /// Connections at a time from one address; 0 for no limit, as behind a proxy all share one.
    pub connections_per_address: usize,
    /// From accepting a connection to its first byte.
    pub first_byte_timeout: Duration,
    /// From the first byte of a request's head to its last.
    pub header_timeout: Duration,
    /// A connection without a request in progress is closed after this.
    pub idle_timeout: Duration,
    /// A client that takes nothing of its answer for this long is given up.
    pub write_timeout: Duration,
    /// How long a closed connection is still read from, so that its client sees the answer.
    pub linger: Duration,
    /// From being told to stop to giving up what is still in flight.
    pub grace: Duration,
}

impl Default for ListenerConfig {
    fn default() -> Self {
        Self {
            connections: 1024,
            connections_per_address: 0,
            first_byte_timeout: Duration::from_secs(5),
            header_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            linger: Duration::from_secs(1),
            grace: Duration::from_secs(10),
        }
    }
}

/// How stopping went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were not done within the grace, and were cut.
    pub n_cut: usize,
}

/// A bound socket that does not accept yet.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    config: ListenerConfig,
    metrics: Option<Arc<Metrics>>,
}

impl Listener {
    /// Binds; port 0 takes a free one. Connections are counted where `metrics` are given: those of
    /// the data listener are, those of admin would only blur them.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn bind(
        address: SocketAddr,
        config: ListenerConfig,
        metrics: Option<Arc<Metrics>>,
    ) -> io::Result<Self> {
        Self::new(TcpListener::bind(address).await?, config, metrics)
    }

    /// Takes over a socket bound elsewhere, on the runtime it is called on.
    ///
    /// # Errors
    /// When the socket cannot be made non-blocking.
    pub fn adopt(
        socket: std::net::TcpListener,
        config: ListenerConfig,
        metrics: Option<Arc<Metrics>>,
    ) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Self::new(TcpListener::from_std(socket)?, config, metrics)
    }

    fn new(
        socket: TcpListener,
        config: ListenerConfig,
        metrics: Option<Arc<Metrics>>,
    ) -> io::Result<Self> {
        let address = socket.local_addr()?;
        Ok(Self { socket, address, config, metrics })
    }

    /// The address clients reach it at.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts and serves until `shutdown` is done, then drains.
    pub async fn serve(self, router: Router, shutdown: impl Future<Output = ()> + Send) -> Drained {
        let Self { socket, config, metrics, .. } = self;
        let shared = Arc::new(Connections::new(config.timeouts(), router));
        let slots = Slots::new(&config, metrics.clone());
        let (drain, draining) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let mut backoff = Backoff::default();
        let mut shutdown = std::pin::pin!(shutdown);
        let mut nearest_timer = tokio::time::interval(NEAREST_TIMER);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut shutdown => break,
                _now = nearest_timer.tick() => continue,
                Some(ended) = tasks.join_next() => {
                    note_end(metrics.as_deref(), ended);
                    continue;
                }
                accepted = backoff.accept(&socket) => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    backoff.accepted();
                    let Some(slot) = slots.take(peer.ip()) else { continue };
                    tasks.spawn(connection(Arc::clone(&shared), slot, stream, draining.clone()));
                }
                Err(error) => backoff.failed(&error, metrics.as_deref()),
            }
        }
        for (stream, peer) in already_connected(socket) {
            let Some(slot) = slots.take(peer.ip()) else { continue };
            tasks.spawn(connection(Arc::clone(&shared), slot, stream, draining.clone()));
        }
        tokio::time::sleep(SETTLE).await;
        // Every task holds a receiver or is done, so nobody needs to have heard it.
        let _all_may_be_done = drain.send(true);
        let all_done = async {
            while let Some(ended) = tasks.join_next().await {
                note_end(metrics.as_deref(), ended);
            }
        };
        let in_time = tokio::time::timeout(config.grace, all_done).await.is_ok();
        let n_cut = if in_time { 0 } else { tasks.len() };
        tasks.shutdown().await;
        Drained { n_cut }
    }
}

/// Tokio wakes its own driver, by a system call, for every timer that is nearer than all others. With this
/// one about, that is none of those that each request sets.
const NEAREST_TIMER: Duration = Duration::from_secs(1);
/// From closing the socket to telling the connections: what clients sent while they could still
/// believe in the server is read by then. A connection that is told while it is idle closes with
/// whatever stands unread in it.
const SETTLE: Duration = Duration::from_millis(150);
/// More than any backlog; so that a flood of connections cannot keep the socket open.
const MAX_BACKLOG: usize = 4096;

/// Closes the socket and returns the connections that were waiting in it: to their clients they are
/// open, and closing the socket would reset them. Asks the system itself, as tokio may not have
/// heard yet of the latest ones.
fn already_connected(socket: TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    let mut all = Vec::new();
    let Ok(socket) = socket.into_std() else { return all };
    while all.len() < MAX_BACKLOG {
        let Ok((stream, peer)) = socket.accept() else { break };
        if stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            all.push((stream, peer));
        }
    }
    all
}

impl ListenerConfig {
    fn timeouts(&self) -> Timeouts {
        Timeouts {
            first_byte: self.first_byte_timeout,
            header: self.header_timeout,
            idle: self.idle_timeout,
            write: self.write_timeout,
            linger: self.linger,
        }
    }
}

async fn connection(
    shared: Arc<Connections>,
    slot: Slot,
    stream: TcpStream,
    draining: watch::Receiver<bool>,
) {
    // Answers are written whole; waiting for more to send only adds delay. Fails on a dead socket.
    let _dead_socket_shows_when_read = stream.set_nodelay(true);
    let ended = shared.serve(stream, draining).await;
    let Some(metrics) = &slot.metrics else { return };
    match ended {
        Ended::Well => {}
        Ended::TimedOut(phase) => metrics.process.timed_out(phase.as_str()),
        Ended::Malformed => metrics.process.connections_malformed.inc(),
    }
}

/// A panic in a connection's own machinery closes that connection only, and is counted.
fn note_end(metrics: Option<&Metrics>, ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection task panicked");
        if let Some(metrics) = metrics {
            metrics.process.handler_panics.inc();
        }
    }
}

/// Who may connect.
#[derive(Debug)]
struct Slots {
    free: Arc<Semaphore>,
    per_address: Option<Arc<PerAddress>>,
    metrics: Option<Arc<Metrics>>,
}

#[derive(Debug)]
struct PerAddress {
    limit: usize,
    /// Open connections; no entry is 0. Locked for a look-up, never across an await.
    open: Mutex<HashMap<IpAddr, usize>>,
}

impl Slots {
    fn new(config: &ListenerConfig, metrics: Option<Arc<Metrics>>) -> Self {
        let limit = config.connections_per_address;
        let per_address =
            (limit > 0).then(|| Arc::new(PerAddress { limit, open: Mutex::default() }));
        let n_slots = config.connections.min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(n_slots)), per_address, metrics }
    }

    /// A slot for a connection from `address`, unless all are taken; counts either way.
    fn take(&self, address: IpAddr) -> Option<Slot> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok();
        let address = address.to_canonical();
        let fits = |it: &Arc<PerAddress>| it.enter(address).then(|| (Arc::clone(it), address));
        let of_address = self.per_address.as_ref().map(fits);
        let (Some(permit), None | Some(Some(_))) = (permit, &of_address) else {
            if let Some(Some((per_address, address))) = of_address {
                per_address.leave(address);
            }
            if let Some(metrics) = &self.metrics {
                metrics.process.connections_refused.inc();
            }
            return None;
        };
        if let Some(metrics) = &self.metrics {
            metrics.process.connections_open.inc();
        }
        let metrics = self.metrics.clone();
        Some(Slot { _permit: permit, of_address: of_address.flatten(), metrics })
    }
}

impl PerAddress {
    fn enter(&self, address: IpAddr) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let n_open = open.entry(address).or_default();
        let fits = *n_open < self.limit;
        *n_open += usize::from(fits);
        fits
    }

    fn leave(&self, address: IpAddr) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(n_open) = open.get_mut(&address) {
            *n_open -= 1;
            if *n_open == 0 {
                open.remove(&address);
            }
        }
    }
}

/// Leave to be connected; dropping it gives it back.
#[derive(Debug)]
struct Slot {
    _permit: OwnedSemaphorePermit,
    of_address: Option<(Arc<PerAddress>, IpAddr)>,
    metrics: Option<Arc<Metrics>>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some((per_address, address)) = &self.of_address {
            per_address.leave(*address);
        }
        if let Some(metrics) = &self.metrics {
            metrics.process.connections_open.dec();
        }
    }
}

/// Slows accepting down while it fails: without a file descriptor to accept with, the waiting
/// connection makes the socket ready again at once, and a plain loop would spin.
#[derive(Debug, Default)]
struct Backoff {
    wait: Duration,
    resume_at: Option<Instant>,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(10);
    const LONGEST: Duration = Duration::from_secs(1);

    async fn accept(&self, socket: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
        if let Some(at) = self.resume_at {
            tokio::time::sleep_until(at).await;
        }
        socket.accept().await
    }

    fn accepted(&mut self) {
        *self = Self::default();
    }

    fn failed(&mut self, error: &io::Error, metrics: Option<&Metrics>) {
        let of_one_client = matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionRefused
                | io::ErrorKind::Interrupted
        );
        if of_one_client {
            return;
        }
        if let Some(metrics) = metrics {
            metrics.process.connections_refused.inc();
        }
        if self.wait.is_zero() {
            // Once per streak: a line per attempt would fill the disk next.
            tracing::error!(%error, "cannot accept connections; trying on");
        }
        self.wait = (self.wait * 2).clamp(Self::FIRST, Self::LONGEST);
        self.resume_at = Some(Instant::now() + self.wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepting_slows_down_while_descriptors_are_short_and_recovers() {
        let metrics = Metrics::new();
        let mut backoff = Backoff::default();
        let out_of_descriptors = io::Error::from_raw_os_error(24);
        let waits: Vec<_> = (0..9)
            .map(|_| {
                backoff.failed(&out_of_descriptors, Some(&metrics));
                backoff.wait.as_millis()
            })
            .collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        assert_eq!(metrics.process.connections_refused.get(), 9);
        backoff.accepted();
        assert_eq!(backoff.resume_at, None);
        backoff.failed(&io::ErrorKind::ConnectionAborted.into(), Some(&metrics));
        assert_eq!(backoff.resume_at, None, "one client's failure is no reason to slow down");
    }
}
