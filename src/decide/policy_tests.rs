//! Tables and laws of the policy.

use proptest::prelude::*;

use super::*;

fn labels(names: &[&str]) -> Labels {
    names.iter().map(|&it| Label::from(it)).collect()
}

fn spec(approve_at: f64, reject_at: f64) -> PolicySpec {
    PolicySpec {
        approve: "good".into(),
        approve_at,
        reject_at,
        severity: BTreeMap::from([("particle".into(), Severity::Critical)]),
    }
}

fn vials(approve_at: f64, reject_at: f64) -> Policy {
    let labels = labels(&["good", "particle", "chips"]);
    Policy::new(&spec(approve_at, reject_at), &labels, 1e-3).unwrap()
}

#[track_caller]
fn check(scores: &[f32], decision: Decision, class: Option<&str>, detail: &str) {
    let verdict = vials(0.98, 0.5).judge(&Probabilities::new(scores.to_vec()).unwrap());
    assert_eq!(verdict.decision, decision);
    assert_eq!(verdict.class.as_deref(), class);
    assert_eq!(verdict.detail.as_deref(), Some(detail));
}

#[test]
fn the_table_of_the_design() {
    use Decision::{Approve, Reject, Undecided};
    check(&[0.995, 0.003, 0.002], Approve, Some("good"), "good 0.995, at least 0.981");
    check(&[0.02, 0.97, 0.01], Reject, Some("particle"), "particle 0.97, at least 0.50");
    check(&[0.01, 0.49, 0.5], Reject, Some("chips"), "chips 0.50, at least 0.50");
    check(&[0.9, 0.08, 0.02], Undecided, None, "good 0.90 below 0.981; particle 0.08 below 0.50");
    // The tolerance counts: 0.9805 is at least approve_at, and not approved.
    let near = "good 0.98 below 0.981; chips 0.01 below 0.50";
    check(&[0.9805, 0.0095, 0.01], Undecided, None, near);
    // Independent labels may look both good and flawed.
    check(&[0.999, 0.2, 0.6], Reject, Some("chips"), "chips 0.60, at least 0.50");
    // Equal scores: the first label.
    check(&[0.0, 0.5, 0.5], Reject, Some("particle"), "particle 0.50, at least 0.50");
}

#[test]
fn verdicts_carry_severity_score_and_threshold() {
    let judge =
        |scores: [f32; 3]| vials(0.98, 0.5).judge(&Probabilities::new(scores.to_vec()).unwrap());
    let particle = judge([0.1, 0.9, 0.0]);
    assert_eq!((particle.severity, particle.reason), (Some(Severity::Critical), Reason::Defect));
    assert_eq!((particle.score, particle.threshold), (Some(0.9), Some(0.5)));
    assert_eq!(judge([0.1, 0.0, 0.9]).severity, None);
    let unclear = judge([0.9, 0.1, 0.0]);
    assert_eq!(unclear.reason, Reason::LowConfidence);
    assert_eq!((unclear.score, unclear.threshold), (Some(0.9), Some(0.981)));
}

#[test]
fn scores_of_another_number_are_not_judged() {
    for scores in [vec![], vec![1.0], vec![1.0, 0.0], vec![1.0, 0.0, 0.0, 0.0]] {
        let verdict = vials(0.98, 0.5).judge(&Probabilities::new(scores).unwrap());
        assert_eq!(verdict.decision, Decision::Undecided);
        assert_eq!(verdict.reason, Reason::OutputInvalid);
    }
}

#[test]
fn every_complaint_is_reported() {
    let keys = |spec: &PolicySpec, names: &[&str], tolerance: f64| -> Vec<&str> {
        let errors = Policy::new(spec, &labels(names), tolerance).unwrap_err();
        errors.iter().map(PolicyError::key).collect()
    };
    let three = ["good", "particle", "chips"];
    assert_eq!(keys(&spec(0.5, 0.5), &three, 1e-3), ["approve_at"], "both thresholds at once");
    assert_eq!(keys(&spec(0.1, 0.9), &three, 1e-3), ["approve_at"], "0.1 is not above 1 - 0.9");
    assert_eq!(keys(&spec(1.0, 0.5), &three, 1e-3), ["approve_at"], "out of reach");
    assert_eq!(keys(&spec(0.9, 0.5), &three, f64::NAN), ["approve_at"]);
    assert_eq!(keys(&spec(f64::NAN, 0.0), &three, 1e-3), ["approve_at", "reject_at"]);
    assert_eq!(keys(&spec(1.5, -1.0), &["particle"], 1e-3), ["approve_at", "reject_at", "approve"]);
    let mut wrong = spec(0.98, 0.5);
    wrong.severity.insert("good".into(), Severity::Minor);
    wrong.severity.insert("scratch".into(), Severity::Minor);
    assert_eq!(keys(&wrong, &three, 1e-3), ["severity", "severity"]);
    wrong.severity.clear();
    assert_eq!(keys(&wrong, &["good"], 1e-3), ["approve"], "nothing to reject");
}

proptest! {
    #[test]
    fn approve_needs_its_threshold_and_no_flaw(
        raw in prop::collection::vec(0.0_f32..=1.0, 3),
        approve_at in 0.0_f64..=0.999,
        reject_at in 0.0_f64..=1.0,
    ) {
        let labels = labels(&["good", "particle", "chips"]);
        let Ok(policy) = Policy::new(&spec(approve_at, reject_at), &labels, 1e-3) else {
            return Ok(());
        };
        let verdict = policy.judge(&Probabilities::new(raw.clone()).unwrap());
        let flaw = f64::from(raw[1].max(raw[2]));
        let approved = verdict.decision == Decision::Approve;
        prop_assert_eq!(verdict.decision == Decision::Reject, flaw >= reject_at);
        if approved {
            prop_assert!(flaw < reject_at);
            // Exact where it matters: near the threshold this difference has no rounding error.
            prop_assert!(f64::from(raw[0]) - approve_at >= 1e-3 - 1e-12);
        }
    }

    #[test]
    fn scores_right_at_the_threshold_never_slip_through(
        approve_at in 0.5_f64..0.99,
        steps in 0_u32..4,
    ) {
        let labels = labels(&["good", "flaw"]);
        let spec = PolicySpec { severity: BTreeMap::new(), ..spec(approve_at, 1.0) };
        let policy = Policy::new(&spec, &labels, 1e-3).unwrap();
        // The largest f32 below the exact sum, and a few below that.
        let mut score = narrow(approve_at + 1e-3);
        while f64::from(score) >= approve_at + 1e-3 {
            score = score.next_down();
        }
        for _ in 0..steps {
            score = score.next_down();
        }
        let verdict = policy.judge(&Probabilities::new(vec![score, 0.0]).unwrap());
        prop_assert_eq!(verdict.decision, Decision::Undecided);
    }
}

#[test]
fn sums_are_rounded_up_only_where_they_are_inexact() {
    assert_eq!(sum_rounded_up(0.5, 0.25).to_bits(), 0.75_f64.to_bits());
    let tiny = f64::EPSILON / 4.0;
    assert!(sum_rounded_up(0.5, tiny) > 0.5);
}
