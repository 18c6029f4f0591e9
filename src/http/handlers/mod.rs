//! One file per resource. A handler is short: read, ask, write.

mod health;
mod metrics;
mod models;
mod openapi;
mod predict;
mod unknown;

pub(super) use health::{livez, readyz};
pub(super) use metrics::metrics;
pub(super) use models::{list, model, version};
pub use openapi::OPENAPI;
pub(super) use openapi::openapi;
pub(super) use predict::{inspect, predict};
pub(super) use unknown::{no_method, no_route};
