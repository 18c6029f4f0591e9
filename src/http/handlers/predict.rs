//! `POST …/predict` and `…/inspect`: from the request to the one call that answers it, and back.

use std::time::Duration;

use axum::{
    Extension, Json,
    extract::{RawPathParams, Request, State, rejection::RawPathParamsRejection},
    http::{HeaderValue, Version, header},
    response::{IntoResponse, Response},
};

use crate::{
    http::{
        code::Code,
        error::ApiError,
        extract::{self, After, Head, Kind, Upload, Within, model_ref},
        middleware::{RequestContext, Stages},
        pacing::Pacing,
        state::HttpState,
        wire::{About, Answer, Took},
    },
    metrics::Stage,
    predict::{Announced, Input, ItemTiming, Outcome},
    types::Instant,
};

type Params = Result<RawPathParams, RawPathParamsRejection>;

/// Each image is an item of its own.
pub(in crate::http) async fn predict(
    State(state): State<HttpState>,
    Extension(context): Extension<RequestContext>,
    params: Params,
    request: Request,
) -> Response {
    answer(Kind::Predict, &state, &context, params, request).await
}

/// The images are the views of one item.
pub(in crate::http) async fn inspect(
    State(state): State<HttpState>,
    Extension(context): Extension<RequestContext>,
    params: Params,
    request: Request,
) -> Response {
    answer(Kind::Inspect, &state, &context, params, request).await
}

async fn answer(
    kind: Kind,
    state: &HttpState,
    context: &RequestContext,
    params: Params,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let mut upload = Upload::new(body, parts.version, &parts.headers);
    let pacing = parts.extensions.get::<Pacing>().filter(|_| state.config.pace_retries);
    let is_early = pacing.is_some_and(|it| it.is_early(&parts.headers, context.arrived));
    // What the path, the query and the headers say; a request that fails here costs no upload.
    let head = params
        .map_err(|_not_utf8| ApiError::new(Code::ModelUnknown, "the path is not UTF-8"))
        .and_then(|it| model_ref(&it))
        .and_then(|model| Ok((model, Head::parse(&parts.uri, &parts.headers)?)));
    let judged = match head {
        Ok((model, head)) => {
            let announced = Announced {
                model,
                arrived: context.arrived,
                body_bytes: upload.declared(),
                timeout: head.timeout,
                is_early,
            };
            judge(kind, state, &mut upload, &head, &announced).await.map(|it| (head, it))
        }
        Err(error) => Err(error),
    };
    match judged {
        Ok((head, outcome)) => write(context, &head, &outcome),
        Err(error) => {
            let held = pacing.zip(error.retry_after()).and_then(|(pacing, retry_after)| {
                pacing.refused(retry_after, is_early, Instant::now())
            });
            let after = upload.discard(&state.config).await;
            if let Some(until) = held {
                tokio::time::sleep_until(until).await;
            }
            refuse(error, context, parts.version, after)
        }
    }
}

/// Admission, body, prediction: each can refuse what the ones before it let through.
async fn judge(
    kind: Kind,
    state: &HttpState,
    upload: &mut Upload,
    head: &Head,
    announced: &Announced,
) -> Result<Outcome, ApiError> {
    let (config, arrived) = (&*state.config, announced.arrived);
    upload.check_length(config)?;
    let mut ticket = state.predictor.admit(announced)?;
    let client_deadline = ticket.client_deadline();
    let within = Within { config, arrived, client_deadline, digest: head.digest };
    let body = upload.read(within, |n_bytes| ticket.grow(n_bytes)).await?;
    let complete = Instant::now();
    let images = extract::images(kind, head, body, config).await?;
    let input = Input { images, complete, outputs: head.outputs.clone() };
    let outcome = match kind {
        Kind::Predict => state.predictor.predict(ticket, input).await?,
        Kind::Inspect => state.predictor.inspect(ticket, input).await?,
    };
    if outcome.any_judged() { Ok(outcome) } else { Err(ApiError::from_items(&outcome.items)) }
}

fn write(context: &RequestContext, head: &Head, outcome: &Outcome) -> Response {
    let began = Instant::now();
    let about = About::from(&*outcome.model);
    let wall = context.arrived.elapsed();
    let took = Took { read: outcome.read, total: outcome.total, wall };
    let answer = Answer::new(&context.id, &about, &outcome.items, head.top_k, took);
    let mut response = Json(answer).into_response();
    response.extensions_mut().insert(stages(outcome));
    outcome.model.metrics.stage(Stage::Write, began.elapsed());
    response
}

/// For `Server-Timing`: of each stage the slowest item or view, as that is what the caller waited
/// for.
fn stages(outcome: &Outcome) -> Stages {
    let all = || outcome.items.iter().flat_map(|it| std::iter::once(it).chain(&it.views));
    let slowest = |of: fn(&ItemTiming) -> Duration| all().map(|it| of(&it.timing)).max();
    Stages([
        ("read", outcome.read),
        ("queue", slowest(|it| it.queue).unwrap_or_default()),
        ("decode", slowest(|it| it.decode).unwrap_or_default()),
        ("infer", slowest(|it| it.infer).unwrap_or_default()),
    ])
}

/// The answer to a request that failed, and what it means for the connection.
pub(super) fn refuse(
    error: ApiError,
    context: &RequestContext,
    version: Version,
    after: After,
) -> Response {
    let mut response = error.into_response(&context.id);
    // HTTP/2 knows no such header; there `after` is always `Keep`.
    if after == After::Close && version != Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
