//! The views of one item become one verdict.
//!
//! In this order:
//! 1. A view that rejects rejects the item, whatever became of the others: the gravest severity,
//!    then the highest score, then the first view.
//! 2. Views that are not the declared ones (missing, extra, named twice) leave it undecided
//!    (`views`).
//! 3. A view that failed leaves it undecided, for the reason of the first that failed.
//! 4. A view undecided by the policy leaves it undecided, for the reason of the first such view.
//! 5. Else every declared view approves, and so does the item, with the lowest of their scores.
//!
//! A failure goes before an unclear score since looking again may cure it.

use std::{collections::BTreeSet, num::NonZeroUsize, sync::Arc};

use crate::types::{Decision, Reason, Severity, Verdict};

/// The views a package says an item has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeclaredViews {
    /// So many, under any distinct names.
    Count(NonZeroUsize),
    /// Exactly these; unique, not empty.
    Named(Vec<Arc<str>>),
}

/// What became of one view.
#[derive(Debug, Clone, PartialEq)]
pub struct ViewVerdict<'a> {
    /// The view's name; shown in the item's detail.
    pub name: &'a str,
    /// The policy's verdict, or why the view could not be judged.
    pub verdict: Result<Verdict, Reason>,
}

impl DeclaredViews {
    /// How many views an item has.
    #[must_use]
    pub fn count(&self) -> usize {
        match self {
            Self::Count(count) => count.get(),
            Self::Named(names) => names.len(),
        }
    }

    /// Says how the given names differ from the declared ones; `None` if they do not.
    #[must_use]
    pub fn mismatch<'a>(&self, given: impl IntoIterator<Item = &'a str>) -> Option<String> {
        let mut seen = BTreeSet::new();
        for name in given {
            if !seen.insert(name) {
                return Some(format!("view {name:?} was given twice"));
            }
        }
        match self {
            Self::Count(count) if seen.len() != count.get() => {
                Some(format!("{} views where the item has {count}", seen.len()))
            }
            Self::Count(_) => None,
            Self::Named(names) => {
                let missing = names.iter().find(|it| !seen.contains(&***it));
                let extra = seen.iter().find(|it| !names.iter().any(|name| **name == ***it));
                match (missing, extra) {
                    (Some(missing), _) => Some(format!("view {missing:?} is missing")),
                    (None, Some(extra)) => Some(format!("view {extra:?} is not declared")),
                    (None, None) => None,
                }
            }
        }
    }
}

