//! Linesight serves ONNX models and answers every item inside a latency budget.

pub mod batch;
pub mod config;
pub mod decide;
pub mod host;
pub mod imaging;
pub mod metrics;
pub mod onnx;
pub mod predict;
pub mod repository;
pub mod shutdown;
pub mod telemetry;
pub mod types;
