//! `/livez`, `/readyz`: what each one does and does not promise.
//!
//! Live: the process can work; only a restart would help if not. Ready: what was to be served has
//! ended its loading, something serves, nothing required failed, and the server is not stopping.
//! Overload turns neither off: taking a busy server out of rotation makes the others busier.

use axum::{
    Json,
    extract::{RawQuery, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::http::state::HttpState;

/// The body of `?verbose=1`.
#[derive(Debug, Serialize)]
struct Health {
    status: &'static str,
    notes: Vec<String>,
}

/// Whether the process can work.
pub(in crate::http) async fn livez(
    State(state): State<HttpState>,
    RawQuery(query): RawQuery,
) -> Response {
    let alive = state.predictor.is_alive();
    let notes = if alive { Vec::new() } else { vec!["no lane can be had any more".to_owned()] };
    answer(alive, ["ok", "not alive"], notes, query.as_deref())
}

/// Whether traffic should come here.
pub(in crate::http) async fn readyz(
    State(state): State<HttpState>,
    RawQuery(query): RawQuery,
) -> Response {
    let mut readiness = state.predictor.snapshot().readiness();
    let draining = state.is_draining();
    if draining {
        readiness.notes.insert(0, "the server is shutting down".to_owned());
    }
    let ready = readiness.ready && !draining;
    answer(ready, ["ok", "not ready"], readiness.notes, query.as_deref())
}

/// One line that says it, and with `verbose` the notes; a refusal always has its notes.
fn answer(
    good: bool,
    words: [&'static str; 2],
    notes: Vec<String>,
    query: Option<&str>,
) -> Response {
    let code = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let status = words[usize::from(!good)];
    let verbose =
        query.is_some_and(|it| it.split('&').any(|it| it == "verbose=1" || it == "verbose"));
    if verbose {
        return (code, Json(Health { status, notes })).into_response();
    }
    let mut text = format!("{status}\n");
    if !good {
        for note in notes {
            text.push_str(&note);
            text.push('\n');
        }
    }
    (code, text).into_response()
}
