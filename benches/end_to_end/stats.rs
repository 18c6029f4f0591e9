//! Medians and percentiles: what a noisy machine leaves of many measurements.

use std::time::Duration;

use serde::Serialize;

/// Latencies of one kind of request.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latency {
    pub samples: usize,
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
}

impl Latency {
    pub fn of(took: &[Duration]) -> Self {
        let ms: Vec<f64> = took.iter().copied().map(millis).collect();
        Self {
            samples: ms.len(),
            p50_ms: quantile(&ms, 0.5),
            p90_ms: quantile(&ms, 0.9),
            p99_ms: quantile(&ms, 0.99),
        }
    }
}

pub fn millis(it: Duration) -> f64 {
    it.as_secs_f64() * 1e3
}

/// Milliseconds at each hundredth, from the shortest to the longest: a distribution to draw.
pub fn percentiles(took: &[Duration]) -> Vec<f64> {
    let ms: Vec<f64> = took.iter().copied().map(millis).collect();
    (0..=100).map(|it| quantile(&ms, f64::from(it) / 100.0)).collect()
}

/// NaN of nothing, which JSON writes as null.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / ratio(values.len(), 1)
}

/// The nearest rank; the mean of both middle values for the median of an even number.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (n, last) = (sorted.len(), sorted.len().saturating_sub(1));
    let at = |index: usize| sorted.get(index.min(last)).copied().unwrap_or(f64::NAN);
    if share.total_cmp(&0.5).is_eq() && n.is_multiple_of(2) {
        return f64::midpoint(at(n / 2), at((n / 2).saturating_sub(1)));
    }
    at(rank(n, share))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of a number of samples, far below 2^52"
)]
fn rank(n: usize, share: f64) -> usize {
    (share * n as f64) as usize
}

#[expect(clippy::cast_precision_loss, reason = "counts, far below 2^52")]
pub fn per_second(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64().max(1e-9)
}

#[expect(clippy::cast_precision_loss, reason = "counts, far below 2^52")]
pub fn ratio(a: usize, b: usize) -> f64 {
    a as f64 / b as f64
}
