//! What is served, as `GET /v1/models…` shows it.

use serde::Serialize;
use serde_json::{Map, Value};

use super::BudgetBody;
use crate::{
    repository::{ModelEntry, RunPlan, ServingModel, Snapshot, VersionState},
    types::{DType, Digest, Evidence, ModelName, ModelVersion},
};

/// `GET /v1/models`.
#[derive(Debug, Serialize)]
pub(in crate::http) struct ModelList<'a> {
    models: Vec<Model<'a>>,
    /// Places in the repository that are no model, and why.
    complaints: &'a [String],
}

/// `GET /v1/models/{model}`, and an entry of the list.
#[derive(Debug, Serialize)]
pub(in crate::http) struct Model<'a> {
    name: &'a ModelName,
    /// What the operator serves; the first answers the URL without a version.
    serve: &'a [ModelVersion],
    required: bool,
    budget: BudgetBody,
    versions: Vec<VersionLine<'a>>,
    complaints: &'a [String],
}

/// Where a version stands.
#[derive(Debug, Serialize)]
struct VersionLine<'a> {
    version: ModelVersion,
    state: &'static str,
    /// Why it does not serve, if it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(flatten)]
    serving: Option<Sealed<'a>>,
}

/// What is known of a version once it serves.
#[derive(Debug, Serialize)]
struct Sealed<'a> {
    digest: Digest,
    evidence: Evidence,
    labels: Vec<&'a str>,
    plan: PlanBody<'a>,
}

/// How it is run on this machine.
#[derive(Debug, Serialize)]
struct PlanBody<'a> {
    /// What computes its runs, as seen in a trial run.
    provider: &'static str,
    /// The GPUs it runs on; none where it runs on cores.
    devices: &'a [u32],
    /// How much of the graph they run.
    nodes: Option<Nodes>,
    lanes: usize,
    threads_per_lane: usize,
    max_batch: usize,
    /// Working memory of a lane, where it is known.
    lane_bytes: Option<u64>,
    /// Whether one item on all cores would be worth it.
    wide: &'static str,
}

/// Nodes of a graph.
#[derive(Debug, Serialize)]
struct Nodes {
    on_device: usize,
    all: usize,
}

/// `GET /v1/models/{model}/versions/{version}`.
#[derive(Debug, Serialize)]
pub(in crate::http) struct VersionDetail<'a> {
    name: &'a ModelName,
    #[serde(flatten)]
    line: VersionLine<'a>,
    budget: BudgetBody,
    #[serde(flatten)]
    serving: Option<Proof<'a>>,
}

/// What a serving version is made of.
#[derive(Debug, Serialize)]
struct Proof<'a> {
    config_digest: Digest,
    /// Whether its answers carry verdicts.
    verdicts: bool,
    /// Whether it takes images.
    images: bool,
    inputs: Vec<Port<'a>>,
    outputs: Vec<Port<'a>>,
    /// Provenance, as the package's card.json tells it.
    card: Option<&'a Map<String, Value>>,
}

/// An input or output of the graph.
#[derive(Debug, Serialize)]
pub(in crate::http) struct Port<'a> {
    name: &'a str,
    dtype: &'static str,
    /// `null` for a dimension the graph leaves open.
    shape: &'a [Option<usize>],
}

impl<'a> From<&'a Snapshot> for ModelList<'a> {
    fn from(snapshot: &'a Snapshot) -> Self {
        let models = snapshot.models.iter().map(|(name, entry)| Model::new(name, entry)).collect();
        Self { models, complaints: &snapshot.complaints }
    }
}

impl<'a> Model<'a> {
    pub(in crate::http) fn new(name: &'a ModelName, entry: &'a ModelEntry) -> Self {
        let line =
            |(version, state): (&ModelVersion, &'a VersionState)| VersionLine::new(*version, state);
        Self {
            name,
            serve: &entry.serve,
            required: entry.required,
            budget: entry.budget.into(),
            versions: entry.versions.iter().map(line).collect(),
            complaints: &entry.complaints,
        }
    }
}

impl<'a> VersionLine<'a> {
    fn new(version: ModelVersion, state: &'a VersionState) -> Self {
        let (reason, serving) = match state {
            VersionState::Found | VersionState::Loading => (None, None),
            VersionState::Serving(model) => (None, Some(Sealed::from(&**model))),
            VersionState::Failed(why) => (Some(why.as_str()), None),
        };
        Self { version, state: state.as_str(), reason, serving }
    }
}

impl<'a> From<&'a ServingModel> for Sealed<'a> {
    fn from(model: &'a ServingModel) -> Self {
        let labels = model.manifest.labels.iter().map(|it| &**it).collect();
        Self {
            digest: model.digest,
            evidence: model.evidence,
            labels,
            plan: PlanBody::from(&model.plan),
        }
    }
}

impl<'a> From<&'a RunPlan> for PlanBody<'a> {
    fn from(plan: &'a RunPlan) -> Self {
        let nodes = plan.compute.nodes.as_ref();
        Self {
            provider: plan.compute.provider.as_str(),
            devices: &plan.devices,
            nodes: nodes.map(|it| Nodes { on_device: it.on_device(), all: it.all() }),
            lanes: plan.lanes,
            threads_per_lane: plan.threads_per_lane,
            max_batch: plan.max_batch,
            lane_bytes: plan.lane_bytes,
            wide: plan.wide.as_str(),
        }
    }
}

impl<'a> VersionDetail<'a> {
    /// `None` if the model has no such version.
    pub(in crate::http) fn new(
        name: &'a ModelName,
        entry: &'a ModelEntry,
        version: ModelVersion,
    ) -> Option<Self> {
        let state = entry.versions.get(&version)?;
        let serving = match state {
            VersionState::Serving(model) => Some(Proof::from(&**model)),
            VersionState::Found | VersionState::Loading | VersionState::Failed(_) => None,
        };
        let line = VersionLine::new(version, state);
        Some(Self { name, line, budget: entry.budget.into(), serving })
    }
}

impl<'a> From<&'a ServingModel> for Proof<'a> {
    fn from(model: &'a ServingModel) -> Self {
        let port = |name: &'a str, dtype: DType, shape: &'a [Option<usize>]| Port {
            name,
            dtype: dtype.as_str(),
            shape,
        };
        let signature = &model.signature;
        Self {
            config_digest: model.config_digest,
            verdicts: model.gives_verdicts(),
            images: model.manifest.preprocess.is_some(),
            inputs: signature.inputs.iter().map(|it| port(&it.name, it.dtype, &it.shape)).collect(),
            outputs: signature
                .outputs
                .iter()
                .map(|it| port(&it.name, it.dtype, &it.shape))
                .collect(),
            card: model.card.as_ref().map(|it| &it.about),
        }
    }
}
