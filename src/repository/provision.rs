//! From the repository on disk to the catalog: scan, plan, load, publish; once, at start.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::Arc,
};

use super::{
    catalog::{Catalog, ModelEntry, ServingModel, Snapshot, VersionState},
    complaint::Complaint,
    error::{FileError, RepositoryError},
    files::{Limits, read_sealed},
    load::{LoadConfig, Loader, Wanted},
    load_error::LoadError,
    manifest::Manifest,
    model_config::ModelConfig,
    plan::plan,
    scan::{Found, FoundModel, FoundVersion, Layout, scan},
};
use crate::{
    batch::Batcher,
    metrics::{Metrics, ModelMetrics},
    onnx::Environment,
    types::{Budget, Instant, ModelName, ModelVersion},
};

/// Everything it takes to fill the catalog; its one writer.
#[derive(Debug)]
pub struct Provision {
    /// The repository's root.
    pub root: PathBuf,
    /// Only this model, if one is named: what the offline tools do.
    pub only: Option<(ModelName, Option<ModelVersion>)>,
    /// The same for every version.
    pub config: LoadConfig,
    /// ONNX Runtime.
    pub environment: Environment,
    /// Where versions get their queues.
    pub batcher: Arc<Batcher>,
    /// Where they are counted.
    pub metrics: Arc<Metrics>,
    /// Where they are published.
    pub catalog: Arc<Catalog>,
}

/// A model that is to be loaded.
struct Task<'a> {
    found: &'a FoundModel,
    config: ModelConfig,
    metrics: Arc<ModelMetrics>,
    load: Vec<ModelVersion>,
}

impl Provision {
    /// Loads what `serve` names, one version after the other, publishing each as it is ready. What
    /// is wrong with one does not keep the others from serving. Blocks; for a thread of its own.
    ///
    /// # Errors
    /// When the repository cannot be listed at all.
    pub fn run(&self, runtime: &tokio::runtime::Handle) -> Result<(), RepositoryError> {
        let mut found = scan(&self.root)?;
        if let Some((name, _)) = &self.only {
            found.models.retain(|it, _| it == name);
        }
        for complaint in &found.complaints {
            tracing::error!(%complaint, "in the model repository");
        }
        for note in &found.notes {
            tracing::info!(%note, "in the model repository");
        }
        let (mut snapshot, tasks) = self.planned(&found);
        self.catalog.publish(snapshot.clone());
        let loader = Loader {
            environment: &self.environment,
            batcher: &self.batcher,
            config: &self.config,
            runtime,
        };
        for task in &tasks {
            for version in &task.load {
                let started = Instant::now();
                let serving = load_one(&loader, task, *version, started, &mut snapshot);
                self.catalog.publish(snapshot.clone());
                // Last: whoever reads it finds it true.
                if let Some(serving) = serving {
                    log_success(&serving, started);
                }
            }
        }
        self.say_if_nothing_serves(&snapshot);
        Ok(())
    }

    /// One line for whoever wonders why a server that runs is never ready.
    fn say_if_nothing_serves(&self, snapshot: &Snapshot) {
        // An offline tool that asks for one model says by itself that it is not there.
        if snapshot.serves() || self.only.is_some() {
            return;
        }
        let is_empty = snapshot.models.is_empty() && snapshot.complaints.is_empty();
        let reason = if is_empty {
            "the model repository is empty: expected NAME/VERSION/model.onnx in it"
        } else {
            "of what is there, nothing is both named by serve and sound; see the lines before this one"
        };
        tracing::error!(repository = %self.root.display(), reason, "no model serves");
    }

