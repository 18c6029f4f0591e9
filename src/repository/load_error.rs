//! Why a version is not served.

use std::{io, time::Duration};

use super::{
    device::DeviceError,
    error::PackageError,
    profile::{MeasureError, PlanError},
};
use crate::{batch::ExecuteError, onnx::OnnxError};

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
    /// `model.toml` asks for what this machine or the model cannot give.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// What it should run on does not work.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The system gives no threads for the lanes of a device.
    #[error("the lanes of device {device} cannot be started; the log has the cause")]
    Lanes {
        /// The number of the GPU.
        device: u32,
        /// What the system says.
        #[source]
        error: io::Error,
    },
    /// It surely does not fit into what the process may take.
    #[error(
        "{what}, at least {} MiB, and {} MiB are left of the {} MiB that the process may take; raise \
         the container's memory limit", .needed.div_ceil(1 << 20), .left >> 20, .limit >> 20
    )]
    Memory {
        /// What the bytes are needed for.
        what: &'static str,
        /// Bytes it takes at least.
        needed: u64,
        /// Bytes that were left when it was read.
        left: u64,
        /// Bytes that the process may take.
        limit: u64,
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

impl From<MeasureError> for LoadError {
    fn from(error: MeasureError) -> Self {
        match error {
            MeasureError::Open(error) => Self::Onnx(error),
            MeasureError::Run(error) => Self::Trial(error),
        }
    }
}
