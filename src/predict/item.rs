//! One picture from compressed bytes to verdict: header, queue, run, decision, counts.

use std::{sync::Arc, time::Duration};

use super::{
    error::ItemError,
    input::Image,
    outcome::{ItemOutcome, ItemTiming, Judged},
    ticket::Ticket,
};
use crate::{
    batch::{self, Answer, BatchError, Bounds},
    decide,
    imaging::{self, Limits},
    metrics::{Outcome as Fate, Stage},
    repository::ServingModel,
    types::{Decision, Instant, ItemId, Reason, Verdict},
};

/// What the pictures of a request have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) ticket: &'a Ticket,
    pub(super) limits: &'a Limits,
    pub(super) outputs: &'a Arc<[Arc<str>]>,
    /// The last byte of the body: the start of the budget.
    pub(super) complete: Instant,
    /// Whether this picture is one of several views of an item.
    pub(super) is_view: bool,
}

/// Judges one picture, and counts what came of it; dropping the future counts it as cancelled.
pub(super) async fn judge(asked: Asked<'_>, image: Image) -> ItemOutcome {
    let model = &asked.ticket.model;
    // A view is no item: the item it belongs to is counted, once.
    let mut count = (!asked.is_view).then(|| Count::open(model, asked.complete));
    let (result, timing) = match ask(asked, &image).await {
        Ok(answer) => {
            let timing = timing_of(&answer);
            let deciding = Instant::now();
            let judged = decide_on(answer, asked);
            model.metrics.stage(Stage::Decide, deciding.elapsed());
            (judged, timing)
        }
        Err(error) => (Err(error), ItemTiming::default()),
    };
    if let Some(count) = &mut count {
        count.close(&result);
    }
    ItemOutcome {
        item_id: image.item_id.unwrap_or_else(ItemId::unique),
        acquisition_id: image.acquisition_id,
        view: image.view,
        file: image.file,
        result,
        views: Vec::new(),
        timing,
    }
}

/// Counts an item when it is done with, or when its caller has gone.
pub(super) struct Count<'a> {
    model: &'a ServingModel,
    complete: Instant,
    fate: Fate,
}

impl<'a> Count<'a> {
    pub(super) fn open(model: &'a ServingModel, complete: Instant) -> Self {
        Self { model, complete, fate: Fate::Cancelled }
    }

    /// Takes what came of the item, and counts what was said about it.
    pub(super) fn close(&mut self, result: &Result<Judged, ItemError>) {
        self.fate = fate_of(result);
        if let Err(ItemError::Refused(refusal)) = result {
            self.model.model_metrics.shed(refusal.cause.as_str());
        }
        let judged = result.as_ref().ok();
        let undecided = result.as_ref().err().map(|it| Verdict::undecided(it.reason(), None));
        let verdict = judged.and_then(|it| it.verdict.as_ref()).or(undecided.as_ref());
        self.model.metrics.judged(judged.and_then(|it| it.scores.as_ref()), verdict);
    }
}

impl Drop for Count<'_> {
    fn drop(&mut self) {
        self.model.metrics.answered(self.fate, self.complete.elapsed(), self.model.budget);
    }
}

/// How an item is counted. One of several views, some of which could not be judged, is counted as
/// what happened to those: overload must not look like a met budget.
fn fate_of(result: &Result<Judged, ItemError>) -> Fate {
    match result {
        Ok(judged) => judged.verdict.as_ref().map_or(Fate::Ok, |it| fate_of_reason(it.reason)),
        Err(error) => fate_of_reason(error.reason()),
    }
}

fn fate_of_reason(reason: Reason) -> Fate {
    match reason {
        Reason::Ok
        | Reason::Defect
        | Reason::LowConfidence
        | Reason::OutOfDistribution
        | Reason::ImageQuality
        | Reason::Views => Fate::Ok,
        Reason::ImageUnreadable | Reason::ImageTooLarge | Reason::RequestInvalid => Fate::Invalid,
        Reason::Overloaded => Fate::Shed,
        Reason::Deadline => Fate::Expired,
        Reason::OutputInvalid
        | Reason::NotReady
        | Reason::InferenceFailed
        | Reason::AuditUnavailable
        | Reason::ShuttingDown => Fate::Failed,
    }
}

