//! Linesight serves ONNX models and answers every item inside a latency budget.

pub mod imaging;
pub mod types;
