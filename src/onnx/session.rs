//! A graph optimised once for this CPU, from which every lane opens a session of its own.
//!
//! Plain sessions share nothing, prepacked weights or not. Sessions opened from one optimised
//! ORT-format buffer share that buffer: three lanes of an EfficientNet-B0 take 105 MB instead of
//! 183, each opens in 6-14 ms instead of 21, and the answers are the same to the bit. The buffer
//! fits this CPU, so it is made at load and never shipped. A GPU has no use for it: what fits a
//! processor's caches is not what a provider there looks for, so its sessions are opened from the model
//! as it came.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read as _},
    num::NonZeroUsize,
    path::Path,
    sync::Arc,
};

use ort::{
    session::{Session, builder::GraphOptimizationLevel, builder::SessionBuilder},
    value::ValueType,
};

use super::{
    environment::Environment,
    executor::{OrtExecutor, dtype_of},
    graph_error::OnnxError,
    nodes::NodeCount,
    provider::{Accelerator, Provider},
    shared_session::SharedSession,
};
use crate::{
    batch::{ExecuteError, Executor, Feed, Placement, Program, Site},
    types::{DType, NamedTensor},
};

/// How sessions compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SessionConfig {
    /// Whether a thread that waits for others inside a run burns its core meanwhile. Off: under a
    /// CPU quota it steals from the other lanes. With one thread a session, as lanes have, it
    /// changes nothing.
    pub spin: bool,
}

/// One input or output of a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name in the graph.
    pub name: Arc<str>,
    /// Its element type.
    pub dtype: DType,
    /// Its dimensions; `None` where the graph leaves them open.
    pub shape: Vec<Option<usize>>,
}

/// What goes in and what comes out of a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// In the order of the graph.
    pub inputs: Vec<TensorSpec>,
    /// In the order of the graph.
    pub outputs: Vec<TensorSpec>,
}

impl fmt::Display for TensorSpec {
    /// `image f32[?, 3, 224, 224]`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims: Vec<String> =
            self.shape.iter().map(|it| it.map_or("?".to_owned(), |it| it.to_string())).collect();
        write!(f, "{} {}[{}]", self.name, self.dtype, dims.join(", "))
    }
}

/// A graph, and how sessions of it are opened: optimised once and shared by all of them on cores, as it
/// came on devices.
#[derive(Debug)]
pub struct Graph {
    environment: Environment,
    config: SessionConfig,
    bytes: Arc<[u8]>,
    /// Whether `bytes` is the optimised ORT format, or still the model as it came.
    optimised: bool,
    /// `None`: it runs on cores.
    accelerator: Option<Accelerator>,
    signature: Signature,
}

impl Graph {
    /// Reads, checks and optimises a model from bytes already verified. External data is refused by
    /// ONNX Runtime, as there is no folder it could come from.
    ///
    /// # Errors
    /// When ONNX Runtime cannot make a session of it, or an input or output is no tensor.
    pub fn optimise(
        environment: &Environment,
        model: &Arc<[u8]>,
        config: SessionConfig,
    ) -> Result<Self, OnnxError> {
        // Without a place to write, every session optimises for itself: slower, larger, as right.
        let folder = tempfile::tempdir().map_err(|error| {
            tracing::warn!(%error, "no temporary folder: sessions will share nothing");
        });
        let path = folder.as_ref().ok().map(|it| it.path().join("optimised.ort"));
        let mut builder =
            builder(environment, config, NonZeroUsize::MIN, GraphOptimizationLevel::All)?;
        if let Some(path) = &path {
            builder = builder.with_optimized_model_path(path).map_err(|it| OnnxError::open(&it))?;
        }
        let session = builder.commit_from_memory(model).map_err(|it| OnnxError::open(&it))?;
        let signature = signature_of(&session)?;
        drop(session);
        let optimised = path.and_then(|it| read_shared(&it).ok()).filter(|it| !it.is_empty());
        Ok(Self {
            environment: environment.clone(),
            config,
            optimised: optimised.is_some(),
            bytes: optimised.unwrap_or_else(|| Arc::clone(model)),
            accelerator: None,
            signature,
        })
    }

