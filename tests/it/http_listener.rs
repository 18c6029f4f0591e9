//! The accept loop and its timers over real sockets, around a router of the test's own.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Barrier},
    time::Duration,
};

use axum::{Router, routing::get};
use linesight::{
    http::{Drained, Listener, ListenerConfig},
    metrics::Metrics,
};
use tokio::sync::{Notify, oneshot};

const IDLE_TIMEOUT: Duration = Duration::from_millis(100);

/// A listener on a thread of its own, stopped and joined by [`Running::stop`].
struct Running {
    address: SocketAddr,
    metrics: Arc<Metrics>,
    stop: oneshot::Sender<()>,
    thread: std::thread::JoinHandle<Drained>,
    /// Where `/block` meets the test.
    gate: Arc<Barrier>,
    /// Lets `/held` answer.
    release: Arc<Notify>,
}

fn start(config: ListenerConfig) -> Running {
    let metrics = Metrics::new();
    let counted = Arc::clone(&metrics);
    let gate = Arc::new(Barrier::new(2));
    let held_up = Arc::clone(&gate);
    let release = Arc::new(Notify::new());
    let released = Arc::clone(&release);
    let (stop, stopped) = oneshot::channel::<()>();
    let (tell, address) = std::sync::mpsc::channel();
    let run = async move {
        let anywhere = "127.0.0.1:0".parse().unwrap();
        let listener = Listener::bind(anywhere, config, Some(counted)).await.unwrap();
        tell.send(listener.address()).unwrap();
        let held = || async move {
            released.notified().await;
            // The connection may have been told in the same moment that the server is stopping, and
            // hears of it once its handler waits.
            tokio::task::yield_now().await;
            "done"
        };
        // Holds up the whole listener, which runs on one thread, from one meeting to the next.
        let block = move || async move {
            held_up.wait();
            held_up.wait();
            "blocked"
        };
        let router = Router::new()
            .route("/", get(|| async { "hello" }))
            .route("/held", get(held))
            .route("/block", get(block));
        let until_told = async {
            let _dropped_is_told = stopped.await;
        };
        listener.serve(router, until_told).await
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let thread = std::thread::spawn(move || runtime.block_on(run));
    Running { address: address.recv().unwrap(), metrics, stop, thread, gate, release }
}

impl Running {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    fn stop(self) -> Drained {
        self.stop.send(()).unwrap();
        self.thread.join().unwrap()
    }

    fn assert_counted(&self, line: &str) {
        assert_counted(&self.metrics, line);
    }

    /// Stops; timers are counted when their connection has ended, so only now surely all are.
    fn stop_and_assert_counted(self, line: &str) {
        let metrics = Arc::clone(&self.metrics);
        self.stop();
        assert_counted(&metrics, line);
    }
}

#[track_caller]
fn assert_counted(metrics: &Metrics, line: &str) {
    let text = String::from_utf8(metrics.render()).unwrap();
    assert!(text.lines().any(|it| it == line), "{line} is not in\n{text}");
}

/// Sends a request on an open connection and reads its answer up to and with `end`.
fn exchange(stream: &mut TcpStream, request: &str, end: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(end.as_bytes()) {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "closed after {answer:?}");
        answer.push(byte[0]);
    }
    String::from_utf8(answer).unwrap()
}

