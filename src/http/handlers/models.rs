//! `GET /v1/models…`: what is served, in which state, from which digest.

use axum::{
    Extension, Json,
    extract::{RawPathParams, State, rejection::RawPathParamsRejection},
    response::{IntoResponse, Response},
};

use crate::{
    http::{
        code::Code,
        error::ApiError,
        extract::model_ref,
        middleware::RequestContext,
        state::HttpState,
        wire::{Model, ModelList, VersionDetail},
    },
    predict::PredictError,
    repository::Snapshot,
    types::ModelRef,
};

type Params = Result<RawPathParams, RawPathParamsRejection>;

/// Everything in the repository.
pub(in crate::http) async fn list(State(state): State<HttpState>) -> Response {
    let snapshot = state.predictor.snapshot();
    Json(ModelList::from(&*snapshot)).into_response()
}

/// One model and where each version of it stands.
pub(in crate::http) async fn model(
    State(state): State<HttpState>,
    Extension(context): Extension<RequestContext>,
    params: Params,
) -> Response {
    let snapshot = state.predictor.snapshot();
    let found = named(params).and_then(|it| {
        let entry = snapshot.models.get(&it.name);
        let found = entry.map(|entry| Json(Model::new(&it.name, entry)).into_response());
        found.ok_or_else(|| absent(&snapshot, it).into())
    });
    found.unwrap_or_else(|error: ApiError| error.into_response(&context.id))
}

/// One version, with all that is known of it.
pub(in crate::http) async fn version(
    State(state): State<HttpState>,
    Extension(context): Extension<RequestContext>,
    params: Params,
) -> Response {
    let snapshot = state.predictor.snapshot();
    let found = named(params).and_then(|ModelRef { name, version }| {
        let absent = || absent(&snapshot, ModelRef { name: name.clone(), version });
        let entry = snapshot.models.get(&name).ok_or_else(absent)?;
        let detail = version.and_then(|it| VersionDetail::new(&name, entry, it));
        let unknown = || ApiError::new(Code::VersionUnknown, format!("{name} has no such version"));
        detail.map(|it| Json(it).into_response()).ok_or_else(unknown)
    });
    found.unwrap_or_else(|error: ApiError| error.into_response(&context.id))
}

/// A server that has not looked yet must not say that there is no such model.
fn absent(snapshot: &Snapshot, wanted: ModelRef) -> PredictError {
    if snapshot.scanned {
        PredictError::UnknownModel { name: wanted.name }
    } else {
        PredictError::Loading { model: wanted }
    }
}

fn named(params: Params) -> Result<ModelRef, ApiError> {
    let params =
        params.map_err(|_not_utf8| ApiError::new(Code::ModelUnknown, "the path is not UTF-8"))?;
    model_ref(&params)
}