    /// Opens a model on each of the devices for a moment, from bytes already verified, to see that it
    /// can be.
    ///
    /// # Errors
    /// The first device that it cannot be opened on, and why.
    pub fn on_devices(
        environment: &Environment,
        model: &Arc<[u8]>,
        config: SessionConfig,
        accelerator: Accelerator,
    ) -> Result<Self, (u32, OnnxError)> {
        let devices = accelerator.devices.clone();
        let mut graph = Self {
            environment: environment.clone(),
            config,
            bytes: Arc::clone(model),
            optimised: false,
            accelerator: Some(accelerator),
            signature: Signature { inputs: Vec::new(), outputs: Vec::new() },
        };
        for device in devices {
            let session = graph
                .builder(Site::Device(device), NonZeroUsize::MIN)
                .and_then(|mut it| it.commit_from_memory(model).map_err(|it| OnnxError::open(&it)))
                .map_err(|it| (device, it))?;
            graph.signature = signature_of(&session).map_err(|it| (device, it))?;
        }
        Ok(graph)
    }

    /// What goes in and out.
    #[must_use]
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// What its sessions were asked to compute with.
    #[must_use]
    pub fn provider(&self) -> Provider {
        self.accelerator.as_ref().map_or(Provider::Cpu, |it| it.provider)
    }

    /// The devices it runs on; none where it runs on cores.
    #[must_use]
    pub fn devices(&self) -> &[u32] {
        self.accelerator.as_ref().map_or(&[], |it| &it.devices)
    }

    /// Where its runs may happen.
    #[must_use]
    pub fn placement(&self) -> Placement {
        match &self.accelerator {
            None => Placement::Cores,
            Some(it) => Placement::Devices(it.devices.clone()),
        }
    }

    /// Where it is measured: the first of its devices, or a core.
    #[must_use]
    pub fn site(&self) -> Site {
        self.devices().first().map_or(Site::Core, |it| Site::Device(*it))
    }

    /// Opens a session that computes on the thread that calls it.
    ///
    /// # Errors
    /// When ONNX Runtime cannot; the model itself was proven readable before.
    pub fn open(&self) -> Result<OrtExecutor, OnnxError> {
        self.open_wide(NonZeroUsize::MIN)
    }

    /// Opens a session that computes on `n_threads`, the one that calls it among them.
    ///
    /// # Errors
    /// When ONNX Runtime cannot.
    pub fn open_wide(&self, n_threads: NonZeroUsize) -> Result<OrtExecutor, OnnxError> {
        self.start(self.builder(Site::Core, n_threads)?, Site::Core)
    }

    /// Opens a session that computes at a place: on the thread that calls it, or on a device that this
    /// thread waits for.
    ///
    /// # Errors
    /// When ONNX Runtime cannot.
    pub fn open_at(&self, site: Site) -> Result<OrtExecutor, OnnxError> {
        self.start(self.builder(site, NonZeroUsize::MIN)?, site)
    }

    /// Runs a row once where the graph is measured, and counts which provider ran how many nodes.
    ///
    /// # Errors
    /// When it cannot be run there, or its trace cannot be read.
    pub fn count_nodes(&self, row: &[NamedTensor]) -> Result<NodeCount, CountError> {
        let no_trace = |it: String| CountError::Onnx(OnnxError::Trace(it));
        let folder = tempfile::tempdir().map_err(|it| no_trace(it.to_string()))?;
        let site = self.site();
        let builder = self
            .builder(site, NonZeroUsize::MIN)?
            .with_profiling(folder.path().join("run"))
            .map_err(|it| OnnxError::open(&it))?;
        let mut executor = self.start(builder, site)?;
        let feeds: Vec<Feed<'_>> = row
            .iter()
            .map(|it| Feed { name: &it.name, shape: it.tensor.shape(), data: it.tensor.data() })
            .collect();
        let outputs: Vec<_> =
            self.signature.outputs.iter().map(|it| Arc::clone(&it.name)).collect();
        executor.execute(&feeds, &outputs)?;
        let file = executor.end_trace().map_err(|it| no_trace(it.message().to_owned()))?;
        let trace = fs::read(file).map_err(|it| no_trace(it.to_string()))?;
        NodeCount::of_trace(&trace).map_err(|it| no_trace(it.to_string()))
    }

