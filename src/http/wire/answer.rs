//! The answer to `predict` and `inspect` when at least one item was judged.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::{Millis, whole_millis};
use crate::{
    http::extract::TopK,
    predict::{ItemOutcome, ItemTiming, Judged},
    repository::ServingModel,
    types::{
        Budget, Digest, Evidence, ItemId, Labels, ModelName, ModelVersion, NamedTensor,
        Probabilities, RequestId, TensorData, Verdict, WallTime,
    },
};

/// What an answer says of the version behind it.
#[derive(Debug, Clone)]
pub(in crate::http) struct About {
    pub(in crate::http) name: ModelName,
    pub(in crate::http) version: ModelVersion,
    pub(in crate::http) digest: Digest,
    pub(in crate::http) evidence: Evidence,
    pub(in crate::http) config_digest: Digest,
    pub(in crate::http) budget: Budget,
    pub(in crate::http) labels: Labels,
}

impl From<&ServingModel> for About {
    fn from(model: &ServingModel) -> Self {
        Self {
            name: model.name.clone(),
            version: model.version,
            digest: model.digest,
            evidence: model.evidence,
            config_digest: model.config_digest,
            budget: model.budget,
            labels: model.manifest.labels.clone(),
        }
    }
}

/// The body of a 200.
#[derive(Debug, Serialize)]
pub(in crate::http) struct Answer<'a> {
    request_id: &'a RequestId,
    answered_at: String,
    model: ModelLine<'a>,
    config_digest: Digest,
    items: Vec<Item<'a>>,
    timing: Timing,
}

#[derive(Debug, Serialize)]
struct ModelLine<'a> {
    name: &'a ModelName,
    version: ModelVersion,
    digest: Digest,
    evidence: Evidence,
}

/// An image or a row that got an answer of its own.
#[derive(Debug, Serialize)]
struct Item<'a> {
    position: usize,
    item_id: &'a ItemId,
    #[serde(skip_serializing_if = "Option::is_none")]
    acquisition_id: Option<&'a ItemId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    view: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(flatten)]
    said: Said<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    views: Vec<View<'a>>,
    /// Always null in this version: no heat maps yet.
    explanation: (),
    timing: ItemTimes,
}

/// One picture of an item of several.
#[derive(Debug, Serialize)]
struct View<'a> {
    view: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(flatten)]
    said: Said<'a>,
    timing: ItemTimes,
}

/// What was said about an item or a view.
#[derive(Debug, Serialize)]
struct Said<'a> {
    #[serde(flatten)]
    classes: Option<Classes<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    outputs: Vec<Output<'a>>,
    verdict: Option<Verdict>,
}

/// The classes of an item; left out where the model has no classes (`task = "tensors"`).
#[derive(Debug, Serialize)]
struct Classes<'a> {
    label: Option<LabelName<'a>>,
    score: Option<f32>,
    scores: Vec<Score<'a>>,
}

#[derive(Debug, Serialize)]
struct Score<'a> {
    label: LabelName<'a>,
    score: f32,
}

/// A class by its label or, where the model has none, by its index; a string either way.
#[derive(Debug, Clone, Copy)]
enum LabelName<'a> {
    Named(&'a str),
    Index(usize),
}

impl Serialize for LabelName<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Named(name) => serializer.serialize_str(name),
            Self::Index(at) => serializer.collect_str(at),
        }
    }
}

#[derive(Debug, Serialize)]
struct Output<'a> {
    name: &'a str,
    dtype: &'static str,
    shape: &'a [usize],
    data: Elements<'a>,
}

#[derive(Debug)]
struct Elements<'a>(&'a TensorData);

#[derive(Debug, Serialize)]
struct ItemTimes {
    decode_ms: Millis,
    queue_ms: Millis,
    batch_size: usize,
    infer_ms: Millis,
}

#[derive(Debug, Serialize)]
struct Timing {
    read_ms: Millis,
    total_ms: Millis,
    wall_ms: Millis,
    target_ms: u64,
    limit_ms: u64,
    within_target: bool,
}

/// How long a request took, by its three clocks.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct Took {
    /// From the head to the last byte of the body.
    pub(in crate::http) read: Duration,
    /// From the last byte of the body to the answer ready.
    pub(in crate::http) total: Duration,
    /// From the head to the answer ready.
    pub(in crate::http) wall: Duration,
}

