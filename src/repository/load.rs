//! One version from its folder to its queue: read, open, measure, prove, register.

use std::{num::NonZeroUsize, path::PathBuf, sync::Arc, time::Duration};

use super::{
    catalog::ServingModel,
    files::Limits,
    golden_check::{self, Answers},
    load_error::LoadError,
    manifest::Manifest,
    memory::Memory,
    model_config::ModelConfig,
    package::SealedPackage,
    prepare::Prepared,
    profile::{self, MeasureError, Measured, Profile, ProfileCache, RunPlan, Sharing},
    scan::FoundVersion,
};
use crate::{
    batch::{Batcher, Batching, ImageInput, ModelHandle, ModelSpec, Program},
    imaging,
    metrics::{ModelMetrics, Planned, VersionMetrics},
    onnx::{Environment, SessionConfig, Signature},
    types::{Digest, Evidence, ModelName},
};

/// What loading needs, for every version the same.
#[derive(Debug, Clone)]
pub struct LoadConfig {
    /// What a package may weigh.
    pub files: Limits,
    /// What a picture may weigh.
    pub images: imaging::Limits,
    /// How sessions compute.
    pub sessions: SessionConfig,
    /// Where profiles are remembered; `None`: nowhere.
    pub cache: Option<PathBuf>,
    /// The processor, as far as a profile taken on one holds for no other.
    pub cpu: String,
    /// The names of the GPUs, by their numbers, as far as the driver tells; for the same reason.
    pub gpus: Vec<String>,
    /// Bytes the process may take; `None`: no limit.
    pub memory: Option<u64>,
    /// Bytes it has taken that the system cannot take back, as far as that tells.
    pub memory_taken: fn() -> Option<u64>,
    /// The effective settings as `--print-config` prints them: with model.toml they make the digest
    /// of what was in force.
    pub settings: String,
}

/// Where versions are loaded to.
#[derive(Debug)]
pub(super) struct Loader<'a> {
    pub(super) environment: &'a Environment,
    pub(super) batcher: &'a Batcher,
    pub(super) config: &'a LoadConfig,
    /// For the golden samples' way through the lanes, which is asynchronous.
    pub(super) runtime: &'a tokio::runtime::Handle,
}

/// A model, and what its operator wants of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) name: &'a ModelName,
    pub(super) found: &'a FoundVersion,
    pub(super) config: &'a ModelConfig,
    pub(super) metrics: &'a Arc<ModelMetrics>,
}

