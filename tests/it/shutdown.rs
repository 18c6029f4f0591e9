//! SIGTERM under load: who was let in is answered, and the process ends well.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use crate::support::{
    client::{Connection, get, post},
    colours::{GREEN, png},
    models::{PATIENT, Repository, colour_manifest},
    server::{Settings, until},
};

/// A client that asks again as soon as it is answered, until nobody listens.
struct Client<'a> {
    data: SocketAddr,
    request: &'a [u8],
    /// Whether it keeps its connection for the next request.
    keeps: bool,
    answered: &'a AtomicUsize,
    /// Requests whose connection ended before their answer.
    lost: &'a AtomicUsize,
    stopping: &'a AtomicBool,
}

impl Client<'_> {
    fn ask_until_nobody_listens(self) {
        let mut kept = None;
        loop {
            let was_kept = kept.is_some();
            let opened = kept.take().map_or_else(|| Connection::open(self.data), Ok);
            let mut connection = match opened {
                Ok(connection) => connection,
                Err(error) => {
                    assert!(self.stopping.load(SeqCst), "refused before the signal: {error}");
                    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
                    return;
                }
            };
            match connection.exchange(self.request) {
                Ok(answer) => {
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    assert_eq!(answer.verdict(0), "approve/ok");
                    self.answered.fetch_add(1, SeqCst);
                    let closes = answer.header("connection") == Some("close");
                    kept = (self.keeps && !closes).then_some(connection);
                }
                Err(error) => {
                    assert!(self.stopping.load(SeqCst), "lost before the signal: {error}");
                    assert!(is_closed(&error), "{error}");
                    // Who asks all the time was told by an answer that its connection ends.
                    assert!(!was_kept, "lost on a kept connection: {error}");
                    self.lost.fetch_add(1, SeqCst);
                }
            }
        }
    }
}

fn is_closed(error: &io::Error) -> bool {
    use ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, UnexpectedEof,
    };
    [BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, UnexpectedEof]
        .contains(&error.kind())
}

#[test]
fn a_stopping_server_answers_everyone_it_let_in() {
    let models = Repository::empty();
    models.proven("colour", PATIENT);
    let delay = "LINESIGHT_SERVER__DRAIN_DELAY";
    let server = Settings::new(models.path()).set(delay, "300ms").ready();
    let request = post("/v1/models/colour/predict", png(GREEN)).bytes();
    let (answered, lost) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let stopping = AtomicBool::new(false);
    let counted = std::thread::scope(|scope| {
        for number in 0..8 {
            let client = Client {
                data: server.data,
                request: &request,
                keeps: number % 2 == 0,
                answered: &answered,
                lost: &lost,
                stopping: &stopping,
            };
            scope.spawn(move || client.ask_until_nobody_listens());
        }
        let enough = |n| (answered.load(SeqCst) >= n).then_some(());
        until("100 answers", || enough(100));
        stopping.store(true, SeqCst);
        server.signal("TERM");
        // Readiness is off at once, while requests are still taken.
        let line = server.logged("stopping: no longer ready");
        assert_eq!(line["delay_seconds"], 0.3);
        let ready = get("/readyz").send(server.admin);
        assert_eq!(ready.status, 503);
        assert!(ready.text().contains("shutting down"), "{}", ready.text());
        let during = answered.load(SeqCst);
        until("answers during the delay", || enough(during + 10));
        server.logged("stopped taking requests")["connections_cut"].clone()
    });
    assert_eq!(counted, 0, "no connection was cut");
    // Between the last look into the backlog and the closing of the socket lie microseconds, which
    // the system gives no means to close.
    assert!(lost.load(SeqCst) <= 1, "lost: {lost:?}");
    let status = server.wait();
    assert_eq!(status.code(), Some(0), "{status}");
}

#[test]
fn what_is_in_flight_when_the_listener_closes_is_answered() {
    let models = Repository::empty();
    models.colour("slow", "slow", &colour_manifest(false), PATIENT);
    // No delay: the listener closes at once, with a run under way and requests in the queue.
    let server = Settings::new(models.path()).ready();
    let request = post("/v1/models/slow/predict", png(GREEN)).bytes();
    let n_clients = 4;
    let mut connections: Vec<_> = (0..n_clients)
        .map(|_| {
            let mut connection = Connection::open(server.data).unwrap();
            connection.write(&request);
            connection
        })
        .collect();
    until("all to be in the queue or on a lane", || {
        let waiting = server.metric("linesight_queue_depth{model=\"slow\",version=\"1\"}");
        (waiting >= n_clients - 2).then_some(())
    });
    server.signal("TERM");
    for connection in &mut connections {
        let answer = connection.answer().unwrap();
        assert_eq!((answer.status, &*answer.verdict(0)), (200, "null"), "{}", answer.text());
        // The connection is not kept.
        assert!(connection.is_closed());
    }
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_second_signal_does_not_ask() {
    let models = Repository::empty();
    models.proven("colour", "");
    let server = Settings::new(models.path()).set("LINESIGHT_SERVER__DRAIN_DELAY", "60s").ready();
    server.signal("TERM");
    server.logged("stopping: no longer ready");
    server.signal("INT");
    assert_eq!(server.wait().code(), Some(130));
}

#[test]
fn whoever_presses_ctrl_c_does_not_wait_for_load_balancers() {
    let models = Repository::empty();
    models.proven("colour", "");
    // Longer than the test would wait for the end.
    let server = Settings::new(models.path()).set("LINESIGHT_SERVER__DRAIN_DELAY", "10min").ready();
    server.signal("INT");
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_server_that_is_still_loading_stops_too() {
    let models = Repository::empty();
    for name in ["a", "b", "c", "d"] {
        models.colour(name, "slow", &colour_manifest(false), "");
    }
    let server = Settings::new(models.path()).start();
    server.logged("measured");
    server.signal("TERM");
    let (status, log) = server.wait_and_log();
    assert_eq!(status.code(), Some(0), "{log:#?}");
    // What still loads is inside ONNX Runtime, which must not be taken down around it.
    assert!(!log.iter().any(|it| it.contains("\"ERROR\"")), "{log:#?}");
}
