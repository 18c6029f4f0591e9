//! What is served: an immutable snapshot, swapped whole, read without a lock.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;

use super::{card::Card, manifest::Manifest, profile::RunPlan};
use crate::{
    batch::ModelHandle,
    metrics::{ModelMetrics, VersionMetrics},
    onnx::Signature,
    types::{Budget, Digest, Evidence, ModelName, ModelRef, ModelVersion},
};

/// Where a version stands.
#[derive(Debug, Clone)]
pub enum VersionState {
    /// In the repository, but not named by `serve`.
    Found,
    /// Being read, opened and put to the proof.
    Loading,
    /// Answering.
    Serving(Arc<ServingModel>),
    /// Refused; the reason is fit for an operator, not for a client's eyes only.
    Failed(String),
}

impl VersionState {
    /// Every state's name.
    pub const NAMES: [&'static str; 4] = ["found", "loading", "serving", "failed"];

    /// The word used on the wire and as a metric label.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Loading => "loading",
            Self::Serving(_) => "serving",
            Self::Failed(_) => "failed",
        }
    }
}

/// A version that answers. One `Arc` of it serves a whole request, so that a swap in between cannot
/// mix two versions.
#[derive(Debug)]
pub struct ServingModel {
    /// The model.
    pub name: ModelName,
    /// Its version.
    pub version: ModelVersion,
    /// SHA-256 of card.json, or of model.onnx where there is none.
    pub digest: Digest,
    /// SHA-256 of the effective settings and this model's model.toml.
    pub config_digest: Digest,
    /// What it has shown before it was allowed to serve.
    pub evidence: Evidence,
    /// What its answers are held to.
    pub budget: Budget,
    /// What the package declares: labels, preprocessing, policy.
    pub manifest: Arc<Manifest>,
    /// Provenance, where the package has a card.
    pub card: Option<Arc<Card>>,
    /// Inputs and outputs of the graph.
    pub signature: Signature,
    /// How it is run, and why so.
    pub plan: RunPlan,
    /// The way to its queue.
    pub lanes: ModelHandle,
    /// Where its answers are counted.
    pub metrics: Arc<VersionMetrics>,
    /// Counts that are not about one version.
    pub model_metrics: Arc<ModelMetrics>,
}

/// One model of the repository, and all its versions.
#[derive(Debug, Clone)]
pub struct ModelEntry {
    /// What `serve` names, in its order; the first answers the URL without a version.
    pub serve: Vec<ModelVersion>,
    /// What its answers are held to.
    pub budget: Budget,
    /// Whether the server is not ready while this model failed.
    pub required: bool,
    /// Every version found, and where it stands.
    pub versions: BTreeMap<ModelVersion, VersionState>,
    /// What is wrong with the model as a whole, such as a malformed model.toml.
    pub complaints: Vec<String>,
}

/// Everything found in the repository at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Whether the repository has been looked at; before that, what is not here may yet be.
    pub scanned: bool,
    /// The models by name.
    pub models: BTreeMap<ModelName, ModelEntry>,
    /// Places in the repository that are no model, and why.
    pub complaints: Vec<String>,
}

/// Why a reference leads to no serving version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unresolved {
    /// There is no such model.
    UnknownModel,
    /// The model has no such version.
    UnknownVersion,
    /// It is there, but not named by `serve`.
    NotServed,
    /// It is still loading.
    Loading,
    /// It failed to load.
    Failed,
}

impl ServingModel {
    /// Which version this is.
    #[must_use]
    pub fn reference(&self) -> ModelRef {
        ModelRef { name: self.name.clone(), version: Some(self.version) }
    }

    /// Whether it gives verdicts: a policy, and golden samples that passed.
    #[must_use]
    pub fn gives_verdicts(&self) -> bool {
        self.manifest.decision.is_some() && self.evidence == Evidence::Golden
    }
}

