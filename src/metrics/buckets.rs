//! Histogram edges and why each was chosen.

use crate::types::Budget;

/// Edges for `item_duration_seconds`, in seconds: the model's target and limit are exact edges, so
/// that "within the budget" is read off a bucket and never interpolated; around them the fractions
/// an operator asks about, below them a ladder down to 1 ms.
pub(super) fn around(budget: Budget) -> Vec<f64> {
    let (target, limit) = (budget.target.as_secs_f64(), budget.limit.as_secs_f64());
    let mut edges = vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1];
    // Rounded to a microsecond, or 0.75 * 0.6 would print as 0.44999999999999996.
    let share = |share: f64| (share * target * 1e6).round() / 1e6;
    edges.extend([0.25, 0.5, 0.75, 1.25, 2.0].map(share));
    edges.push(target);
    edges.extend([limit, 2.0 * limit]);
    edges.sort_by(f64::total_cmp);
    // Two edges closer than 1 % tell nothing apart; target and limit are kept exactly.
    let kept = |edge: f64| edge.total_cmp(&target).is_eq() || edge.total_cmp(&limit).is_eq();
    let mut out: Vec<f64> = Vec::with_capacity(edges.len());
    for edge in edges {
        match out.last().copied() {
            Some(last) if edge <= last * 1.01 && !kept(edge) => {}
            Some(last) if edge <= last * 1.01 && !kept(last) => {
                out.pop();
                out.push(edge);
            }
            Some(last) if edge <= last => {}
            _ => out.push(edge),
        }
    }
    out
}

/// Edges for stages of an answer, in seconds: from 0.1 ms, as normalising takes less than 1 ms.
pub(super) const STAGE: &[f64] = &[
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0,
];

/// Edges for batch sizes: the powers of two that are tried at load.
pub(super) const BATCH: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

/// Edges for scores: finer towards 1, where thresholds lie.
pub(super) const SCORE: &[f64] =
    &[0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn target_and_limit_are_exact_edges_of_a_rising_ladder() {
        for (target, limit) in [(600, 3000), (100, 101), (7, 7), (1000, 2000), (1, 60_000)] {
            let budget = Budget {
                target: Duration::from_millis(target),
                limit: Duration::from_millis(limit),
            };
            let edges = around(budget);
            assert!(edges.windows(2).all(|it| it[0] < it[1]), "{edges:?}");
            assert!(edges.contains(&budget.target.as_secs_f64()), "{edges:?}");
            assert!(edges.contains(&budget.limit.as_secs_f64()), "{edges:?}");
        }
    }
}
