//! `GET /metrics`: what Prometheus reads.

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};

use crate::{http::state::HttpState, metrics::CONTENT_TYPE};

/// Everything that is counted, in the text exposition format.
pub(in crate::http) async fn metrics(State(state): State<HttpState>) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], state.predictor.render_metrics()).into_response()
}
