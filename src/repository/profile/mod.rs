//! What the runs of a version cost on this machine, and the plan that follows from it.
//!
//! [`Profile`] holds what was measured: L(batch, threads), the memory a lane takes, whether items
//! may share a run. `measure` takes it at load, in a session that is thrown away; `survey` takes all
//! of it for `linesight profile`; `cache` remembers it for the next start. [`plan()`] makes a
//! [`RunPlan`] of it.
//!
//! What is remembered saves timing and nothing else: that rows may share a run is proven anew at
//! every load, at the size that is really used, and the runs of the golden samples show whether the
//! machine is still as fast as it was.

mod bench;
mod cache;
mod latency;
mod measure;
mod plan;
mod proof;
mod rows;
mod survey;

use std::{collections::BTreeMap, time::Duration};

pub use bench::Timing;
pub(super) use cache::{Key, ProfileCache, library};
pub use latency::LatencyModel;
pub(super) use measure::{MeasureError, Measured, Subject, Terms, at_load};
pub(super) use plan::plan;
pub use plan::{Ground, PlanError, RunPlan, Wide, rows_per_second_of_all};
pub(super) use plan::{MOST_LANES_OF_DEVICE, lanes};
pub(super) use rows::{DISTINCT, made_up_rows, shapes};
pub use survey::{Cell, Sizes, Survey, SurveyError, Surveyor};

/// What was measured of one version on one machine.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Profile {
    /// How long runs take.
    pub latency: LatencyModel,
    /// Working memory of a lane after runs of up to so many rows, in bytes: the arena of its session,
    /// and the rows it gathers; on a device, the arena there. Empty where ONNX Runtime does not count.
    pub lane_bytes: BTreeMap<usize, u64>,
    /// Whether items may share a run, at every size in the table.
    pub sharing: Sharing,
    /// Why outputs on several threads were not those of one; `None`: they were, or nobody looked.
    pub wide_refused: Option<String>,
    /// On a device: a size that could not be run where smaller ones could, as there is no memory for
    /// it. None as large is tried.
    pub too_large: Option<usize>,
}

/// Whether items may share a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Sharing {
    /// Every size in the table was proven.
    #[default]
    Proven,
    /// They may not, and why.
    Refused(String),
}

impl Profile {
    /// A row alone on one thread.
    pub(super) fn single(&self) -> Option<Duration> {
        self.latency.at(1, 1)
    }

    /// Run times on one thread by rows, as the scheduler takes them.
    pub(super) fn run_times(&self) -> Vec<(usize, Duration)> {
        self.latency.measured(1).collect()
    }
}
