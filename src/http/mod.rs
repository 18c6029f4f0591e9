//! The data plane over HTTP: `/v1`, probes, metrics, the API's description.
//!
//! A request's way: [`Listener`] accepts its connection and times it; `middleware` gives it a name,
//! a clock and a log line; a handler asks `extract` for what the predictor takes, in the order head,
//! admission, body; [`Predictor`](crate::predict::Predictor) answers; `wire` or `error` writes. The
//! two promises of this edge: what is refused is refused before its body is read, and nothing but a
//! 200 can carry an approval.
//!
//! Not here: TLS and authentication (a proxy's work), lifecycle writes (`admin`).

mod activity;
mod code;
mod connection;
mod error;
#[cfg(test)]
mod error_tests;
mod extract;
mod guarded;
mod handlers;
mod listener;
mod middleware;
mod pacing;
#[cfg(test)]
mod routes_tests;
mod state;
mod wire;

pub use code::Code;
pub use error::ApiError;
pub use handlers::OPENAPI;
pub use listener::{Drained, Listener, ListenerConfig};
pub use middleware::Edge;
pub use state::{HttpConfig, HttpState};
pub use wire::answer_line;

use axum::{
    Router,
    http::{
        HeaderValue,
        header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS},
    },
    routing::{get, post},
};
use tower_http::set_header::SetResponseHeaderLayer;

/// Every path of the data plane and the method it takes; what a 405 says and what
/// openapi.json must hold.
const ROUTES: &[(&str, &str)] = &[
    ("/v1/models", "GET"),
    ("/v1/models/{model}", "GET"),
    ("/v1/models/{model}/versions/{version}", "GET"),
    ("/v1/models/{model}/predict", "POST"),
    ("/v1/models/{model}/versions/{version}/predict", "POST"),
    ("/v1/models/{model}/inspect", "POST"),
    ("/livez", "GET"),
    ("/readyz", "GET"),
    ("/healthz", "GET"),
    ("/metrics", "GET"),
    ("/openapi.json", "GET"),
];

/// The method a path takes.
fn methods_of(path: &str) -> &'static str {
    ROUTES.iter().find(|(it, _)| *it == path).map_or("other methods", |(_, method)| method)
}

/// The router of the data listener.
pub fn router(state: HttpState) -> Router {
    let routes = reads()
        .route("/v1/models/{model}/predict", post(handlers::predict))
        .route("/v1/models/{model}/versions/{version}/predict", post(handlers::predict))
        .route("/v1/models/{model}/inspect", post(handlers::inspect))
        .route("/openapi.json", get(handlers::openapi));
    finish(routes, "data", state)
}

/// What may be read on every listener: probes, metrics, what is served.
pub fn reads() -> Router<HttpState> {
    Router::new()
        .route("/v1/models", get(handlers::list))
        .route("/v1/models/{model}", get(handlers::model))
        .route("/v1/models/{model}/versions/{version}", get(handlers::version))
        .route("/livez", get(handlers::livez))
        .route("/readyz", get(handlers::readyz))
        .route("/healthz", get(handlers::livez))
        .route("/metrics", get(handlers::metrics))
}

/// Closes a listener's routes: what leads nowhere is answered in form, and the outermost layer
/// stands around all of it, fallbacks included.
pub fn finish(routes: Router<HttpState>, listener: &'static str, state: HttpState) -> Router {
    let edge = Edge { listener, state: state.clone() };
    let no_store = HeaderValue::from_static("no-store");
    let no_sniff = HeaderValue::from_static("nosniff");
    routes
        .fallback(handlers::no_route)
        .method_not_allowed_fallback(handlers::no_method)
        // A verdict is about one picture at one moment; no cache between here and a line may keep it.
        .layer(SetResponseHeaderLayer::if_not_present(CACHE_CONTROL, no_store))
        .layer(SetResponseHeaderLayer::if_not_present(X_CONTENT_TYPE_OPTIONS, no_sniff))
        .layer(axum::middleware::from_fn_with_state(edge, middleware::edge))
        .with_state(state)
}