async fn ask(asked: Asked<'_>, image: &Image) -> Result<Answer, ItemError> {
    let header = imaging::inspect(&image.bytes, asked.limits)?;
    let Asked { ticket, complete, .. } = asked;
    let budget = ticket.model.budget;
    let request = batch::Request {
        input: batch::Input::Image { bytes: image.bytes.clone(), header },
        outputs: Arc::clone(asked.outputs),
        bounds: Bounds {
            aim: complete + budget.target,
            expires: complete + budget.limit,
            client_deadline: ticket.client_deadline,
        },
    };
    let answer = ticket.model.lanes.infer(request).await.map_err(|error| match error {
        BatchError::Refused(refusal) => refusal.into(),
        BatchError::Image(error) => error.into(),
        BatchError::Expired => ItemError::Deadline { after: held_to(ticket, complete) },
        // Logged by the lane, with its cause.
        BatchError::Execute(_) => ItemError::InferenceFailed,
        BatchError::Stopped => ItemError::ShuttingDown,
    })?;
    // Reading the picture's header, the way to the lanes and back.
    let worked = answer.queue + answer.decode + answer.infer;
    ticket.model.lanes.learn_rest(complete.elapsed().saturating_sub(worked));
    let metrics = &ticket.model.metrics;
    metrics.stage(Stage::Decode, answer.decode);
    metrics.stage(Stage::Queue, answer.queue);
    metrics.stage(Stage::Infer, answer.infer);
    Ok(answer)
}

/// The shorter of the limit and the client's own deadline.
fn held_to(ticket: &Ticket, complete: Instant) -> Duration {
    let limit = complete + ticket.model.budget.limit;
    match ticket.client_deadline {
        Some(own) if own < limit => own.saturating_duration_since(ticket.arrived),
        Some(_) | None => ticket.model.budget.limit,
    }
}

fn timing_of(answer: &Answer) -> ItemTiming {
    ItemTiming {
        decode: answer.decode,
        queue: answer.queue,
        batch_size: answer.batch_size,
        infer: answer.infer,
    }
}

/// Scores and verdict from the first output asked for; the rest go out as they are.
fn decide_on(answer: Answer, asked: Asked<'_>) -> Result<Judged, ItemError> {
    let model = &asked.ticket.model;
    let manifest = &model.manifest;
    let invalid = |what: String| ItemError::OutputInvalid { what };
    let (Some(_), Some(calibration)) = (&manifest.outputs, &manifest.calibration) else {
        return Ok(Judged { scores: None, verdict: None, outputs: answer.outputs });
    };
    let mut outputs = answer.outputs;
    if outputs.is_empty() {
        return Err(invalid("there is none".to_owned()));
    }
    let scores = outputs.remove(0);
    let row = scores.tensor.as_f32().filter(|it| it.len() == manifest.labels.len());
    let row = row.ok_or_else(|| {
        let (found, n) = (scores.tensor.shape(), manifest.labels.len());
        invalid(format!("scores of shape {found:?} for {n} labels"))
    })?;
    let policy = manifest.decision.as_ref().filter(|_| model.gives_verdicts());
    let judged = decide::decide(row, calibration, policy).map_err(|it| invalid(it.to_string()))?;
    let verdict = judged.verdict.map(|it| alone(it, model, asked.is_view));
    Ok(Judged { scores: Some(judged.probabilities), verdict, outputs })
}

/// A picture of an item that has several views can reject it, but never approve it by itself.
fn alone(verdict: Verdict, model: &ServingModel, is_view: bool) -> Verdict {
    let n_views = model.manifest.views.as_ref().map_or(1, decide::DeclaredViews::count);
    if is_view || n_views < 2 || verdict.decision == Decision::Reject {
        return verdict;
    }
    let detail = format!("an item of this model has {n_views} views, this is one; use inspect");
    Verdict::undecided(Reason::Views, detail)
}
