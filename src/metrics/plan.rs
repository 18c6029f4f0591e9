//! Metrics about how versions are run.

use prometheus::{IntGaugeVec, Registry};

use super::process::{add, opts};

/// How a version is run.
#[derive(Debug, Clone, Copy)]
pub struct Planned {
    /// Runs at once.
    pub lanes: usize,
    /// Threads of each.
    pub threads_per_lane: usize,
    /// Rows a run may have.
    pub max_batch: usize,
    /// Working memory of a lane, where it is known.
    pub lane_bytes: Option<u64>,
}

/// A gauge for each of its figures, as each has a unit of its own.
#[derive(Debug, Clone)]
pub(super) struct PlanGauges {
    lanes: IntGaugeVec,
    lane_threads: IntGaugeVec,
    max_batch: IntGaugeVec,
    lane_memory: IntGaugeVec,
}

impl PlanGauges {
    pub(super) fn register(registry: &Registry) -> Self {
        let gauge =
            |name, help| add(registry, IntGaugeVec::new(opts(name, help), &["model", "version"]));
        Self {
            lanes: gauge("plan_lanes", "Runs of a version at once."),
            lane_threads: gauge("plan_lane_threads", "Threads of each lane of a version."),
            max_batch: gauge("plan_max_batch", "Rows that may share a run."),
            lane_memory: gauge(
                "plan_lane_memory_bytes",
                "Working memory of a lane with runs as large as allowed, as measured.",
            ),
        }
    }

    pub(super) fn set(&self, model: &str, version: &str, plan: Planned) {
        let set = |gauge: &IntGaugeVec, value: u64| {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            gauge.with_label_values(&[model, version]).set(value);
        };
        set(&self.lanes, plan.lanes as u64);
        set(&self.lane_threads, plan.threads_per_lane as u64);
        set(&self.max_batch, plan.max_batch as u64);
        if let Some(bytes) = plan.lane_bytes {
            set(&self.lane_memory, bytes);
        }
    }
}