    /// What is to become of each model, before anything is loaded.
    fn planned<'a>(&self, found: &'a Found) -> (Snapshot, Vec<Task<'a>>) {
        let complaints = found.complaints.iter().map(ToString::to_string).collect();
        let mut snapshot = Snapshot { scanned: true, models: BTreeMap::new(), complaints };
        let mut tasks = Vec::new();
        for (name, model) in &found.models {
            let (entry, task) = self.planned_model(name, model);
            for complaint in &entry.complaints {
                tracing::error!(model = %name, %complaint, "not served as it is meant");
            }
            snapshot.models.insert(name.clone(), entry);
            tasks.extend(task);
        }
        (snapshot, tasks)
    }

    fn planned_model<'a>(
        &self,
        name: &ModelName,
        model: &'a FoundModel,
    ) -> (ModelEntry, Option<Task<'a>>) {
        let config = match ModelConfig::read(model, &self.config.files) {
            Ok(config) => config,
            Err(complaints) => return (self.unreadable(model, &complaints), None),
        };
        let numbers: BTreeSet<ModelVersion> = model.numbers();
        let mut plan = plan(config.serve.as_deref(), &numbers);
        if let Some((_, Some(version))) = self.only {
            // An offline tool may ask for a version the operator does not serve.
            plan.load = vec![version];
            plan.default = Some(version);
        }
        let loading = plan.load.iter().map(|it| (*it, VersionState::Loading));
        let resting = plan.found.iter().map(|it| (*it, VersionState::Found));
        let entry = ModelEntry {
            serve: config.serve.clone().unwrap_or_else(|| plan.default.into_iter().collect()),
            budget: config.budget,
            // Unless the operator says otherwise, readiness waits for every model that judges, and
            // for one that is to be served and is not there at all.
            required: config.required.unwrap_or_else(|| {
                let missing = model.versions.is_empty() && config.serve.is_some();
                missing || model.versions.values().any(|it| may_judge(it, &self.config.files))
            }),
            versions: resting.chain(loading).collect(),
            complaints: plan.complaints.iter().map(|it| format!("serve {it}")).collect(),
        };
        let metrics = self.metrics.model(name, config.budget);
        for (version, state) in &entry.versions {
            metrics.set_state(*version, state.as_str(), &VersionState::NAMES);
        }
        (entry, Some(Task { found: model, config, metrics, load: plan.load }))
    }

    /// A model whose model.toml cannot be used: nothing of it is served, as nobody knows what is
    /// meant.
    fn unreadable(&self, model: &FoundModel, complaints: &[Complaint]) -> ModelEntry {
        let budget = Budget::default();
        let metrics = self.metrics.model(&model.name, budget);
        let failed = VersionState::Failed("its model.toml cannot be used".to_owned());
        for version in model.numbers() {
            metrics.set_state(version, failed.as_str(), &VersionState::NAMES);
        }
        ModelEntry {
            serve: Vec::new(),
            budget,
            required: true,
            versions: model.numbers().into_iter().map(|it| (it, failed.clone())).collect(),
            complaints: complaints.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Loads one version and enters what became of it; the version, if it is to serve.
fn load_one(
    loader: &Loader<'_>,
    task: &Task<'_>,
    version: ModelVersion,
    started: Instant,
    snapshot: &mut Snapshot,
) -> Option<Arc<ServingModel>> {
    let name = &task.found.name;
    let result = task.found.versions.get(&version).map(|found| {
        let wanted = Wanted { name, found, config: &task.config, metrics: &task.metrics };
        // A panic while loading one version must not keep the others from being loaded.
        catch_unwind(AssertUnwindSafe(|| loader.load(wanted))).unwrap_or(Err(LoadError::Panicked))
    });
    let entry = snapshot.models.get_mut(name)?;
    let (state, serving) = match result {
        None => (VersionState::Failed(format!("version {version} is not there")), None),
        Some(Err(error)) => {
            log_failure(name, version, &error);
            (VersionState::Failed(error.to_string()), None)
        }
        Some(Ok(serving)) => {
            task.metrics.set_load_duration(version, started.elapsed());
            entry.complaints.extend(slower_than_target(&serving));
            let serving = Arc::new(serving);
            (VersionState::Serving(Arc::clone(&serving)), Some(serving))
        }
    };
    task.metrics.set_state(version, state.as_str(), &VersionState::NAMES);
    entry.versions.insert(version, state);
    serving
}

/// What an operator should know of a version that cannot meet its target even when idle.
fn slower_than_target(serving: &ServingModel) -> Option<String> {
    let batching = serving.lanes.batching();
    let (_, took) = batching.run_times.first()?;
    let target = serving.budget.target;
    (*took > target).then(|| {
        format!(
            "version {}: one item alone takes {} ms, longer than the target of {} ms",
            serving.version,
            took.as_millis(),
            target.as_millis()
        )
    })
}

/// Whether a version is one that gives verdicts. One whose manifest cannot be read may be.
fn may_judge(found: &FoundVersion, limits: &Limits) -> bool {
    let Layout::Package { dir } = &found.layout else { return false };
    match read_sealed(&dir.join("package.toml"), limits.toml) {
        Ok(text) => Manifest::parse(&found.place, &text).map_or(true, |it| it.decision.is_some()),
        Err(error) => !matches!(error, FileError::Missing),
    }
}

fn log_success(serving: &ServingModel, started: Instant) {
    tracing::info!(
        model = %serving.name, version = %serving.version, digest = %serving.digest,
        evidence = serving.evidence.as_str(), took_seconds = started.elapsed().as_secs_f64(), "serving"
    );
}

fn log_failure(name: &ModelName, version: ModelVersion, error: &LoadError) {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    tracing::error!(model = %name, %version, %error, %cause, "not served");
}
