//! What happens to every request on every listener: a name, a clock, a count, one line in the log.
//!
//! One layer, outermost, so that nothing escapes it: a panic becomes a 500 in the same form as any
//! other error, and a caller that leaves is counted (as 499, nginx's number for it; nobody reads
//! that answer). The log line names the matched route, never the path as sent, and no text of the
//! client's that was not checked first.

use std::{panic::AssertUnwindSafe, time::Duration};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header},
    middleware::Next,
    response::Response,
};
use futures_util::FutureExt as _;

use super::{code::Code, error::ApiError, state::HttpState};
use crate::types::{Instant, Reason, RequestId};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
/// Status counted for a caller that left before its answer.
const CLIENT_LEFT: u16 = 499;

/// Which listener the layer stands on, and where it counts.
#[derive(Debug, Clone)]
pub struct Edge {
    /// The label of `http_responses_total`: `data` or `admin`.
    pub listener: &'static str,
    /// Where it counts, and whether the server is stopping.
    pub state: HttpState,
}

/// What every handler may know of its request; an extension of it.
#[derive(Debug, Clone)]
pub(super) struct RequestContext {
    /// Names the request in its answer and in the log.
    pub(super) id: RequestId,
    /// When its head was complete.
    pub(super) arrived: Instant,
}

/// Parts of the way, for `Server-Timing`; an extension of the answer.
#[derive(Debug, Clone)]
pub(super) struct Stages(pub(super) [(&'static str, Duration); 4]);

/// The outermost layer.
pub(super) async fn edge(State(edge): State<Edge>, mut request: Request, next: Next) -> Response {
    let context = RequestContext { id: request_id(request.headers()), arrived: Instant::now() };
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut visit = Visit {
        edge,
        method: known_method(request.method()),
        route: route.as_ref().map_or("none", |it| it.as_str()),
        trace_id: trace_id(request.headers()).map(ToOwned::to_owned),
        context: context.clone(),
        ends_connection: Ends::after(&request),
        answered: false,
    };
    if let Some(error) = bad_host(&request) {
        visit.ends_connection = Ends::Always;
        return visit.answer(error.into_response(&context.id));
    }
    request.extensions_mut().insert(context);
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let response = answer.unwrap_or_else(|_panic| {
        // The panic hook has logged what and where.
        visit.edge.state.metrics.process.handler_panics.inc();
        ApiError::new(Code::Internal, "the server failed on this request; its log says how")
            .because(Reason::InferenceFailed)
            .into_response(&visit.context.id)
    });
    visit.answer(response)
}

/// One request and what became of it. Dropped without an answer, it counts a caller that left.
struct Visit<'a> {
    edge: Edge,
    method: &'static str,
    route: &'a str,
    trace_id: Option<String>,
    context: RequestContext,
    ends_connection: Ends,
    answered: bool,
}

impl Visit<'_> {
    fn answer(&mut self, mut response: Response) -> Response {
        self.answered = true;
        let took = self.context.arrived.elapsed();
        let timing = server_timing(took, response.extensions().get());
        let headers = response.headers_mut();
        headers.insert(SERVER_TIMING, timing);
        if let Ok(id) = HeaderValue::from_str(self.context.id.as_str()) {
            headers.insert(X_REQUEST_ID, id);
        }
        let ends = match self.ends_connection {
            Ends::Never => false,
            Ends::WhenStopping => self.edge.state.is_draining(),
            Ends::Always => true,
        };
        if ends {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let code = response.extensions().get().map(|it: &Code| it.as_str());
        self.note(response.status().as_u16(), code, took);
        response
    }

    fn note(&self, status: u16, code: Option<&str>, took: Duration) {
        self.edge.state.metrics.process.answered(self.edge.listener, status);
        let Self { method, route, trace_id, context, edge, .. } = self;
        let (id, listener, trace_id) = (&context.id, edge.listener, trace_id.as_deref());
        let ms = took.as_secs_f64() * 1e3;
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    request_id = %id, listener, method, route, status, code, ms, trace_id, "answered"
                )
            };
        }
        // Probes and scrapes come every few seconds for ever, and say nothing new.
        if matches!(*route, "/livez" | "/readyz" | "/healthz" | "/metrics") {
            line!(debug);
        } else {
            line!(info);
        }
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.note(CLIENT_LEFT, Some("client_left"), self.context.arrived.elapsed());
        }
    }
}

/// Whether an answer says `Connection: close`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// HTTP/2 knows no such header; a server that stops says it with GOAWAY.
    Never,
    /// So that no client has a connection left to lose a request on.
    WhenStopping,
    /// What follows must not be taken for a request.
    Always,
}

