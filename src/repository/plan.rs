//! Which of the versions found are to be loaded; pure.

use std::collections::BTreeSet;

use crate::types::ModelVersion;

/// What is to become of a model's versions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// What a request without a version asks for: the first of `serve`, even if it is not there.
    /// A request must not slip to another version because a folder is missing.
    pub default: Option<ModelVersion>,
    /// To be loaded, in the order of `serve`.
    pub load: Vec<ModelVersion>,
    /// There, and not to be loaded; ascending.
    pub found: Vec<ModelVersion>,
    /// What is wrong, as sentences about `model.toml`'s key `serve`.
    pub complaints: Vec<String>,
}

/// Plans for one model. `serve` is the key of `model.toml`, `found` the versions that are there.
#[must_use]
pub fn plan(serve: Option<&[ModelVersion]>, found: &BTreeSet<ModelVersion>) -> Plan {
    let Some(serve) = serve else { return without_a_word(found) };
    let (load, missing): (Vec<_>, Vec<_>) =
        serve.iter().copied().partition(|it| found.contains(it));
    Plan {
        default: serve.first().copied(),
        found: found.iter().copied().filter(|it| !load.contains(it)).collect(),
        load,
        complaints: missing
            .iter()
            .map(|it| format!("names version {it}, which is not there"))
            .collect(),
    }
}

/// The newest folder is never the answer: it may be the one still being copied, or not approved.
fn without_a_word(found: &BTreeSet<ModelVersion>) -> Plan {
    let mut versions = found.iter().copied();
    match (versions.next(), versions.next_back()) {
        (Some(only), None) => Plan { default: Some(only), load: vec![only], ..Plan::default() },
        (Some(_), Some(highest)) => Plan {
            found: found.iter().copied().collect(),
            complaints: vec![format!(
                "is missing and {} versions were found: none is served; set serve = \"{highest}\" \
                 in model.toml, or the version that is meant",
                found.len()
            )],
            ..Plan::default()
        },
        (None, _) => Plan::default(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn versions(numbers: &[u64]) -> Vec<ModelVersion> {
        numbers.iter().map(|it| it.to_string().parse().unwrap()).collect()
    }

    #[track_caller]
    fn check(serve: Option<&[u64]>, found: &[u64], load: &[u64], only_found: &[u64], wrong: usize) {
        let serve = serve.map(versions);
        let plan = plan(serve.as_deref(), &versions(found).into_iter().collect());
        assert_eq!(plan.load, versions(load));
        assert_eq!(plan.found, versions(only_found));
        assert_eq!(plan.complaints.len(), wrong, "{:?}", plan.complaints);
    }

    #[test]
    fn the_table() {
        check(None, &[], &[], &[], 0);
        check(None, &[3], &[3], &[], 0);
        check(None, &[1, 2], &[], &[1, 2], 1);
        check(Some(&[1]), &[1, 2], &[1], &[2], 0);
        check(Some(&[2, 1]), &[1, 2, 10], &[2, 1], &[10], 0);
        check(Some(&[3]), &[1, 2], &[], &[1, 2], 1);
        check(Some(&[3, 1]), &[1], &[1], &[], 1);
        check(Some(&[1]), &[], &[], &[], 1);
    }

    #[test]
    fn a_missing_first_version_does_not_pass_its_place_on() {
        let serve = versions(&[3, 1]);
        let plan = plan(Some(&serve), &versions(&[1]).into_iter().collect());
        assert_eq!(plan.default, Some(serve[0]));
        assert_eq!(plan.load, [serve[1]]);
    }

    proptest! {
        #[test]
        fn every_version_found_is_loaded_or_listed_once(
            serve in prop::option::of(prop::collection::btree_set(1_u64..6, 1..4)),
            found in prop::collection::btree_set(1_u64..6, 0..6),
        ) {
            let serve = serve.map(|it| versions(&it.into_iter().collect::<Vec<_>>()));
            let found: BTreeSet<_> =
                versions(&found.into_iter().collect::<Vec<_>>()).into_iter().collect();
            let plan = plan(serve.as_deref(), &found);
            let all: BTreeSet<_> = plan.load.iter().chain(&plan.found).copied().collect();
            prop_assert_eq!(plan.load.len() + plan.found.len(), found.len());
            prop_assert_eq!(all, found);
        }
    }
}
