//! Metrics about models, versions and their answers.

use std::time::Duration;

use prometheus::{
    Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter,
    IntCounterVec, IntGauge, IntGaugeVec, Registry,
};

use super::{
    buckets,
    labels::{Closed, Outcome, Stage, Tier},
    plan::{PlanGauges, Planned},
    process::{add, opts},
};
use crate::types::{Budget, Labels, ModelName, ModelVersion, Probabilities, Verdict};

/// The families that all models share; each is a handle, so a clone is a reference.
#[derive(Debug, Clone)]
pub(super) struct Families {
    stage: HistogramVec,
    items: IntCounterVec,
    budget_seconds: GaugeVec,
    budget_items: IntCounterVec,
    shed: IntCounterVec,
    batch_size: HistogramVec,
    batches: IntCounterVec,
    queue_depth: IntGaugeVec,
    queue_oldest: GaugeVec,
    predicted_wait: GaugeVec,
    demand: CounterVec,
    predictions: IntCounterVec,
    score: HistogramVec,
    verdicts: IntCounterVec,
    model_info: IntGaugeVec,
    model_state: IntGaugeVec,
    load_duration: GaugeVec,
    plan: PlanGauges,
    golden_failures: IntCounterVec,
}

impl Families {
    #[expect(clippy::too_many_lines, reason = "a table: name, help and labels of each family")]
    pub(super) fn register(registry: &Registry) -> Self {
        let counter = |name, help, labels: &[&str]| {
            add(registry, IntCounterVec::new(opts(name, help), labels))
        };
        let gauge =
            |name, help, labels: &[&str]| add(registry, GaugeVec::new(opts(name, help), labels));
        let int_gauge =
            |name, help, labels: &[&str]| add(registry, IntGaugeVec::new(opts(name, help), labels));
        let histogram = |name, help, edges: &[f64], labels: &[&str]| {
            let opts = HistogramOpts::from(opts(name, help)).buckets(edges.to_vec());
            add(registry, HistogramVec::new(opts, labels))
        };
        Self {
            stage: histogram(
                "stage_duration_seconds",
                "Time items spent in each stage of an answer.",
                buckets::STAGE,
                &["model", "version", "stage"],
            ),
            items: counter(
                "items_total",
                "Items by what became of them.",
                &["model", "version", "outcome"],
            ),
            budget_seconds: gauge("budget_seconds", "The model's budget.", &["model", "tier"]),
            budget_items: counter(
                "budget_items_total",
                "Items that count against the budget, once per tier.",
                &["model", "version", "tier", "within"],
            ),
            shed: counter("shed_total", "Items refused for load.", &["model", "reason"]),
            batch_size: histogram(
                "batch_size",
                "Rows per run.",
                buckets::BATCH,
                &["model", "version"],
            ),
            batches: counter(
                "batches_total",
                "Runs by why they had no more rows.",
                &["model", "version", "reason"],
            ),
            predicted_wait: gauge(
                "predicted_wait_seconds",
                "Predicted wait of an item that would arrive now.",
                &["model", "version"],
            ),
            demand: add(
                registry,
                CounterVec::new(
                    opts(
                        "demand_seconds_total",
                        "Predicted core-seconds of all items that arrived, refused ones included.",
                    ),
                    &["model", "version"],
                ),
            ),
            queue_depth: int_gauge("queue_depth", "Items waiting.", &["model", "version"]),
            queue_oldest: gauge(
                "queue_oldest_age_seconds",
                "Age of the item that has waited longest.",
                &["model", "version"],
            ),
            predictions: counter(
                "predictions_total",
                "Judged items by highest label.",
                &["model", "version", "label"],
            ),
            score: histogram(
                "score",
                "Score of the highest label.",
                buckets::SCORE,
                &["model", "version", "label"],
            ),
            verdicts: counter(
                "verdicts_total",
                "Verdicts by decision and reason.",
                &["model", "version", "decision", "reason"],
            ),
            model_info: int_gauge(
                "model_info",
                "Always 1 for a version that serves.",
                &["model", "version", "digest", "provider", "evidence"],
            ),
            model_state: int_gauge(
                "model_state",
                "1 for the state a version is in.",
                &["model", "version", "state"],
            ),
            load_duration: gauge(
                "model_load_duration_seconds",
                "From reading the package to serving.",
                &["model", "version"],
            ),
            plan: PlanGauges::register(registry),
            golden_failures: counter(
                "golden_failures_total",
                "Golden samples answered wrongly at load.",
                &["model", "version"],
            ),
        }
    }
}

