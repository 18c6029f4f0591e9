//! One connection: HTTP/1 or HTTP/2 over a guarded stream, until it ends or the server drains.

use std::{
    convert::Infallible,
    error::Error,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body, extract::Request, http::Response};
use bytes::Bytes;
use hyper::{
    body::{Body as HttpBody, Frame, Incoming, SizeHint},
    service::Service,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};
use tower::ServiceExt as _;

use super::{
    activity::{Activity, Phase, Serving, Timeouts, Writing},
    guarded::Guarded,
    pacing::Pacing,
};

/// What all connections of a listener share.
#[derive(Debug)]
pub(super) struct Connections {
    protocol: auto::Builder<TokioExecutor>,
    timeouts: Timeouts,
    router: Router,
}

impl Connections {
    pub(super) fn new(timeouts: Timeouts, router: Router) -> Self {
        Self { protocol: protocol(), timeouts, router }
    }

    /// Serves one connection. Once `draining` holds true, it ends with the request in progress.
    /// Says how it ended.
    pub(super) async fn serve<S>(
        self: Arc<Self>,
        stream: S,
        draining: watch::Receiver<bool>,
    ) -> Ended
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let activity = Activity::new();
        let stream = TokioIo::new(Guarded::new(stream, activity.clone(), self.timeouts));
        let (router, pacing) = (self.router.clone(), Pacing::default());
        let service = Requests { router, activity: activity.clone(), pacing };
        let mut connection = std::pin::pin!(self.protocol.serve_connection(stream, service));
        let ended = tokio::select! {
            // First the connection, so that what it can read is a request and no longer idleness.
            biased;
            ended = connection.as_mut() => ended,
            () = told(draining) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        let malformed = ended.is_err_and(|error| {
            log_end(&*error);
            error.downcast_ref().is_some_and(hyper::Error::is_parse)
        });
        match activity.expired() {
            Some(phase) => Ended::TimedOut(phase),
            None if malformed => Ended::Malformed,
            None => Ended::Well,
        }
    }
}

/// How a connection ended, as far as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// By the client, or as told.
    Well,
    /// By a timer.
    TimedOut(Phase),
    /// What came was no request: hyper has answered with a bare status, if at all.
    Malformed,
}

/// Waits until the server drains; a listener that is gone has drained.
async fn told(mut draining: watch::Receiver<bool>) {
    let _gone_is_told = draining.wait_for(|it| *it).await;
}

/// Clients break connections all the time; DEBUG, as nobody has to act on it.
fn log_end(error: &(dyn Error + 'static)) {
    tracing::debug!(error, "a connection ended early");
}

/// HTTP/1 and HTTP/2 with every bound set.
fn protocol() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // `Guarded` times heads; `activity` says why the timer of hyper does not do.
        .header_read_timeout(None)
        // Also the longest head, and the largest piece a body is read in.
        .max_buf_size(32 << 10)
        .max_headers(64)
        .keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(100)
        .max_header_list_size(16 << 10)
        // An image fits into one window; a connection holds no more than that unread.
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(1 << 20)
        .max_send_buf_size(64 << 10)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        // Floods of streams opened to be reset, by either side, end in GOAWAY.
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(128);
    builder
}

/// Hands requests to the router, and tells the connection's timers of them.
#[derive(Debug)]
struct Requests {
    router: Router,
    activity: Activity,
    pacing: Pacing,
}

impl Service<Request<Incoming>> for Requests {
    type Response = Response<Tracked>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.pacing.clone());
        let serving = self.activity.begin();
        let router = self.router.clone();
        Box::pin(async move {
            let response = router.oneshot(request).await?;
            Ok(track(response, serving))
        })
    }
}

fn track(response: Response<Body>, serving: Serving) -> Response<Tracked> {
    let writing = serving.answered();
    response.map(|body| Tracked { body, writing })
}

/// The body of an answer, whose progress the connection's timers see.
#[derive(Debug)]
struct Tracked {
    body: Body,
    writing: Writing,
}

impl HttpBody for Tracked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        this.writing.moved();
        Pin::new(&mut this.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
