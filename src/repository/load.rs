//! One version from its folder to its queue: read, optimise, measure, prove, register.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use super::{
    batch_proof::{DISTINCT, Measured, Terms, made_up_rows, measure},
    catalog::ServingModel,
    error::PackageError,
    files::Limits,
    golden_check,
    manifest::{Manifest, Task},
    model_config::ModelConfig,
    package::{SealedPackage, read_version},
    scan::FoundVersion,
};
use crate::{
    batch::{Batcher, Batching, ExecuteError, ImageInput, ModelHandle, ModelSpec},
    imaging::{self, Preprocess},
    metrics::ModelMetrics,
    onnx::{Environment, Graph, OnnxError, SessionConfig, Signature},
    types::{DType, Digest, Evidence, Labels, ModelName, NamedTensor},
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
    /// The effective settings as `--print-config` prints them: with model.toml they make the digest
    /// of what was in force.
    pub settings: String,
}

/// Why a version is not served. The words are for whoever reads `GET /v1/models/{model}`: they name
/// files of the package, never of the machine.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Its package is missing, damaged or wrong.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// ONNX Runtime will not have it.
    #[error("ONNX Runtime cannot open model.onnx; the log has its words")]
    Onnx(#[source] OnnxError),
    /// ONNX Runtime opened it and cannot run it.
    #[error("a trial run failed; the log has the cause")]
    Trial(#[source] ExecuteError),
    /// The package and the graph contradict each other.
    #[error("package.toml does not fit model.onnx: {0}")]
    Mismatch(String),
    /// It answers its own golden samples wrongly on this machine.
    #[error("{} of {of} golden samples failed, the first: {first}", .failed)]
    Golden {
        /// Failed samples.
        failed: usize,
        /// Samples there are.
        of: usize,
        /// What is wrong with the first that failed.
        first: String,
    },
    /// A bug: the log has the panic.
    #[error("loading it panicked; the log has more")]
    Panicked,
    /// One item alone takes longer than the limit.
    #[error(
        "one item takes {} ms, longer than the limit of {} ms; raise [budget] limit in model.toml",
        took.as_millis(), limit.as_millis()
    )]
    TooSlow {
        /// Decoding apart.
        took: Duration,
        /// The model's limit.
        limit: Duration,
    },
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
        let package = read_version(wanted.name, wanted.found, &self.config.files)?;
        for note in &package.notes {
            tracing::info!(model = %wanted.name, version = %package.version, %note, "noted");
        }
        let graph = Graph::optimise(self.environment, &package.model, self.config.sessions)
            .map_err(LoadError::Onnx)?;
        let manifest = package.manifest.clone().unwrap_or_default();
        check_fit(&manifest, graph.signature()).map_err(LoadError::Mismatch)?;

        let rows = self.rows(&package, &manifest, graph.signature(), wanted.metrics)?;
        let Measured { batching, refused } =
            self.measure(&graph, &manifest, &rows, wanted.config)?;
        let single = batching.run_times.first().map_or(Duration::ZERO, |(_, took)| *took);
        let limit = wanted.config.budget.limit;
        if single > limit {
            return Err(LoadError::TooSlow { took: single, limit });
        }
        log_batching(wanted, &batching, refused.as_deref());

        let signature = graph.signature().clone();
        let metrics = Arc::new(wanted.metrics.version(package.version, &manifest.labels));
        let lanes = self.batcher.register(ModelSpec {
            label: format!("{} version {}", wanted.name, package.version),
            image: self.image_input(&manifest, &signature),
            program: Arc::new(graph),
            // Golden samples are answered one row a run; sharing begins when they have passed.
            batching: Batching::single(single),
            terms: wanted.config.terms(),
            max_lanes: wanted.config.runtime.lanes.map(NonZeroUsize::get),
            metrics: Some(Arc::clone(&metrics)),
        });
        self.prove(&package, &manifest, &lanes, wanted.metrics)?;
        lanes.set_batching(batching);

        let evidence = if package.golden.is_empty() { Evidence::None } else { Evidence::Golden };
        if manifest.decision.is_some() && evidence == Evidence::None {
            tracing::warn!(
                model = %wanted.name, version = %package.version,
                "has a decision policy but no golden samples: it serves without verdicts"
            );
        }
        wanted.metrics.set_info(
            package.version,
            &package.digest.to_string(),
            "cpu",
            evidence.as_str(),
        );
        Ok(ServingModel {
            name: wanted.name.clone(),
            version: package.version,
            digest: package.digest,
            config_digest: self.config_digest(wanted.config),
            evidence,
            budget: wanted.config.budget,
            manifest,
            card: package.card,
            signature,
            lanes,
            metrics,
            model_metrics: Arc::clone(wanted.metrics),
        })
    }

    /// Single rows to measure with: the golden samples' own where there are some.
    fn rows(
        &self,
        package: &SealedPackage,
        manifest: &Manifest,
        signature: &Signature,
        metrics: &ModelMetrics,
    ) -> Result<Vec<Vec<NamedTensor>>, LoadError> {
        if let (Some(preprocess), [input], false) =
            (&manifest.preprocess, &signature.inputs[..], package.golden.is_empty())
        {
            let (pixels, complaints) =
                golden_check::pixels(&package.golden, manifest, preprocess, &self.config.images);
            golden_result(package, complaints, metrics)?;
            let row = |it| Some(vec![golden_check::row(it, preprocess, &input.name)?]);
            let mut rows: Vec<_> = pixels.iter().take(DISTINCT).filter_map(row).collect();
            // Copies of one row prove nothing: a graph that takes the mean of its batch would pass.
            if rows.len() < DISTINCT {
                let filled = filled_in(signature, manifest.preprocess.as_ref());
                rows.extend(made_up_rows(&filled, 1).unwrap_or_default());
            }
            return Ok(rows);
        }
        let filled = filled_in(signature, manifest.preprocess.as_ref());
        // Small first: a made-up sequence or picture need not be large to be run.
        Ok(made_up_rows(&filled, 1).unwrap_or_default())
    }

    fn measure(
        &self,
        graph: &Graph,
        manifest: &Manifest,
        rows: &[Vec<NamedTensor>],
        config: &ModelConfig,
    ) -> Result<Measured, LoadError> {
        let mut session = graph.open().map_err(LoadError::Onnx)?;
        let terms = Terms {
            signature: graph.signature(),
            manifest,
            declared: config.runtime.max_batch,
            limit: config.budget.limit,
        };
        let first = measure(&mut session, terms, rows);
        // Some graphs cannot be run with dimensions of 1: pooling needs room, a picture has a size.
        let retried = first.or_else(|error| {
            let larger = made_up_rows(graph.signature(), 224).ok_or(error)?;
            measure(&mut session, terms, &larger)
        });
        retried.map_err(LoadError::Trial)
    }

    fn image_input(&self, manifest: &Manifest, signature: &Signature) -> Option<ImageInput> {
        let preprocess = manifest.preprocess.clone()?;
        let input = Arc::clone(&signature.inputs.first()?.name);
        Some(ImageInput { input, preprocess, limits: self.config.images })
    }

    /// Puts the golden samples through the lanes.
    fn prove(
        &self,
        package: &SealedPackage,
        manifest: &Manifest,
        lanes: &ModelHandle,
        metrics: &ModelMetrics,
    ) -> Result<(), LoadError> {
        let asked = golden_check::answers(&package.golden, manifest, lanes, &self.config.images);
        golden_result(package, self.runtime.block_on(asked), metrics)
    }

    /// What `(linesight serve --print-config; cat model.toml) | sha256sum` prints.
    fn config_digest(&self, config: &ModelConfig) -> Digest {
        Digest::of(format!("{}{}", self.config.settings, config.text).as_bytes())
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

fn log_batching(wanted: Wanted<'_>, batching: &Batching, refused: Option<&str>) {
    let times: Vec<String> = batching
        .run_times
        .iter()
        .map(|(rows, took)| format!("{rows}: {:.2} ms", took.as_secs_f64() * 1e3))
        .collect();
    let runtime = &wanted.config.runtime;
    if let (Some(declared), Some(why)) = (runtime.max_batch, refused) {
        tracing::error!(
            model = %wanted.name, version = %wanted.found.version, declared, why,
            "max_batch is declared and refuted: every item is run alone"
        );
    }
    if runtime.memory.is_some() || runtime.weight.get() != 1 {
        tracing::warn!(
            model = %wanted.name,
            "[runtime] memory and weight have no effect in this version of Linesight"
        );
    }
    tracing::info!(
        model = %wanted.name, version = %wanted.found.version,
        max_batch = batching.max_batch, run_times = times.join(", "),
        sharing = refused.unwrap_or("proven"), "measured"
    );
    let single = batching.run_times.first().map_or(Duration::ZERO, |(_, took)| *took);
    if single > wanted.config.budget.target {
        tracing::warn!(
            model = %wanted.name, version = %wanted.found.version,
            took_seconds = single.as_secs_f64(),
            target_seconds = wanted.config.budget.target.as_secs_f64(),
            "one item alone takes longer than the target"
        );
    }
}

/// The signature with the dimensions that preprocessing settles.
fn filled_in(signature: &Signature, preprocess: Option<&Preprocess>) -> Signature {
    let mut filled = signature.clone();
    if let (Some(preprocess), [input]) = (preprocess, &mut filled.inputs[..])
        && input.shape.len() == 4
    {
        for (dim, size) in input.shape.iter_mut().skip(1).zip(preprocess.output_shape()) {
            *dim = Some(dim.unwrap_or(size));
        }
    }
    filled
}

/// Whether what the package says can be true of the graph.
fn check_fit(manifest: &Manifest, signature: &Signature) -> Result<(), String> {
    if let Some(preprocess) = &manifest.preprocess {
        fit_input(preprocess, signature)?;
    }
    let Some(outputs) = &manifest.outputs else { return Ok(()) };
    for name in [Some(&outputs.scores), outputs.cam.as_ref(), outputs.embedding.as_ref()] {
        let Some(name) = name else { continue };
        if !signature.outputs.iter().any(|it| it.name == *name) {
            let known: Vec<String> = signature.outputs.iter().map(ToString::to_string).collect();
            return Err(format!("there is no output {name:?}; there are {}", known.join("; ")));
        }
    }
    let scores = signature.outputs.iter().find(|it| it.name == outputs.scores);
    scores.map_or(Ok(()), |it| fit_scores(it, manifest.task, &manifest.labels))
}

fn fit_input(preprocess: &Preprocess, signature: &Signature) -> Result<(), String> {
    let [input] = &signature.inputs[..] else {
        let n = signature.inputs.len();
        return Err(format!("[preprocess] makes one input, the graph has {n}"));
    };
    if input.dtype != DType::F32 {
        return Err(format!("[preprocess] makes f32, input {input} takes another type"));
    }
    let made = preprocess.output_shape();
    let agrees = |(dim, made): (&Option<usize>, usize)| dim.is_none_or(|dim| dim == made);
    let fits = input.shape.len() == 4 && input.shape.iter().skip(1).zip(made).all(agrees);
    let single = input.shape.first().is_some_and(|it| it.is_none_or(|rows| rows == 1));
    if !fits || !single {
        return Err(format!(
            "[preprocess] makes [1, {}, {}, {}], input {input} takes another shape",
            made[0], made[1], made[2]
        ));
    }
    Ok(())
}

fn fit_scores(scores: &crate::onnx::TensorSpec, task: Task, labels: &Labels) -> Result<(), String> {
    let given = scores.shape.last().copied().flatten();
    match (task, given) {
        (Task::Tensors, _) | (_, None) => Ok(()),
        (_, Some(given)) if given == labels.len() && scores.dtype == DType::F32 => Ok(()),
        (_, Some(_)) => {
            Err(format!("there are {} labels, output {scores} is not that many f32", labels.len()))
        }
    }
}
