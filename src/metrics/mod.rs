//! Everything Linesight counts, on one registry, and its rendering for Prometheus.
//!
//! `prometheus` is named nowhere else: the other modules are handed small structs with verbs
//! ([`VersionMetrics::answered`]) or plain counters. Labels come from fixed small sets only, so that
//! nothing a client sends can grow the number of series. docs/metrics.md has a row for each metric;
//! a test holds the two equal.

mod buckets;
mod labels;
mod model;
mod plan;
mod process;

use std::sync::Arc;

use prometheus::{Encoder as _, Registry, TextEncoder};

pub use labels::{Closed, Outcome, Stage, Tier};
pub use model::{ModelMetrics, VersionMetrics};
pub use plan::Planned;
pub use process::ProcessMetrics;

use crate::types::{Budget, ModelName};

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The catalogue and its registry.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    families: model::Families,
    /// What is not about one model.
    pub process: ProcessMetrics,
}

impl Metrics {
    /// A fresh, empty catalogue.
    ///
    /// # Panics
    /// Never: registering fails only for a malformed or repeated name, and the names are constants
    /// of this module which every test run registers.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let registry = Registry::new();
        let process = ProcessMetrics::register(&registry);
        let families = model::Families::register(&registry);
        Arc::new(Self { registry, families, process })
    }

    /// The metrics of one model; registers its latency histogram, whose edges are its budget.
    #[must_use]
    pub fn model(&self, name: &ModelName, budget: Budget) -> Arc<ModelMetrics> {
        Arc::new(ModelMetrics::new(&self.registry, &self.families, name, budget))
    }

    /// The text exposition format, as a scrape reads it.
    #[must_use]
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(32 * 1024);
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            // Unreachable with a valid catalogue; half a page would be worse than none.
            tracing::error!(%error, "metrics could not be rendered");
            text.clear();
        }
        text
    }
}
