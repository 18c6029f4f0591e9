//! The traits a model runtime implements; `onnx` does, and so do the fakes of the tests.

use std::sync::Arc;

use super::{interrupt::Interrupter, site::Site};
use crate::types::{NamedTensor, TensorData};

/// One input of a run, borrowed from the lane's own buffers.
#[derive(Debug, Clone, Copy)]
pub struct Feed<'a> {
    /// The input's name in the graph.
    pub name: &'a str,
    /// Its dimensions; axis 0 is the batch.
    pub shape: &'a [usize],
    /// As many elements as the dimensions say.
    pub data: &'a TensorData,
}

/// An open model. One caller at a time, as ONNX Runtime asks for: hence `&mut self`.
pub trait Executor {
    /// Runs once and answers with the named outputs, in that order.
    ///
    /// # Errors
    /// In words for the log; a client reads only that inference failed.
    fn execute(
        &mut self,
        inputs: &[Feed<'_>],
        outputs: &[Arc<str>],
    ) -> Result<Vec<NamedTensor>, ExecuteError>;

    /// What ends a run of this executor from another thread; `None` if nothing does.
    fn interrupter(&self) -> Option<Arc<dyn Interrupter>> {
        None
    }
}

/// Something lanes can open; each opens its own, on first use.
pub trait Program: Send + Sync + std::fmt::Debug {
    /// Opens the model for one lane, to run where that lane does.
    ///
    /// # Errors
    /// In words for the log.
    fn open(&self, site: Site) -> Result<Box<dyn Executor>, ExecuteError>;
}

/// The runtime refused, in its own words; for the log only.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ExecuteError(pub String);