impl ModelEntry {
    /// Why a reference without a version leads nowhere: a model.toml that cannot be used fails every
    /// version.
    fn without_default(&self) -> Unresolved {
        let failed = self.versions.values().any(|it| matches!(it, VersionState::Failed(_)));
        if failed { Unresolved::Failed } else { Unresolved::NotServed }
    }
}

impl Snapshot {
    /// Why a model is not here.
    fn absent(&self) -> Unresolved {
        if self.scanned { Unresolved::UnknownModel } else { Unresolved::Loading }
    }

    /// The serving version a reference leads to.
    ///
    /// # Errors
    /// Why there is none.
    pub fn resolve(&self, model: &ModelRef) -> Result<&Arc<ServingModel>, Unresolved> {
        let entry = self.models.get(&model.name).ok_or_else(|| self.absent())?;
        let version = match model.version {
            Some(version) => version,
            None => *entry.serve.first().ok_or_else(|| entry.without_default())?,
        };
        match entry.versions.get(&version).ok_or(Unresolved::UnknownVersion)? {
            VersionState::Serving(serving) => Ok(serving),
            VersionState::Found => Err(Unresolved::NotServed),
            VersionState::Loading => Err(Unresolved::Loading),
            VersionState::Failed(_) => Err(Unresolved::Failed),
        }
    }
}

/// The current [`Snapshot`]: one writer, readers without a lock.
#[derive(Debug, Default)]
pub struct Catalog(ArcSwap<Snapshot>);

impl Catalog {
    /// The snapshot of this moment.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// The serving version a reference leads to.
    ///
    /// # Errors
    /// Why there is none.
    pub fn resolve(&self, model: &ModelRef) -> Result<Arc<ServingModel>, Unresolved> {
        self.0.load().resolve(model).cloned()
    }

    /// Publishes a new snapshot; for the one writer.
    pub(super) fn publish(&self, snapshot: Snapshot) {
        self.0.store(Arc::new(snapshot));
    }
}

/// Whether the server can take traffic, and what stands in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// Every version to be served has ended its loading, at least one serves, and none that is
    /// required failed.
    pub ready: bool,
    /// One line per thing that is not as it should be; what failed without being required is
    /// named too.
    pub notes: Vec<String>,
}

impl Snapshot {
    /// Whether any version of any model serves.
    pub(super) fn serves(&self) -> bool {
        let mut versions = self.models.values().flat_map(|it| it.versions.values());
        versions.any(|it| matches!(it, VersionState::Serving(_)))
    }

    /// What `/readyz` says.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let mut notes = self.complaints.clone();
        if !self.scanned {
            notes.push("the model repository is being read".to_owned());
        }
        let (mut any_serves, mut blocked) = (false, false);
        for (name, entry) in &self.models {
            notes.extend(entry.complaints.iter().map(|it| format!("{name}: {it}")));
            blocked |= entry.required && !entry.complaints.is_empty() && entry.serve.is_empty();
            for version in &entry.serve {
                match entry.versions.get(version) {
                    Some(VersionState::Serving(_)) => any_serves = true,
                    Some(VersionState::Loading) => {
                        blocked = true;
                        notes.push(format!("{name} version {version} is loading"));
                    }
                    Some(VersionState::Failed(why)) => {
                        blocked |= entry.required;
                        notes.push(format!("{name} version {version} failed: {why}"));
                    }
                    Some(VersionState::Found) | None => {
                        blocked |= entry.required;
                        notes.push(format!("{name} version {version} is not there"));
                    }
                }
            }
        }
        if !any_serves {
            notes.push("no model serves".to_owned());
        }
        Readiness { ready: any_serves && !blocked, notes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_the_repository_is_read_no_model_is_unknown() {
        let wanted = ModelRef { name: "m".parse().unwrap(), version: None };
        let unread = Snapshot::default();
        assert_eq!(unread.resolve(&wanted).unwrap_err(), Unresolved::Loading);
        assert!(!unread.readiness().ready);
        let read = Snapshot { scanned: true, ..unread };
        assert_eq!(read.resolve(&wanted).unwrap_err(), Unresolved::UnknownModel);
    }
}