/// The verdict on the item that has these views.
#[must_use]
pub fn aggregate(declared: &DeclaredViews, views: &[ViewVerdict<'_>]) -> Verdict {
    let judged = || views.iter().filter_map(|it| Some((it.name, it.verdict.as_ref().ok()?)));
    let rejecting = judged().filter(|(_, it)| it.decision == Decision::Reject);
    if let Some((name, verdict)) = rejecting.reduce(|a, b| if graver(b.1, a.1) { b } else { a }) {
        return of_view(name, verdict);
    }
    if let Some(detail) = declared.mismatch(views.iter().map(|it| it.name)) {
        return Verdict::undecided(Reason::Views, detail);
    }
    for view in views {
        if let Err(reason) = view.verdict {
            let detail = format!("view {}: {}", view.name, reason.as_str());
            return Verdict::undecided(reason, detail);
        }
    }
    if let Some((name, verdict)) = judged().find(|(_, it)| it.decision != Decision::Approve) {
        return of_view(name, verdict);
    }
    match judged().reduce(|a, b| if score(b.1) < score(a.1) { b } else { a }) {
        Some((name, lowest)) => of_view(name, lowest),
        // Unreachable while at least one view is declared; without a view nothing was judged.
        None => Verdict::undecided(Reason::Views, "no views".to_owned()),
    }
}

fn of_view(name: &str, verdict: &Verdict) -> Verdict {
    let detail = match &verdict.detail {
        Some(detail) => format!("view {name}: {detail}"),
        None => format!("view {name}"),
    };
    Verdict { detail: Some(detail), ..verdict.clone() }
}

fn graver(a: &Verdict, b: &Verdict) -> bool {
    let (rank_a, rank_b) = (rank(a.severity), rank(b.severity));
    rank_a > rank_b || (rank_a == rank_b && score(a) > score(b))
}

fn rank(severity: Option<Severity>) -> u8 {
    match severity {
        Some(Severity::Critical) => 3,
        Some(Severity::Major) => 2,
        Some(Severity::Minor) => 1,
        None => 0,
    }
}

fn score(verdict: &Verdict) -> f32 {
    verdict.score.unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn approve(score: f32) -> Result<Verdict, Reason> {
        let undecided = Verdict::undecided(Reason::Ok, format!("good {score}"));
        Ok(Verdict {
            decision: Decision::Approve,
            class: Some("good".into()),
            score: Some(score),
            ..undecided
        })
    }

    fn reject(severity: Option<Severity>, score: f32) -> Result<Verdict, Reason> {
        Ok(Verdict {
            decision: Decision::Reject,
            score: Some(score),
            severity,
            ..Verdict::undecided(Reason::Defect, format!("flaw {score}"))
        })
    }

    fn unclear() -> Result<Verdict, Reason> {
        Ok(Verdict::undecided(Reason::LowConfidence, "unclear".to_owned()))
    }

    /// Two views, `v0` and `v1`.
    #[track_caller]
    fn check(views: Vec<(&str, Result<Verdict, Reason>)>, expected: (Decision, Reason, &str)) {
        let views: Vec<_> =
            views.into_iter().map(|(name, verdict)| ViewVerdict { name, verdict }).collect();
        let declared = DeclaredViews::Named(vec!["v0".into(), "v1".into()]);
        let item = aggregate(&declared, &views);
        let detail = item.detail.as_deref().unwrap_or("");
        assert_eq!((item.decision, item.reason, detail), expected);
        if item.decision == Decision::Approve {
            assert!(views.iter().all(|it| {
                it.verdict.as_ref().is_ok_and(|it| it.decision == Decision::Approve)
            }));
        }
    }

    #[test]
    fn the_table() {
        use {Decision as D, Reason as R};
        let undecided = |reason, detail| (D::Undecided, reason, detail);
        let rejected = |detail| (D::Reject, R::Defect, detail);
        let (critical, minor) = (Some(Severity::Critical), Some(Severity::Minor));

        check(
            vec![("v0", approve(0.99)), ("v1", approve(0.985))],
            (D::Approve, R::Ok, "view v1: good 0.985"),
        );
        check(vec![("v0", approve(0.99))], undecided(R::Views, "view \"v1\" is missing"));
        check(vec![], undecided(R::Views, "view \"v0\" is missing"));
        check(
            vec![("v0", approve(0.99)), ("v1", approve(0.99)), ("v2", approve(0.99))],
            undecided(R::Views, "view \"v2\" is not declared"),
        );
        check(
            vec![("v0", approve(0.99)), ("v0", approve(0.99))],
            undecided(R::Views, "view \"v0\" was given twice"),
        );
        check(
            vec![("v0", approve(0.99)), ("v1", unclear())],
            undecided(R::LowConfidence, "view v1: unclear"),
        );
        check(
            vec![("v0", unclear()), ("v1", Err(R::ImageUnreadable))],
            undecided(R::ImageUnreadable, "view v1: image_unreadable"),
        );
        check(
            vec![("v0", Err(R::Views)), ("v1", Err(R::Deadline))],
            undecided(R::Views, "view v0: views"),
        );
        check(
            vec![("v0", reject(minor, 0.99)), ("v1", reject(critical, 0.6))],
            rejected("view v1: flaw 0.6"),
        );
        check(
            vec![("v0", reject(minor, 0.6)), ("v1", reject(minor, 0.7))],
            rejected("view v1: flaw 0.7"),
        );
        check(
            vec![("v0", reject(None, 0.9)), ("v1", reject(None, 0.9))],
            rejected("view v0: flaw 0.9"),
        );
        check(
            vec![("v0", Err(R::Deadline)), ("v1", reject(None, 0.6))],
            rejected("view v1: flaw 0.6"),
        );
        check(vec![("v1", reject(None, 0.6))], rejected("view v1: flaw 0.6"));
    }

    #[test]
    fn counted_views_need_their_number_and_distinct_names() {
        let three = DeclaredViews::Count(NonZeroUsize::new(3).unwrap());
        assert_eq!(three.count(), 3);
        assert_eq!(three.mismatch(["a", "b", "c"]), None);
        assert!(three.mismatch(["a", "b"]).is_some());
        assert!(three.mismatch(["a", "b", "b"]).is_some());
        assert!(three.mismatch(["a", "b", "c", "d"]).is_some());
    }

    #[test]
    fn a_view_named_in_an_answer_never_hides_an_approval_that_is_none() {
        // No declared view can be skipped: every subset of two approving views is undecided.
        for n in 0..2 {
            let views: Vec<_> = ["v0", "v1"][..n]
                .iter()
                .map(|&name| ViewVerdict { name, verdict: approve(0.999) })
                .collect();
            let declared = DeclaredViews::Named(vec!["v0".into(), "v1".into()]);
            assert_eq!(aggregate(&declared, &views).decision, Decision::Undecided);
        }
    }
}
