//! Linesight serves ONNX models and answers every item inside a latency budget.

pub mod config;
pub mod host;
pub mod onnx;
pub mod shutdown;
pub mod telemetry;
pub mod types;