impl Loader<'_> {
    /// Loads one version. Blocks for as long as that takes; for a thread of its own.
    ///
    /// # Errors
    /// Why it must not serve.
    pub(super) fn load(&self, wanted: Wanted<'_>) -> Result<ServingModel, LoadError> {
        let Wanted { name, found, config, metrics } = wanted;
        let cores = self.cores();
        let memory = Memory::before(self.config, found);
        memory.map_or(Ok(()), Memory::can_open)?;
        let asked = (&config.runtime, cores);
        let prepared = Prepared::new(self.environment, self.config, name, found, asked)?;
        golden_result(&prepared.package, prepared.complaints.clone(), metrics)?;

        let key = prepared.profile_key(self.environment, self.config, cores);
        let cache = ProfileCache::new(self.config.cache.clone());
        let cached = cache.read(name, found.version, &key);
        let mut measured = self.measure(&prepared, config, cached.as_ref())?;
        let mut plan = self.plan(&prepared, &measured, config, memory)?;
        let queue = self.register(&prepared, wanted, &measured.profile, &plan)?;
        let shortest_run = self.prove(&prepared, &queue.lanes, metrics)?;
        if let (Some(cached), Some(run)) = (&cached, shortest_run)
            && !still_true(cached, run)
        {
            tracing::warn!(
                model = %name, version = %found.version, now_seconds = run.as_secs_f64(),
                cached_seconds = cached.single().unwrap_or_default().as_secs_f64(),
                "a cached profile is left aside: golden samples run at another speed; measuring anew"
            );
            measured = self.measure(&prepared, config, None)?;
            plan = self.plan(&prepared, &measured, config, memory)?;
        }
        if measured.worth_caching {
            cache.write(name, found.version, &key, &measured.profile);
        }
        let remembered = cached.as_ref() == Some(&measured.profile);
        log_plan(wanted, &measured.profile, &plan, remembered);
        let (max_batch, run_times) = (plan.max_batch, measured.profile.run_times());
        queue.lanes.set_batching(Batching { max_batch, run_times });
        Ok(self.serving(prepared, wanted, queue, plan))
    }

    /// Core tokens: one a lane.
    fn cores(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.batcher.n_cores()).unwrap_or(NonZeroUsize::MIN)
    }

    fn measure(
        &self,
        prepared: &Prepared,
        config: &ModelConfig,
        known: Option<&Profile>,
    ) -> Result<Measured, LoadError> {
        let terms = profile::Terms {
            asked: &config.runtime,
            limit: config.budget.limit,
            cores: self.cores(),
            must_run: prepared.package.golden.is_empty(),
        };
        match profile::at_load(prepared.subject(&prepared.rows), terms, known) {
            // Some graphs cannot be run with dimensions of 1.
            Err(MeasureError::Run(error)) => {
                let larger = prepared.larger_rows().ok_or(MeasureError::Run(error))?;
                Ok(profile::at_load(prepared.subject(&larger), terms, known)?)
            }
            measured => Ok(measured?),
        }
    }

    /// Plans with what was measured; a version that cannot keep its limit, or does not fit, is refused.
    fn plan(
        &self,
        prepared: &Prepared,
        measured: &Measured,
        config: &ModelConfig,
        memory: Option<Memory>,
    ) -> Result<RunPlan, LoadError> {
        let single = measured.profile.single().unwrap_or_default();
        let limit = config.budget.limit;
        if single > limit {
            return Err(LoadError::TooSlow { took: single, limit });
        }
        let ground = prepared.ground(self.cores());
        let compute = prepared.compute.clone();
        let plan = profile::plan(ground, &measured.profile, &config.runtime)?;
        memory.map_or(Ok(()), |it| it.can_serve(plan.process_bytes()))?;
        Ok(RunPlan { compute, ..plan })
    }

    /// Opens the queue of a version, and the lanes of its devices. Golden samples are answered one row
    /// a run; sharing begins when they have passed.
    fn register(
        &self,
        prepared: &Prepared,
        wanted: Wanted<'_>,
        profile: &Profile,
        plan: &RunPlan,
    ) -> Result<Queue, LoadError> {
        for device in plan.devices.iter().copied() {
            let each = NonZeroUsize::new(plan.lanes / plan.devices.len());
            let added = self.batcher.add_device(device, each.unwrap_or(NonZeroUsize::MIN));
            added.map_err(|error| LoadError::Lanes { device, error })?;
        }
        let Wanted { name, found, config, metrics } = wanted;
        let Prepared { manifest, graph, .. } = prepared;
        let metrics = Arc::new(metrics.version(found.version, &manifest.labels));
        let lanes = self.batcher.register(ModelSpec {
            label: format!("{name} version {}", found.version),
            image: self.image_input(manifest, graph.signature()),
            placement: graph.placement(),
            program: Arc::clone(graph) as Arc<dyn Program>,
            batching: Batching::single(profile.single().unwrap_or_default()),
            terms: config.terms(),
            max_lanes: Some(plan.lanes),
            metrics: Some(Arc::clone(&metrics)),
        });
        Ok(Queue { lanes, metrics })
    }

    /// Puts the golden samples through the lanes; says how long the shortest run took, where one was
    /// surely not the first of its session.
    fn prove(
        &self,
        prepared: &Prepared,
        lanes: &ModelHandle,
        metrics: &ModelMetrics,
    ) -> Result<Option<Duration>, LoadError> {
        let Prepared { package, manifest, .. } = prepared;
        let asked = golden_check::answers(&package.golden, manifest, lanes, &self.config.images);
        let Answers { complaints, shortest_run } = self.runtime.block_on(asked);
        golden_result(package, complaints, metrics)?;
        let n_lanes = match prepared.graph.devices().len() {
            0 => self.batcher.n_cores(),
            devices => devices * profile::MOST_LANES_OF_DEVICE,
        };
        Ok(shortest_run.filter(|_| package.golden.len() > n_lanes))
    }

    fn serving(
        &self,
        prepared: Prepared,
        wanted: Wanted<'_>,
        queue: Queue,
        plan: RunPlan,
    ) -> ServingModel {
        let Wanted { name, found, config, metrics } = wanted;
        let Prepared { package, manifest, graph, .. } = prepared;
        let evidence = if package.golden.is_empty() { Evidence::None } else { Evidence::Golden };
        if manifest.decision.is_some() && evidence == Evidence::None {
            tracing::warn!(
                model = %name, version = %found.version,
                "has a decision policy but no golden samples: it serves without verdicts"
            );
        }
        let digest = package.digest.to_string();
        let provider = plan.compute.provider.as_str();
        metrics.set_info(found.version, &digest, provider, evidence.as_str());
        metrics.set_plan(found.version, planned(&plan));
        ServingModel {
            name: name.clone(),
            version: found.version,
            digest: package.digest,
            config_digest: self.config_digest(config),
            evidence,
            budget: config.budget,
            manifest,
            card: package.card,
            signature: graph.signature().clone(),
            plan,
            lanes: queue.lanes,
            metrics: queue.metrics,
            model_metrics: Arc::clone(metrics),
        }
    }

    fn image_input(&self, manifest: &Manifest, signature: &Signature) -> Option<ImageInput> {
        let preprocess = manifest.preprocess.clone()?;
        let input = Arc::clone(&signature.inputs.first()?.name);
        Some(ImageInput { input, preprocess, limits: self.config.images })
    }

    /// What `(linesight serve --print-config; cat model.toml) | sha256sum` prints.
    fn config_digest(&self, config: &ModelConfig) -> Digest {
        Digest::of(format!("{}{}", self.config.settings, config.text).as_bytes())
    }
}