/// The metrics of one model; hands out those of its versions.
#[derive(Debug)]
pub struct ModelMetrics {
    name: ModelName,
    duration: HistogramVec,
    families: Families,
}

impl ModelMetrics {
    pub(super) fn new(
        registry: &Registry,
        families: &Families,
        name: &ModelName,
        budget: Budget,
    ) -> Self {
        let help = "From the last byte of the body to the answer ready.";
        let opts = HistogramOpts::from(opts("item_duration_seconds", help))
            .const_label("model", name.as_str())
            .buckets(buckets::around(budget));
        let duration = add(registry, HistogramVec::new(opts, &["version", "outcome"]));
        for (tier, length) in [("target", budget.target), ("limit", budget.limit)] {
            let gauge = families.budget_seconds.with_label_values(&[name.as_str(), tier]);
            gauge.set(length.as_secs_f64());
        }
        Self { name: name.clone(), duration, families: families.clone() }
    }

    /// The metrics of one version, resolved once so that an answer touches little but atomics.
    #[must_use]
    pub fn version(&self, version: ModelVersion, labels: &Labels) -> VersionMetrics {
        VersionMetrics::new(self, version, labels)
    }

    /// States which state a version is in; `states` are all there are.
    pub fn set_state(&self, version: ModelVersion, state: &str, states: &[&str]) {
        for it in states {
            self.families
                .model_state
                .with_label_values(&[self.name.as_str(), &version.to_string(), it])
                .set(i64::from(*it == state));
        }
    }

    /// States that a version serves, and as what.
    pub fn set_info(&self, version: ModelVersion, digest: &str, provider: &str, evidence: &str) {
        let version = version.to_string();
        let labels = [self.name.as_str(), &version, digest, provider, evidence];
        self.families.model_info.with_label_values(&labels).set(1);
    }

    /// States how long a version took from reading its package to serving.
    pub fn set_load_duration(&self, version: ModelVersion, took: Duration) {
        let labels = [self.name.as_str(), &version.to_string()];
        self.families.load_duration.with_label_values(&labels).set(took.as_secs_f64());
    }

    /// States how a version is run.
    pub fn set_plan(&self, version: ModelVersion, plan: Planned) {
        self.families.plan.set(self.name.as_str(), &version.to_string(), plan);
    }

    /// Counts golden samples answered wrongly.
    pub fn golden_failed(&self, version: ModelVersion, n: usize) {
        let labels = [self.name.as_str(), &version.to_string()];
        self.families.golden_failures.with_label_values(&labels).inc_by(n as u64);
    }

    /// Counts an item refused for load: `queue`, `deadline`, `bytes`, ….
    pub fn shed(&self, reason: &'static str) {
        self.families.shed.with_label_values(&[self.name.as_str(), reason]).inc();
    }
}

/// Labels beyond this many share the label `other`: a model with 1,000 classes must not make
/// 13,000 series.
const MAX_LABELS: usize = 32;

/// Handles for the answers of one version.
#[derive(Debug)]
pub struct VersionMetrics {
    model: ModelName,
    version: String,
    /// By [`Outcome`], in its order.
    duration: Vec<Histogram>,
    items: Vec<IntCounter>,
    /// By [`Stage`], in its order.
    stage: Vec<Histogram>,
    /// `[tier][within]`.
    budget_items: [[IntCounter; 2]; 2],
    /// By label, the last one `other`.
    predictions: Vec<IntCounter>,
    score: Vec<Histogram>,
    verdicts: IntCounterVec,
    batch_size: Histogram,
    /// By [`Closed`], in its order.
    batches: Vec<IntCounter>,
    /// Predicted wait of an item that would arrive now, in seconds.
    pub predicted_wait: Gauge,
    /// Predicted core-seconds of all items that arrived.
    pub demand: Counter,
    /// Items waiting.
    pub queue_depth: IntGauge,
    /// Age of the item that has waited longest.
    pub queue_oldest: Gauge,
}