/// Whether the server closes the connection without another byte.
fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0]) {
        Ok(n) => n == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

const HELLO: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

fn short() -> ListenerConfig {
    ListenerConfig {
        first_byte_timeout: Duration::from_millis(100),
        header_timeout: Duration::from_millis(100),
        idle_timeout: Duration::from_secs(5),
        linger: Duration::from_millis(50),
        ..ListenerConfig::default()
    }
}

#[test]
fn silent_and_dribbling_clients_are_closed_and_counted() {
    let server = start(short());
    assert!(is_closed(&mut server.connect()));
    server.stop_and_assert_counted("linesight_connections_timed_out_total{phase=\"first_byte\"} 1");
    let server = start(short());
    let mut dribbling = server.connect();
    dribbling.write_all(b"GET / HT").unwrap();
    assert!(is_closed(&mut dribbling));
    server.stop_and_assert_counted("linesight_connections_timed_out_total{phase=\"header\"} 1");
}

#[test]
fn a_kept_alive_connection_outlives_the_header_timer() {
    let server = start(short());
    let mut stream = server.connect();
    assert!(exchange(&mut stream, HELLO, "hello").starts_with("HTTP/1.1 200"));
    // Waits on the server's clock, not on ours: the silent one is closed after the header timeout.
    assert!(is_closed(&mut server.connect()));
    assert!(is_closed(&mut server.connect()));
    assert!(exchange(&mut stream, HELLO, "hello").starts_with("HTTP/1.1 200"));
    server.stop();
}

#[test]
fn an_idle_connection_is_closed() {
    let server = start(ListenerConfig { idle_timeout: IDLE_TIMEOUT, ..short() });
    let mut stream = server.connect();
    exchange(&mut stream, HELLO, "hello");
    assert!(is_closed(&mut stream));
    // A request in progress is no idling, however long it takes: longer than it takes for one that
    // came later to be closed as idle.
    let mut busy = server.connect();
    busy.write_all(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut later = server.connect();
    exchange(&mut later, HELLO, "hello");
    assert!(is_closed(&mut later));
    server.release.notify_one();
    exchange(&mut busy, "", "done");
    drop(busy);
    server.stop_and_assert_counted("linesight_connections_timed_out_total{phase=\"idle\"} 2");
}

#[test]
fn connections_beyond_the_limit_are_closed_at_once() {
    let config = ListenerConfig { connections: 2, ..ListenerConfig::default() };
    let server = start(config);
    let mut first = server.connect();
    let mut second = server.connect();
    exchange(&mut first, HELLO, "hello");
    exchange(&mut second, HELLO, "hello");
    assert!(is_closed(&mut server.connect()));
    server.assert_counted("linesight_connections_refused_total 1");
    server.assert_counted("linesight_connections{state=\"open\"} 2");
    drop(first);
    // The slot comes back once the server has seen the end of the first.
    let answered = (0..1000).any(|_| {
        let mut stream = server.connect();
        stream.write_all(HELLO.as_bytes()).is_ok() && stream.read(&mut [0]).is_ok_and(|n| n == 1)
    });
    assert!(answered);
    server.stop();
}

#[test]
fn one_address_can_be_held_to_fewer() {
    let config = ListenerConfig { connections_per_address: 1, ..ListenerConfig::default() };
    let server = start(config);
    let mut first = server.connect();
    exchange(&mut first, HELLO, "hello");
    assert!(is_closed(&mut server.connect()));
    server.stop();
}

#[test]
fn draining_finishes_what_is_in_flight_and_closes_the_rest() {
    let server = start(short());
    let mut idle = server.connect();
    exchange(&mut idle, HELLO, "hello");
    let mut busy = server.connect();
    busy.write_all(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    // An answered request on a later connection shows that the earlier ones were accepted.
    exchange(&mut server.connect(), HELLO, "hello");
    server.stop.send(()).unwrap();
    assert!(is_closed(&mut idle));
    assert!(TcpStream::connect(server.address).is_err(), "nobody listens any more");
    server.release.notify_one();
    assert_eq!(server.thread.join().unwrap(), Drained { n_cut: 0 });
    let mut answer = String::new();
    busy.read_to_string(&mut answer).unwrap();
    assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
    assert!(answer.ends_with("done"), "{answer}");
}

#[test]
fn who_connected_or_asked_before_the_socket_closed_is_answered() {
    let server = start(ListenerConfig::default());
    let mut kept = server.connect();
    exchange(&mut kept, HELLO, "hello");
    let mut blocking = server.connect();
    blocking.write_all(b"GET /block HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    // What follows comes while nobody looks: connections not accepted, a request not read.
    server.gate.wait();
    let mut waiting: Vec<_> = (0..5).map(|_| server.connect()).collect();
    for stream in waiting.iter_mut().chain([&mut kept]) {
        stream.write_all(HELLO.as_bytes()).unwrap();
    }
    server.stop.send(()).unwrap();
    server.gate.wait();
    assert_eq!(server.thread.join().unwrap(), Drained { n_cut: 0 });
    for stream in waiting.iter_mut().chain([&mut kept]) {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("hello"), "{answer:?}");
    }
}

#[test]
fn what_is_not_done_within_the_grace_is_cut() {
    let server = start(ListenerConfig { grace: Duration::from_millis(20), ..short() });
    let mut busy = server.connect();
    busy.write_all(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    exchange(&mut server.connect(), HELLO, "hello");
    assert_eq!(server.stop(), Drained { n_cut: 1 });
    assert!(is_closed(&mut busy));
}

#[test]
fn header_abuse_ends_in_431_or_400() {
    let server = start(ListenerConfig::default());
    let many: String = (0..100).map(|it| format!("x-{it}: y\r\n")).collect();
    let long = format!("x: {}\r\n", "y".repeat(100 << 10));
    let smuggled = "Content-Length: 5\r\nTransfer-Encoding: gibberish\r\n".to_owned();
    for (headers, statuses) in
        [(many, ["431", "400"]), (long, ["431", "400"]), (smuggled, ["400", "400"])]
    {
        let mut stream = server.connect();
        // The server may close before it has read all of it.
        let _may_be_closed =
            stream.write_all(format!("GET / HTTP/1.1\r\nHost: x\r\n{headers}\r\n").as_bytes());
        let mut answer = Vec::new();
        let _may_be_reset = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.get(9..12).unwrap_or_default();
        assert!(statuses.contains(&status), "{:?} {answer}", &headers[..20]);
        assert!(answer.ends_with("\r\n\r\n"), "no body: {answer}");
    }
    server.stop_and_assert_counted("linesight_connections_malformed_total 3");
}