    fn builder(&self, site: Site, n_threads: NonZeroUsize) -> Result<SessionBuilder, OnnxError> {
        let level = if self.optimised {
            GraphOptimizationLevel::Disable
        } else {
            GraphOptimizationLevel::All
        };
        let builder = builder(&self.environment, self.config, n_threads, level)?;
        match (site, &self.accelerator) {
            (Site::Core, _) => Ok(builder),
            (Site::Device(it), Some(accelerator)) => {
                accelerator.register(&self.environment, builder, it)
            }
            (Site::Device(_), None) => {
                Err(OnnxError::Provider { said: "the graph was opened for cores".to_owned() })
            }
        }
    }

    fn start(&self, mut builder: SessionBuilder, site: Site) -> Result<OrtExecutor, OnnxError> {
        let session = SharedSession::try_new(Arc::clone(&self.bytes), |bytes| {
            builder.commit_from_memory_directly(bytes).map_err(|it| OnnxError::open(&it))
        })?;
        OrtExecutor::new(session, site).map_err(|it| OnnxError::open(&it))
    }
}

/// Why nodes cannot be counted.
#[derive(Debug, thiserror::Error)]
pub enum CountError {
    /// The session cannot be opened, or its trace not be read.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// The row cannot be run.
    #[error(transparent)]
    Run(#[from] ExecuteError),
}

impl Program for Graph {
    fn open(&self, site: Site) -> Result<Box<dyn Executor>, ExecuteError> {
        match self.open_at(site) {
            Ok(executor) => Ok(Box::new(executor)),
            Err(error) => Err(ExecuteError(error.to_string())),
        }
    }
}

/// The bytes of a file, read to where they stay: memory for a second copy would cost a start more
/// than reading does.
fn read_shared(path: &Path) -> io::Result<Arc<[u8]>> {
    let mut file = File::open(path)?;
    let len = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    let mut bytes: Arc<[u8]> = std::iter::repeat_n(0, len).collect();
    let place = Arc::get_mut(&mut bytes).expect("nobody else holds what was made a line above");
    file.read_exact(place)?;
    Ok(bytes)
}

/// Thread counts are always explicit: unset, ONNX Runtime takes the cores of the host, not those
/// the cgroup grants. Memory patterns are off, as the batch varies.
fn builder(
    environment: &Environment,
    config: SessionConfig,
    n_threads: NonZeroUsize,
    level: GraphOptimizationLevel,
) -> Result<SessionBuilder, OnnxError> {
    Session::builder(environment.runtime())
        .and_then(|it| Ok(it.with_intra_threads(n_threads.get())?))
        .and_then(|it| Ok(it.with_inter_threads(1)?))
        .and_then(|it| Ok(it.with_parallel_execution(false)?))
        .and_then(|it| Ok(it.with_intra_op_spinning(config.spin)?))
        .and_then(|it| Ok(it.with_memory_pattern(false)?))
        .and_then(|it| Ok(it.with_optimization_level(level)?))
        .map_err(|it| OnnxError::open(&it))
}

fn signature_of(session: &Session) -> Result<Signature, OnnxError> {
    let spec = |name: &str, value: &ValueType| match value {
        ValueType::Tensor { ty, shape, .. } => Ok(TensorSpec {
            name: Arc::from(name),
            dtype: dtype_of(*ty).ok_or_else(|| OnnxError::unsupported(name, ty.to_string()))?,
            shape: shape.iter().map(|dim| usize::try_from(*dim).ok()).collect(),
        }),
        ValueType::Sequence(_) | ValueType::Map { .. } | ValueType::Optional(_) => {
            Err(OnnxError::unsupported(name, value.to_string()))
        }
    };
    let inputs = session.inputs().iter().map(|it| spec(it.name(), it.dtype()));
    let outputs = session.outputs().iter().map(|it| spec(it.name(), it.dtype()));
    Ok(Signature {
        inputs: inputs.collect::<Result<_, _>>()?,
        outputs: outputs.collect::<Result<_, _>>()?,
    })
}
