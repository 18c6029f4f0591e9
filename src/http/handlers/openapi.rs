//! `GET /openapi.json`: the document is kept by hand, and tests hold it to the router and the codes.

use axum::{
    http::header,
    response::{IntoResponse, Response},
};

/// The OpenAPI 3.1 description of the data plane.
pub const OPENAPI: &str = include_str!("../openapi.json");

/// The document, as it is.
pub(in crate::http) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}