impl<'a> Answer<'a> {
    pub(in crate::http) fn new(
        request_id: &'a RequestId,
        about: &'a About,
        items: &'a [ItemOutcome],
        top_k: TopK,
        took: Took,
    ) -> Self {
        let About { name, version, digest, evidence, config_digest, budget, labels } = about;
        let item = |(position, item)| Item::new(position, item, labels, top_k);
        Self {
            request_id,
            answered_at: WallTime::now().to_string(),
            model: ModelLine { name, version: *version, digest: *digest, evidence: *evidence },
            config_digest: *config_digest,
            items: items.iter().enumerate().map(item).collect(),
            timing: Timing {
                read_ms: Millis(took.read),
                total_ms: Millis(took.total),
                wall_ms: Millis(took.wall),
                target_ms: whole_millis(budget.target),
                limit_ms: whole_millis(budget.limit),
                within_target: took.total <= budget.target,
            },
        }
    }
}

impl<'a> Item<'a> {
    fn new(position: usize, item: &'a ItemOutcome, labels: &'a Labels, top_k: TopK) -> Self {
        let view = |it: &'a ItemOutcome| View {
            view: it.view.as_deref(),
            file: it.file.as_deref(),
            said: Said::new(it, labels, top_k),
            timing: it.timing.into(),
        };
        Self {
            position,
            item_id: &item.item_id,
            acquisition_id: item.acquisition_id.as_ref(),
            view: item.view.as_deref(),
            file: item.file.as_deref(),
            said: Said::new(item, labels, top_k),
            views: item.views.iter().map(view).collect(),
            explanation: (),
            timing: item.timing.into(),
        }
    }
}

impl<'a> Said<'a> {
    fn new(item: &'a ItemOutcome, labels: &'a Labels, top_k: TopK) -> Self {
        match &item.result {
            Ok(Judged { scores, verdict, outputs }) => {
                // An item of several views has no scores of its own, but its model has classes.
                let no_classes = scores.is_none() && item.views.is_empty();
                Self {
                    classes: (!no_classes).then(|| Classes::new(scores.as_ref(), labels, top_k)),
                    outputs: outputs.iter().map(Output::from).collect(),
                    verdict: verdict.clone(),
                }
            }
            Err(error) => Self {
                classes: Some(Classes::new(None, labels, top_k)),
                outputs: Vec::new(),
                verdict: Some(Verdict::undecided(error.reason(), error.to_string())),
            },
        }
    }
}

impl<'a> Classes<'a> {
    fn new(scores: Option<&Probabilities>, labels: &'a Labels, top_k: TopK) -> Self {
        let named = |(at, score)| Score {
            label: labels.get(at).map_or(LabelName::Index(at), |it| LabelName::Named(it)),
            score,
        };
        let ranked = scores.map(Probabilities::ranked).unwrap_or_default();
        let n_shown = match top_k {
            TopK::First(n) => n,
            TopK::All => ranked.len(),
        };
        let best = ranked.first().copied().map(named);
        Self {
            label: best.as_ref().map(|it| it.label),
            score: best.as_ref().map(|it| it.score),
            scores: ranked.into_iter().take(n_shown).map(named).collect(),
        }
    }
}

impl<'a> From<&'a NamedTensor> for Output<'a> {
    fn from(NamedTensor { name, tensor }: &'a NamedTensor) -> Self {
        Self {
            name,
            dtype: tensor.dtype().as_str(),
            shape: tensor.shape(),
            data: Elements(tensor.data()),
        }
    }
}

impl Serialize for Elements<'_> {
    /// Row-major and flat. JSON has no NaN and no infinity; they become null.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            TensorData::F32(it) => serializer.collect_seq(it),
            TensorData::F64(it) => serializer.collect_seq(it),
            TensorData::F16(it) => serializer.collect_seq(it.iter().map(|it| it.to_f32())),
            TensorData::BF16(it) => serializer.collect_seq(it.iter().map(|it| it.to_f32())),
            TensorData::I8(it) => serializer.collect_seq(it),
            TensorData::I16(it) => serializer.collect_seq(it),
            TensorData::I32(it) => serializer.collect_seq(it),
            TensorData::I64(it) => serializer.collect_seq(it),
            TensorData::U8(it) => serializer.collect_seq(it),
            TensorData::U16(it) => serializer.collect_seq(it),
            TensorData::U32(it) => serializer.collect_seq(it),
            TensorData::U64(it) => serializer.collect_seq(it),
            TensorData::Bool(it) => serializer.collect_seq(it),
            TensorData::String(it) => serializer.collect_seq(it),
        }
    }
}

impl From<ItemTiming> for ItemTimes {
    fn from(ItemTiming { decode, queue, batch_size, infer }: ItemTiming) -> Self {
        Self {
            decode_ms: Millis(decode),
            queue_ms: Millis(queue),
            batch_size,
            infer_ms: Millis(infer),
        }
    }
}