impl VersionMetrics {
    fn new(of: &ModelMetrics, version: ModelVersion, labels: &Labels) -> Self {
        let (model, version) = (of.name.as_str(), version.to_string());
        let families = &of.families;
        let pair = [model, version.as_str()];
        let budget = |tier, within| {
            families.budget_items.with_label_values(&[model, &version, tier, within])
        };
        let named = labels.iter().take(MAX_LABELS).map(|it| &**it);
        let with_rest: Vec<&str> =
            named.chain((labels.len() > MAX_LABELS).then_some("other")).collect();
        Self {
            duration: Outcome::ALL
                .map(|it| of.duration.with_label_values(&[version.as_str(), it.as_str()]))
                .into(),
            items: Outcome::ALL
                .map(|it| families.items.with_label_values(&[model, &version, it.as_str()]))
                .into(),
            stage: Stage::ALL
                .map(|it| families.stage.with_label_values(&[model, &version, it.as_str()]))
                .into(),
            budget_items: [
                [budget("target", "false"), budget("target", "true")],
                [budget("limit", "false"), budget("limit", "true")],
            ],
            predictions: with_rest
                .iter()
                .map(|it| families.predictions.with_label_values(&[model, &version, it]))
                .collect(),
            score: with_rest
                .iter()
                .map(|it| families.score.with_label_values(&[model, &version, it]))
                .collect(),
            verdicts: families.verdicts.clone(),
            batch_size: families.batch_size.with_label_values(&pair),
            batches: Closed::ALL
                .map(|it| families.batches.with_label_values(&[model, &version, it.as_str()]))
                .into(),
            predicted_wait: families.predicted_wait.with_label_values(&pair),
            demand: families.demand.with_label_values(&pair),
            queue_depth: families.queue_depth.with_label_values(&pair),
            queue_oldest: families.queue_oldest.with_label_values(&pair),
            model: of.name.clone(),
            version,
        }
    }

    /// Counts an item that has its answer, `took` after the last byte of its body.
    pub fn answered(&self, outcome: Outcome, took: Duration, budget: Budget) {
        let at = outcome as usize;
        self.items[at].inc();
        self.duration[at].observe(took.as_secs_f64());
        let judged = match outcome {
            Outcome::Ok => true,
            Outcome::Shed | Outcome::Expired | Outcome::Failed => false,
            // Neither can be blamed on the service, so neither counts for or against it.
            Outcome::Invalid | Outcome::Cancelled => return,
        };
        for (tier, length) in [(Tier::Target, budget.target), (Tier::Limit, budget.limit)] {
            self.budget_items[tier as usize][usize::from(judged && took <= length)].inc();
        }
    }

    /// Records a run of so many rows.
    pub fn ran(&self, rows: usize) {
        self.batch_size.observe(f64::from(u32::try_from(rows).unwrap_or(u32::MAX)));
    }

    /// Counts a run by why it had no more rows.
    pub fn batch_closed(&self, closed: Closed) {
        self.batches[closed as usize].inc();
    }

    /// Records how long one stage took.
    pub fn stage(&self, stage: Stage, took: Duration) {
        self.stage[stage as usize].observe(took.as_secs_f64());
    }

    /// Counts what was said about an item.
    pub fn judged(&self, scores: Option<&Probabilities>, verdict: Option<&Verdict>) {
        if let Some((label, score)) = scores.and_then(Probabilities::best) {
            let at = label.min(self.predictions.len().saturating_sub(1));
            if let (Some(count), Some(histogram)) = (self.predictions.get(at), self.score.get(at)) {
                count.inc();
                histogram.observe(f64::from(score));
            }
        }
        if let Some(verdict) = verdict {
            let (decision, reason) = (verdict.decision.as_str(), verdict.reason.as_str());
            let labels = [self.model.as_str(), &self.version, decision, reason];
            self.verdicts.with_label_values(&labels).inc();
        }
    }
}
