//! The whole path of a request, one screen, in order: [`Predictor::predict`].
//!
//! Two steps, because refusing must be possible before a body is read: [`Predictor::admit`] decides
//! from the head and hands out a [`Ticket`]; [`Predictor::predict`] (each picture an item) or
//! [`Predictor::inspect`] (the pictures are views of one item) redeems it. An edge speaks a protocol
//! and nothing else; what is true of every protocol is here.

mod error;
mod input;
mod item;
mod outcome;
mod ticket;
mod views;

pub use crate::batch::{Refusal, RefusalCause};
pub use error::{ItemError, PredictError};
pub use input::{Announced, Image, Input};
pub use outcome::{ItemOutcome, ItemTiming, Judged, Outcome};
pub use ticket::Ticket;

use std::sync::Arc;

use futures_util::future::join_all;

use self::{
    item::{Asked, Count},
    ticket::ByteBudget,
};
use crate::{
    batch::{Batcher, Bounds},
    imaging::Limits,
    metrics::{Metrics, Stage},
    repository::{Catalog, ServingModel, Snapshot, Unresolved},
    types::{Instant, ModelRef},
};

/// What the path of a request is held to, whatever the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PredictConfig {
    /// Request bytes in memory at once.
    pub max_bytes_in_flight: u64,
    /// What a picture may weigh.
    pub images: Limits,
}

/// Answers requests. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Predictor {
    catalog: Arc<Catalog>,
    batcher: Arc<Batcher>,
    metrics: Arc<Metrics>,
    bytes: Arc<ByteBudget>,
    images: Limits,
}

impl Predictor {
    /// Puts the path together from its engines.
    #[must_use]
    pub fn new(
        catalog: Arc<Catalog>,
        batcher: Arc<Batcher>,
        metrics: Arc<Metrics>,
        config: PredictConfig,
    ) -> Self {
        let bytes = ByteBudget::new(config.max_bytes_in_flight, Arc::clone(&metrics));
        Self { catalog, batcher, metrics, bytes, images: config.images }
    }

    /// Decides from the head of a request whether its body is worth reading: resolves the model,
    /// refuses where the queue is already too long, or there is no room for the announced bytes.
    ///
    /// # Errors
    /// Why the request will not be looked at.
    pub fn admit(&self, announced: &Announced) -> Result<Ticket, PredictError> {
        let wanted = &announced.model;
        let model = self.catalog.resolve(wanted).map_err(|it| unresolved(wanted, it))?;
        if model.manifest.preprocess.is_none() {
            return Err(PredictError::NoPreprocessing { model: wanted.clone() });
        }
        let client_deadline = announced.timeout.and_then(|it| announced.arrived.checked_add(it));
        let (now, budget) = (Instant::now(), model.budget);
        // As if the body were there: what is missing of it comes while others are served.
        let bounds =
            Bounds { aim: now + budget.target, expires: now + budget.limit, client_deadline };
        let ticket = model.lanes.has_room(&bounds).and_then(|()| {
            let bytes = announced.body_bytes.unwrap_or(0);
            Ticket::issue(
                Arc::clone(&model),
                announced.arrived,
                client_deadline,
                &self.bytes,
                bytes,
            )
        });
        ticket.map_err(|refusal| {
            ticket::count_refusal(&model, &refusal);
            refusal.into()
        })
    }

    /// Judges each picture as an item of its own.
    ///
    /// # Errors
    /// Why the request was not looked at; what happened to single items stands in the outcome.
    pub async fn predict(&self, ticket: Ticket, input: Input) -> Result<Outcome, PredictError> {
        let outputs = wanted_outputs(&ticket.model, &input.outputs)?;
        let asked = self.asked(&ticket, &input, &outputs, false);
        let items = join_all(input.images.into_iter().map(|it| item::judge(asked, it))).await;
        Ok(outcome(&ticket, items, input.complete))
    }

    /// Judges the pictures as the views of one item: one verdict, one deadline.
    ///
    /// # Errors
    /// Why the request was not looked at.
    pub async fn inspect(&self, ticket: Ticket, input: Input) -> Result<Outcome, PredictError> {
        let model = &ticket.model;
        let Some(declared) = &model.manifest.views else {
            return Err(PredictError::NoItem { model: model.reference() });
        };
        let outputs = wanted_outputs(model, &input.outputs)?;
        let mut count = Count::open(model, input.complete);
        let item = match views::mismatch(declared, &input.images) {
            Some(why) => views::not_looked_at(model, &input.images, why),
            None => {
                let item_id = input.images.first().and_then(|it| it.item_id.clone());
                let asked = self.asked(&ticket, &input, &outputs, true);
                let images = input.images.into_iter();
                let judged = join_all(images.map(|it| item::judge(asked, it))).await;
                views::join(model, declared, item_id, judged)
            }
        };
        count.close(&item.result);
        drop(count);
        Ok(outcome(&ticket, vec![item], input.complete))
    }

    /// What is served at this moment.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.catalog.snapshot()
    }

    /// The metrics, with their gauges brought up to date: what a scrape answers.
    #[must_use]
    pub fn render_metrics(&self) -> Vec<u8> {
        self.batcher.refresh_gauges();
        self.metrics.render()
    }

    /// Whether the process can work at all: `/livez`.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.batcher.is_alive()
    }

    fn asked<'a>(
        &'a self,
        ticket: &'a Ticket,
        input: &Input,
        outputs: &'a Arc<[Arc<str>]>,
        is_view: bool,
    ) -> Asked<'a> {
        Asked { ticket, limits: &self.images, outputs, complete: input.complete, is_view }
    }
}

fn unresolved(wanted: &ModelRef, why: Unresolved) -> PredictError {
    let (name, model) = (wanted.name.clone(), wanted.clone());
    match (why, wanted.version) {
        (Unresolved::UnknownVersion, Some(version)) => {
            PredictError::UnknownVersion { name, version }
        }
        (Unresolved::UnknownModel, _) => PredictError::UnknownModel { name },
        (Unresolved::NotServed | Unresolved::UnknownVersion, _) => {
            PredictError::VersionNotServed { model }
        }
        (Unresolved::Loading, _) => PredictError::Loading { model },
        (Unresolved::Failed, _) => PredictError::LoadFailed { model },
    }
}

/// The outputs to ask of a run: the scores first, where there are some, then those asked for by
/// name; all of them for a version that has no scores.
fn wanted_outputs(model: &ServingModel, named: &[String]) -> Result<Arc<[Arc<str>]>, PredictError> {
    let known = || model.signature.outputs.iter().map(|it| &it.name);
    let mut wanted: Vec<Arc<str>> =
        model.manifest.outputs.iter().map(|it| Arc::clone(&it.scores)).collect();
    for name in named {
        let found =
            known().find(|it| &***it == name).ok_or_else(|| PredictError::UnknownOutput {
                model: model.reference(),
                output: name.clone(),
                known: known().map(|it| &**it).collect::<Vec<_>>().join(", "),
            })?;
        wanted.push(Arc::clone(found));
    }
    if wanted.is_empty() {
        wanted.extend(known().cloned());
    }
    Ok(wanted.into())
}

fn outcome(ticket: &Ticket, items: Vec<ItemOutcome>, complete: Instant) -> Outcome {
    let read = complete.saturating_duration_since(ticket.arrived);
    ticket.model.metrics.stage(Stage::Read, read);
    Outcome { model: Arc::clone(&ticket.model), items, total: complete.elapsed(), read }
}