impl Ends {
    fn after(request: &Request) -> Self {
        if request.version() == Version::HTTP_2 {
            return Self::Never;
        }
        // Where a proxy before us and hyper read the end of such a body differently, what follows
        // is part of this request to one and the next request to the other. Clients of ours know
        // the length of an image, so few need chunks, and those lose a connection each.
        let chunked = request.headers().contains_key(header::TRANSFER_ENCODING);
        if chunked { Self::Always } else { Self::WhenStopping }
    }
}

/// HTTP/1.1 has it that a request names its host exactly once; two are what a proxy and a server
/// choose differently from.
fn bad_host(request: &Request) -> Option<ApiError> {
    let n_hosts = request.headers().get_all(header::HOST).iter().count();
    let how_often = match (request.version(), n_hosts) {
        (Version::HTTP_11, 0) => "missing",
        (Version::HTTP_10 | Version::HTTP_11, 2..) => "given more than once",
        _ => return None,
    };
    Some(ApiError::new(Code::HeaderInvalid, format!("host is {how_often}")))
}

/// The client's id where it is well-formed and given once, else a new one.
fn request_id(headers: &HeaderMap) -> RequestId {
    let mut given = headers.get_all(X_REQUEST_ID).iter();
    let first = given.next().and_then(|it| it.to_str().ok()?.parse().ok());
    let alone = given.next().is_none();
    first.filter(|_| alone).unwrap_or_else(RequestId::unique)
}

/// Methods are the client's text too; those unknown to HTTP share a name.
fn known_method(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] =
        ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"];
    KNOWN.into_iter().find(|it| *it == method.as_str()).unwrap_or("other")
}

/// The trace id of a valid W3C `traceparent`: `00-<32 hex>-<16 hex>-<2 hex>`, neither id all zero.
fn trace_id(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get("traceparent")?.to_str().ok()?;
    let mut parts = text.split('-');
    let mut hex = |n_digits: usize| {
        let part = parts.next()?;
        let lower_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        (part.len() == n_digits && part.bytes().all(lower_hex)).then_some(part)
    };
    let (version, trace, parent, _flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
    let all_zero = |it: &str| it.bytes().all(|b| b == b'0');
    // Later versions may append fields; 00 may not, and ff is no version.
    let well_formed = version != "ff" && (version != "00" || parts.next().is_none());
    (well_formed && !all_zero(trace) && !all_zero(parent)).then_some(trace)
}

/// `total;dur=15.600, read;dur=0.400, …` in milliseconds.
fn server_timing(total: Duration, stages: Option<&Stages>) -> HeaderValue {
    use std::fmt::Write as _;

    let mut text = String::with_capacity(96);
    let all = std::iter::once(("total", total)).chain(stages.iter().flat_map(|it| it.0));
    for (name, took) in all {
        let gap = if text.is_empty() { "" } else { ", " };
        let _a_string_takes_all = write!(text, "{gap}{name};dur={:.3}", took.as_secs_f64() * 1e3);
    }
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("total"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, values: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_well_formed_request_id_is_kept_and_any_other_replaced() {
        let kept = request_id(&headers("x-request-id", &[b"line-4.cam_2"]));
        assert_eq!(kept.as_str(), "line-4.cam_2");
        let bad: [&[&[u8]]; 6] =
            [&[], &[b""], &[b"a b"], &[b"\xff"], &[b"a", b"b"], &[&[b'x'; 65]]];
        for given in bad {
            assert_eq!(request_id(&headers("x-request-id", given)).as_str().len(), 26, "{given:?}");
        }
    }

    #[test]
    fn only_a_valid_traceparent_gives_a_trace_id() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let find = |text: String| {
            trace_id(&headers("traceparent", &[text.as_bytes()])).map(ToOwned::to_owned)
        };
        assert_eq!(find(format!("00-{trace}-00f067aa0ba902b7-01")).as_deref(), Some(trace));
        assert_eq!(find(format!("01-{trace}-00f067aa0ba902b7-01-x")).as_deref(), Some(trace));
        for bad in [
            String::new(),
            format!("00-{trace}"),
            format!("00-{trace}-00f067aa0ba902b7-01-x"),
            format!("ff-{trace}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{trace}-0000000000000000-01"),
        ] {
            assert_eq!(find(bad.clone()), None, "{bad}");
        }
    }

    #[test]
    fn server_timing_lists_the_total_first() {
        let ms = Duration::from_millis;
        let stages =
            Stages([("read", ms(1)), ("queue", ms(0)), ("decode", ms(2)), ("infer", ms(11))]);
        assert_eq!(server_timing(ms(15), None), "total;dur=15.000");
        assert_eq!(
            server_timing(ms(15), Some(&stages)),
            "total;dur=15.000, read;dur=1.000, queue;dur=0.000, decode;dur=2.000, infer;dur=11.000"
        );
    }
}
