//! A version read, opened and fitted to its package: what loading and measuring begin with.

use std::{num::NonZeroUsize, sync::Arc, thread};

use super::{
    device::{Compute, Placed, Source, foreseen},
    golden_check::{self, PixelCheck},
    load::LoadConfig,
    load_error::LoadError,
    manifest::{Manifest, Task},
    model_config::Runtime,
    package::{SealedPackage, read_version},
    profile::{DISTINCT, Ground, Key, Subject, lanes, library, made_up_rows, shapes},
    scan::FoundVersion,
};
use crate::{
    batch::Site,
    imaging::{Pixels, Preprocess},
    onnx::{Environment, Graph, Signature, TensorSpec},
    types::{DType, Instant, Labels, ModelName, NamedTensor},
};

/// Threads that compare pixels, beyond which more do not shorten a start.
const MAX_CHECKERS: usize = 8;
/// An open dimension of made-up rows that is room enough for pooling: the side of a usual picture.
const LARGER: usize = 224;

/// A version whose bytes are verified, whose graph is optimised and fits what the package says.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) package: SealedPackage,
    pub(super) manifest: Arc<Manifest>,
    pub(super) graph: Arc<Graph>,
    pub(super) compute: Compute,
    /// Single rows to measure with: the golden samples' own where there are some.
    pub(super) rows: Vec<Vec<NamedTensor>>,
    /// Golden samples whose pixels are not those of the reference, and how.
    pub(super) complaints: Vec<String>,
}

impl Prepared {
    /// Reads a version and opens it where `asked` says. The pixels of its golden samples are compared
    /// meanwhile, on what cores there are beside the one that opens the graph.
    ///
    /// # Errors
    /// Why it must not serve.
    pub(super) fn new(
        environment: &Environment,
        config: &LoadConfig,
        name: &ModelName,
        found: &FoundVersion,
        (asked, cores): (&Runtime, NonZeroUsize),
    ) -> Result<Self, LoadError> {
        // Asked first: it takes no opening to refuse it.
        if let Some(devices) = foreseen(environment, asked) {
            lanes(Ground { cores, devices }, asked)?;
        }
        let began = Instant::now();
        let package = read_version(name, found, &config.files)?;
        let read = began.elapsed();
        for note in &package.notes {
            tracing::info!(model = %name, version = %package.version, %note, "noted");
        }
        let manifest = package.manifest.clone().unwrap_or_default();
        let check = PixelCheck::new(&package.golden, &manifest, &config.images);
        let sessions = config.sessions;
        let source = Source { environment, model: &package.model, sessions };
        let placed = thread::scope(|scope| {
            for _ in 1..cores.get().min(MAX_CHECKERS) {
                let thread = thread::Builder::new().name("golden-check".to_owned());
                let _does_without_help = thread.spawn_scoped(scope, || check.work());
            }
            let placed = source.open(asked);
            check.work();
            placed
        })?;
        check_fit(&manifest, placed.graph.signature()).map_err(LoadError::Mismatch)?;
        let (pixels, complaints) = check.finish();
        let signature = placed.graph.signature();
        let rows = rows(&pixels, &manifest, signature);
        let larger = match placed.graph.site() {
            Site::Core => None,
            Site::Device(_) => made_up_rows(signature, LARGER),
        };
        let either = [Some(&rows), larger.as_ref()].into_iter().flatten();
        let either: Vec<_> = either.filter_map(|it| it.first().cloned()).collect();
        let Placed { graph, compute } = source.prove(placed, asked, &either)?;
        tracing::debug!(
            model = %name, version = %package.version, read_seconds = read.as_secs_f64(),
            prepared_seconds = began.elapsed().as_secs_f64(), "prepared"
        );
        lanes(Ground { cores, devices: graph.devices() }, asked)?;
        let graph = Arc::new(graph);
        Ok(Self { package, manifest, graph, compute, rows, complaints })
    }
}

impl Prepared {
    /// What is measured.
    pub(super) fn subject<'a>(&'a self, rows: &'a [Vec<NamedTensor>]) -> Subject<'a> {
        Subject { graph: &self.graph, manifest: &self.manifest, rows }
    }

    /// Where its runs happen.
    pub(super) fn ground(&self, cores: NonZeroUsize) -> Ground<'_> {
        Ground { cores, devices: self.graph.devices() }
    }

    /// Rows to measure with where the others cannot be run: pooling needs room, a picture has a
    /// size.
    pub(super) fn larger_rows(&self) -> Option<Vec<Vec<NamedTensor>>> {
        made_up_rows(self.graph.signature(), LARGER)
    }

    /// What a profile of it holds for. Waits for the digest of the library, if that is still being
    /// taken.
    pub(super) fn profile_key(
        &self,
        environment: &Environment,
        config: &LoadConfig,
        cores: NonZeroUsize,
    ) -> Key {
        Key {
            model: self.package.digest.to_string(),
            rows: shapes(&self.rows),
            cpu: config.cpu.clone(),
            device: self.graph.devices().first().map(|it| {
                let gpu = usize::try_from(*it).ok().and_then(|it| config.gpus.get(it));
                format!("{}, {}", self.graph.provider().as_str(), gpu.map_or("unknown", |it| it))
            }),
            cores,
            onnxruntime: library(environment.version(), environment.library_digest()),
            spin: config.sessions.spin,
        }
    }
}

fn rows(pixels: &[Pixels], manifest: &Manifest, signature: &Signature) -> Vec<Vec<NamedTensor>> {
    // Small: a made-up sequence or picture need not be large to be run.
    let made_up = || {
        let filled = filled_in(signature, manifest.preprocess.as_ref());
        made_up_rows(&filled, 1).unwrap_or_default()
    };
    let (Some(preprocess), [input], false) =
        (&manifest.preprocess, &signature.inputs[..], pixels.is_empty())
    else {
        return made_up();
    };
    let row = |it| Some(vec![golden_check::row(it, preprocess, &input.name)?]);
    let mut rows: Vec<_> = pixels.iter().filter_map(row).collect();
    // Copies of one row prove nothing: a graph that takes the mean of its batch would pass.
    if rows.len() < DISTINCT {
        rows.extend(made_up());
    }
    rows
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

fn fit_scores(scores: &TensorSpec, task: Task, labels: &Labels) -> Result<(), String> {
    let given = scores.shape.last().copied().flatten();
    match (task, given) {
        (Task::Tensors, _) | (_, None) => Ok(()),
        (_, Some(given)) if given == labels.len() && scores.dtype == DType::F32 => Ok(()),
        (_, Some(_)) => {
            Err(format!("there are {} labels, output {scores} is not that many f32", labels.len()))
        }
    }
}
