//! ONNX Runtime: the only module that names `ort`.
//!
//! [`Environment`] finds and loads the library, once per process. [`Graph`] is a model optimised for
//! this CPU; each lane opens a session of its own from it, as ONNX Runtime's `Run` is not safe to
//! share, with one thread: the scheduler hands out cores, ONNX Runtime does not. Only what measures
//! opens sessions of several threads. On a GPU ([`Accelerator`]) each lane opens the model as it came, and
//! [`NodeCount`] tells whether anything runs there.

mod arena;
mod environment;
mod error;
mod executor;
mod graph_error;
mod library;
mod nodes;
mod provider;
mod session;
mod shared_session;

pub use environment::Environment;
pub use error::EnvironmentError;
pub use executor::OrtExecutor;
pub use graph_error::OnnxError;
pub use library::LibraryChoice;
pub use nodes::NodeCount;
pub use provider::{Accelerator, Provider};
pub use session::{CountError, Graph, SessionConfig, Signature, TensorSpec};
