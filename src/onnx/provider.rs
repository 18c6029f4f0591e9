//! What computes runs: ONNX Runtime's execution providers, and how sessions are given to those of GPUs.

use std::path::Path;

use ort::{
    ep::{
        ArenaExtendStrategy, CUDA, ExecutionProvider as _, ExecutionProviderDispatch, TensorRT,
        cuda::{CUDA_DYLIBS, ConvAlgorithmSearch},
    },
    session::builder::SessionBuilder,
};

use super::{environment::Environment, graph_error::OnnxError};

/// What computes the runs of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Provider {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU, by CUDA.
    Cuda,
    /// An NVIDIA GPU, by TensorRT, and by CUDA what TensorRT lacks.
    TensorRt,
}

impl Provider {
    /// The word of settings, metrics and answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
        }
    }

    /// How people call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "CPU",
            Self::Cuda => "CUDA",
            Self::TensorRt => "TensorRT",
        }
    }

    /// ONNX Runtime's name for it, as its traces say which provider ran a node.
    pub(super) fn onnx_name(self) -> &'static str {
        match self {
            Self::Cpu => "CPUExecutionProvider",
            Self::Cuda => CUDA::NAME,
            Self::TensorRt => TensorRT::NAME,
        }
    }

    /// Whether the library that is loaded was built with it. Whether it can work here is another
    /// question: it needs a driver, a device and libraries of its own.
    #[must_use]
    pub fn is_built_in(self, _environment: &Environment) -> bool {
        // An error is of a library too broken to run anything; opening a session will say so.
        match self {
            Self::Cpu => true,
            Self::Cuda => CUDA::is_available().unwrap_or(false),
            Self::TensorRt => TensorRT::is_available().unwrap_or(false),
        }
    }
}

/// How sessions on devices are opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accelerator {
    /// What computes; not [`Provider::Cpu`].
    pub provider: Provider,
    /// Numbers of the devices; not empty.
    pub devices: Vec<u32>,
    /// Bytes the arena of one session may take on its device; `None`: what there is.
    pub memory: Option<u64>,
}

impl Accelerator {
    /// Gives the session of a builder to a device. A provider that cannot work is an error here: left to
    /// itself, `ort` would go on without it, and the processor would serve unnoticed.
    pub(super) fn register(
        &self,
        environment: &Environment,
        builder: SessionBuilder,
        device: u32,
    ) -> Result<SessionBuilder, OnnxError> {
        load_libraries_beside(environment.library_path());
        let device = i32::try_from(device).unwrap_or(i32::MAX);
        let cuda = self.cuda(device);
        let providers = match self.provider {
            Provider::Cpu => Vec::new(),
            Provider::Cuda => vec![cuda],
            Provider::TensorRt => {
                let tensorrt = TensorRT::default().with_device_id(device).build();
                vec![tensorrt.error_on_failure(), cuda]
            }
        };
        builder.with_execution_providers(providers).map_err(|it| OnnxError::provider(&it))
    }

    /// With the precision and the algorithms that the processor's answers can be compared with: no
    /// TensorFloat-32, whose products have 10 bits, and no exhaustive search, which may pick another
    /// algorithm at every start. The arena takes what is asked for and no power of two beyond it, as
    /// several sessions share a device.
    fn cuda(&self, device: i32) -> ExecutionProviderDispatch {
        let mut cuda = CUDA::default()
            .with_device_id(device)
            .with_tf32(false)
            .with_conv_algorithm_search(ConvAlgorithmSearch::Heuristic)
            .with_arena_extend_strategy(ArenaExtendStrategy::SameAsRequested);
        if let Some(memory) = self.memory {
            cuda = cuda.with_memory_limit(usize::try_from(memory).unwrap_or(usize::MAX));
        }
        cuda.build().error_on_failure()
    }
}

/// Opened by name when the first convolution is made.
const CUDNN: &str = "libcudnn.so.9";

/// Loads NVIDIA's libraries that lie beside ONNX Runtime's, so that its providers find them: these are
/// linked without a path of their own, and look only where the system's loader does. What does not lie
/// there, or cannot be loaded, is left to the loader, and to the provider's own complaint.
fn load_libraries_beside(library: &Path) {
    let Some(folder) = library.parent() else { return };
    for name in CUDA_DYLIBS.iter().chain([&CUDNN]) {
        let path = folder.join(name);
        if path.is_file()
            && let Err(error) = ort::util::preload_dylib(&path)
        {
            tracing::debug!(file = %path.display(), %error, "cannot be loaded");
        }
    }
}
