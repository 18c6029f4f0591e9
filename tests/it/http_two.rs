//! HTTP/2 over real sockets: the timers that hyper leaves to us, and draining.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, http::Request, routing::get};
use bytes::Bytes;
use h2::client::SendRequest;
use linesight::{
    http::{Listener, ListenerConfig},
    metrics::Metrics,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{Notify, oneshot},
    task::JoinHandle,
};

const IDLE_TIMEOUT: Duration = Duration::from_millis(100);

/// A listener and one client connection to it, on the test's own runtime.
struct Pair {
    address: SocketAddr,
    client: SendRequest<Bytes>,
    /// Ends with the connection.
    connection: JoinHandle<Result<(), h2::Error>>,
    metrics: Arc<Metrics>,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
    /// Lets `/held` answer.
    release: Arc<Notify>,
}

async fn start(config: ListenerConfig, window: u32) -> Pair {
    let metrics = Metrics::new();
    let anywhere = "127.0.0.1:0".parse().unwrap();
    let listener = Listener::bind(anywhere, config, Some(Arc::clone(&metrics))).await.unwrap();
    let address = listener.address();
    let stream = TcpStream::connect(address).await.unwrap();
    let release = Arc::new(Notify::new());
    let released = Arc::clone(&release);
    let held = || async move {
        released.notified().await;
        "done"
    };
    let router = Router::new().route("/", get(|| async { "hello" })).route("/held", get(held));
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(async move {
        let until_told = async {
            let _dropped_is_told = stopped.await;
        };
        listener.serve(router, until_told).await;
    });
    let mut builder = h2::client::Builder::new();
    let (client, connection) = builder.initial_window_size(window).handshake(stream).await.unwrap();
    Pair { address, client, connection: tokio::spawn(connection), metrics, stop, server, release }
}

async fn fetch(client: &mut SendRequest<Bytes>, path: &str) -> Result<Bytes, h2::Error> {
    let request = Request::get(format!("http://x{path}")).body(()).unwrap();
    let (response, _no_body) = client.send_request(request, true)?;
    let mut body = response.await?.into_body();
    let data = body.data().await.unwrap_or(Ok(Bytes::new()))?;
    body.flow_control().release_capacity(data.len())?;
    Ok(data)
}

impl Pair {
    async fn stop_and_assert_counted(self, line: &str) {
        self.stop.send(()).unwrap();
        self.server.await.unwrap();
        let text = String::from_utf8(self.metrics.render()).unwrap();
        assert!(text.lines().any(|it| it == line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let config = ListenerConfig { idle_timeout: IDLE_TIMEOUT, ..ListenerConfig::default() };
    let mut pair = start(config, 65_535).await;
    let mut client = pair.client.clone();
    let busy = tokio::spawn(async move { fetch(&mut client, "/held").await });
    assert_eq!(fetch(&mut pair.client, "/").await.unwrap(), "hello");
    // Busy for longer than it takes for a connection that came later to be closed as idle.
    let mut later = TcpStream::connect(pair.address).await.unwrap();
    later.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    later.read_to_end(&mut Vec::new()).await.unwrap();
    pair.release.notify_one();
    assert_eq!(busy.await.unwrap().unwrap(), "done");
    let _closed_either_way = (&mut pair.connection).await.unwrap();
    pair.stop_and_assert_counted("linesight_connections_timed_out_total{phase=\"idle\"} 2").await;
}

#[tokio::test]
async fn a_client_that_grants_no_window_is_given_up() {
    let write_timeout = Duration::from_millis(100);
    // The server looks again once per idle period.
    let config =
        ListenerConfig { write_timeout, idle_timeout: IDLE_TIMEOUT, ..ListenerConfig::default() };
    let mut pair = start(config, 0).await;
    assert!(fetch(&mut pair.client, "/").await.is_err());
    pair.stop_and_assert_counted("linesight_connections_timed_out_total{phase=\"write\"} 1").await;
}

#[tokio::test]
async fn draining_finishes_the_streams_in_flight() {
    let mut pair = start(ListenerConfig::default(), 65_535).await;
    assert_eq!(fetch(&mut pair.client, "/").await.unwrap(), "hello");
    let mut client = pair.client.clone();
    let held = tokio::spawn(async move { fetch(&mut client, "/held").await });
    // An answer to a later stream shows that the held one has begun.
    assert_eq!(fetch(&mut pair.client, "/").await.unwrap(), "hello");
    pair.stop.send(()).unwrap();
    while TcpStream::connect(pair.address).await.is_ok() {}
    pair.release.notify_one();
    assert_eq!(held.await.unwrap().unwrap(), "done");
    pair.server.await.unwrap();
    assert!(fetch(&mut pair.client, "/").await.is_err());
}