/// A version's way to its lanes, and where they count its runs.
struct Queue {
    lanes: ModelHandle,
    metrics: Arc<VersionMetrics>,
}

/// Whether a remembered run time is still what the machine does. A lane's run takes what a run alone
/// takes or more: so one that is clearly shorter, or longer than lanes beside it explain, says that
/// it is not.
fn still_true(cached: &Profile, run: Duration) -> bool {
    let known = cached.single().unwrap_or_default();
    run >= known.mul_f64(2.0 / 3.0) && run <= known.saturating_mul(3) + ROUGHLY_NOTHING
}

/// Differences of so little say nothing: of a run that short, handing it over is the greater part.
const ROUGHLY_NOTHING: Duration = Duration::from_millis(1);

fn planned(plan: &RunPlan) -> Planned {
    Planned {
        lanes: plan.lanes,
        threads_per_lane: plan.threads_per_lane,
        max_batch: plan.max_batch,
        lane_bytes: plan.lane_bytes,
    }
}

fn golden_result(
    package: &SealedPackage,
    complaints: Vec<String>,
    metrics: &ModelMetrics,
) -> Result<(), LoadError> {
    metrics.golden_failed(package.version, complaints.len());
    let failed = complaints.len();
    match complaints.into_iter().next() {
        Some(first) => Err(LoadError::Golden { failed, of: package.golden.len(), first }),
        None => Ok(()),
    }
}

/// What was measured, and what is made of it.
fn log_plan(wanted: Wanted<'_>, profile: &Profile, plan: &RunPlan, remembered: bool) {
    let Wanted { name, found: FoundVersion { version, .. }, config, .. } = wanted;
    let ms = |took: Duration| took.as_secs_f64() * 1e3;
    let time = |(rows, took): (usize, Duration)| format!("{rows}: {:.2} ms", ms(took));
    let times: Vec<String> = profile.run_times().into_iter().map(time).collect();
    let refused = match &profile.sharing {
        Sharing::Proven => None,
        Sharing::Refused(why) => Some(why.as_str()),
    };
    if let (Some(declared), Some(why)) = (config.runtime.max_batch, refused) {
        tracing::error!(
            model = %name, %version, declared, why,
            "max_batch is declared and refuted: every item is run alone"
        );
    }
    tracing::info!(
        model = %name, %version, max_batch = plan.max_batch, run_times = times.join(", "),
        sharing = refused.unwrap_or("proven"), remembered, "measured"
    );
    tracing::info!(
        model = %name, %version, provider = plan.compute.provider.as_str(), devices = ?plan.devices,
        nodes = plan.compute.share(), lanes = plan.lanes, threads_per_lane = plan.threads_per_lane,
        max_batch = plan.max_batch, lane_bytes = plan.lane_bytes, wide = plan.wide.as_str(),
        why_provider = plan.compute.why,
        why_lanes = plan.why_lanes, why_threads = plan.why_threads,
        why_max_batch = plan.why_max_batch, why_wide = plan.wide.why(), "planned"
    );
    let single = profile.single().unwrap_or_default();
    if single > config.budget.target {
        tracing::warn!(
            model = %name, %version,
            took_seconds = single.as_secs_f64(),
            target_seconds = config.budget.target.as_secs_f64(),
            "one item alone takes longer than the target"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remembered_run_time_is_held_against_the_golden_samples() {
        let ms = Duration::from_millis;
        let mut cached = Profile::default();
        cached.latency.record(1, 1, ms(30));
        for (run, holds) in [(19, false), (20, true), (30, true), (90, true), (92, false)] {
            assert_eq!(still_true(&cached, ms(run)), holds, "{run} ms");
        }
        // Of a run that short, handing it over is the greater part.
        cached.latency.record(1, 1, Duration::from_micros(20));
        assert!(still_true(&cached, Duration::from_micros(900)));
    }
}
