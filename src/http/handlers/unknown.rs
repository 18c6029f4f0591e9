//! Paths and methods that lead nowhere: said in the same form as every other error.

use axum::{
    Extension,
    extract::{MatchedPath, Request, State},
    response::Response,
};

use super::predict::refuse;
use crate::http::{
    code::Code, error::ApiError, extract::Upload, methods_of, middleware::RequestContext,
    state::HttpState,
};

/// 404 for a path that is none of ours.
pub(in crate::http) async fn no_route(
    State(state): State<HttpState>,
    Extension(context): Extension<RequestContext>,
    request: Request,
) -> Response {
    let detail = "there is nothing at this path; GET /openapi.json lists what there is";
    discard(ApiError::new(Code::RouteUnknown, detail), &state, &context, request).await
}

/// 405 for a path of ours, with the method that would be right. axum adds `Allow`.
pub(in crate::http) async fn no_method(
    State(state): State<HttpState>,
    Extension(context): Extension<RequestContext>,
    request: Request,
) -> Response {
    let path = request.extensions().get::<MatchedPath>().map_or("this path", |it| it.as_str());
    let detail = format!("{path} takes {}", methods_of(path));
    discard(ApiError::new(Code::MethodNotAllowed, detail), &state, &context, request).await
}

async fn discard(
    error: ApiError,
    state: &HttpState,
    context: &RequestContext,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let after = Upload::new(body, parts.version, &parts.headers).discard(&state.config).await;
    refuse(error, context, parts.version, after)
}
