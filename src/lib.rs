//! Linesight serves ONNX models and answers every item inside a latency budget.
//!
//! Bands, arrows only downwards: vocabulary, pure features, engines, service, edges, composition.
//! `docs/architecture.md` is the map; `predict` shows the whole path of a request.

// Vocabulary.
pub mod metrics;
pub mod types;
// Pure features: values in, values out.
pub mod decide;
pub mod imaging;
// Engines: each owns threads or files.
pub mod batch;
pub mod onnx;
pub mod repository;
// Service: the one place that knows the whole path of a request.
pub mod predict;
// Edges: each speaks a protocol.
pub mod admin;
pub mod http;
// Composition.
pub mod app;
pub mod cli;
pub mod config;
pub mod host;
pub mod shutdown;
pub mod telemetry;
