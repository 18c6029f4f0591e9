//! ONNX Runtime: the only module that names `ort`.

mod environment;
mod error;
mod library;

pub use environment::Environment;
pub use error::EnvironmentError;
pub use library::LibraryChoice;
