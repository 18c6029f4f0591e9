//! Plans, from tables of what was measured and asked for.

use super::*;

const MIB: u64 = 1 << 20;

/// A profile of run times on one thread in tenths of a millisecond, and of MiB a lane.
fn profile(times: &[(usize, u64)], mebibytes: &[(usize, u64)]) -> Profile {
    let mut profile = Profile { sharing: Sharing::Proven, ..Profile::default() };
    for (size, tenths) in times {
        profile.latency.record(*size, 1, Duration::from_micros(tenths * 100));
    }
    profile.lane_bytes = mebibytes.iter().map(|(size, it)| (*size, it * MIB)).collect();
    profile
}

/// `EfficientNet-B0` and a wide MLP, both as measured on one core.
const FLAT: [(usize, u64); 3] = [(1, 114), (2, 222), (4, 456)];
const GAINS: [(usize, u64); 6] = [(1, 26), (2, 28), (4, 32), (8, 43), (16, 70), (32, 122)];
const GROWS: [(usize, u64); 6] = [(1, 15), (2, 28), (4, 54), (8, 105), (16, 200), (32, 370)];

fn asked(lanes: usize, max_batch: usize, mebibytes: u64) -> Runtime {
    Runtime {
        lanes: NonZeroUsize::new(lanes),
        max_batch: NonZeroUsize::new(max_batch),
        memory: Some(mebibytes * MIB).filter(|it| *it > 0),
        ..Runtime::default()
    }
}

fn cores(n: usize) -> Ground<'static> {
    Ground { cores: NonZeroUsize::new(n).unwrap(), devices: &[] }
}

#[test]
fn rows_share_a_run_as_far_as_it_pays_is_asked_for_and_fits() {
    for (times, max_batch, memory, expected, why) in [
        (
            &FLAT[..],
            0,
            0,
            1,
            "within 3 % of the best throughput: 87.7 rows a second a lane, 90.1 with 2",
        ),
        (&GAINS[..], 0, 0, 32, "the best throughput: 2623.0 rows a second a lane"),
        (&GAINS[..], 0, 110, 8, "as far as [runtime] memory allows"),
        (&GAINS[..], 0, 20, 1, "as far as [runtime] memory allows"),
        (&GAINS[..], 4, 0, 4, "max_batch in model.toml, and proven"),
        (&GAINS[..], 16, 110, 8, "max_batch in model.toml, and proven, as far as [runtime] memory"),
        (&GAINS[..], 1, 0, 1, "max_batch in model.toml"),
    ] {
        let profile = profile(times, &GROWS);
        let plan = plan(cores(2), &profile, &asked(0, max_batch, memory)).unwrap();
        assert_eq!(plan.max_batch, expected, "{why}");
        assert!(plan.why_max_batch.contains(why), "{why}: {}", plan.why_max_batch);
        assert_eq!(plan.lane_bytes, profile.lane_bytes.get(&expected).copied());
    }
    let refused = Profile { sharing: Sharing::Refused("axis".to_owned()), ..profile(&GAINS, &[]) };
    let plan = plan(cores(2), &refused, &asked(0, 8, 0)).unwrap();
    assert_eq!((plan.max_batch, plan.why_max_batch.contains("axis")), (1, true));
}

#[test]
fn there_are_as_many_lanes_as_cores_or_as_few_as_asked_for() {
    for (granted, lanes, expected) in
        [(2, 0, Some(2)), (4, 3, Some(3)), (2, 2, Some(2)), (2, 3, None)]
    {
        let planned = plan(cores(granted), &profile(&FLAT, &[]), &asked(lanes, 0, 0));
        match (planned, expected) {
            (Ok(plan), Some(expected)) => {
                assert_eq!((plan.lanes, plan.threads_per_lane), (expected, 1));
            }
            (Err(error), None) => assert_eq!(
                error.to_string(),
                "[runtime] lanes = 3 in model.toml is more than the 2 this process has, one for each \
                 core it may use; allowed are 1 to 2"
            ),
            (planned, expected) => panic!("{planned:?}, expected {expected:?}"),
        }
    }
}

#[test]
fn a_lane_that_cannot_hold_one_row_is_refused_by_the_name_of_the_key() {
    let planned =
        |mebibytes: &[(usize, u64)]| plan(cores(1), &profile(&FLAT, mebibytes), &asked(0, 0, 8));
    let error = planned(&GROWS).unwrap_err();
    assert_eq!(error, PlanError::Memory { needed: 15 * MIB, allowed: 8 * MIB });
    assert!(
        error.to_string().contains("needs 15 MiB")
            && error.to_string().contains("[runtime] memory")
    );
    assert_eq!(planned(&[]).unwrap_err(), PlanError::MemoryUnknown);
}

#[test]
fn one_item_on_all_cores_is_worth_it_at_four_fifths_of_the_time() {
    for (granted, on_all, expected) in [
        (2, Some(80), Wide::Worth(0.8)),
        (2, Some(60), Wide::Worth(0.6)),
        (2, Some(81), Wide::NotWorth(0.81)),
        (2, None, Wide::Unknown),
        (1, None, Wide::OneCore),
    ] {
        let mut profile = profile(&[(1, 100)], &[]);
        if let Some(tenths) = on_all {
            profile.latency.record(1, granted, Duration::from_micros(tenths * 100));
        }
        let wide = plan(cores(granted), &profile, &asked(0, 0, 0)).unwrap().wide;
        assert_eq!(wide.as_str(), expected.as_str());
        let (found, expected) = (wide.ratio().unwrap_or(-1.0), expected.ratio().unwrap_or(-1.0));
        assert!((found - expected).abs() < 1e-9, "{found} {expected}");
        assert!(!wide.why().is_empty());
    }
    let differs = Profile { wide_refused: Some("it differs".to_owned()), ..profile(&FLAT, &[]) };
    let wide = plan(cores(2), &differs, &asked(0, 0, 0)).unwrap().wide;
    assert_eq!(wide, Wide::Differs("it differs".to_owned()));
}

#[test]
fn threads_that_would_answer_more_are_named_and_not_planned() {
    for (on_two, more) in [(110, false), (50, true)] {
        let mut profile = profile(&[(1, 200)], &[]);
        profile.latency.record(1, 2, Duration::from_micros(on_two * 100));
        let plan = plan(cores(2), &profile, &asked(0, 0, 0)).unwrap();
        assert_eq!(plan.threads_per_lane, 1);
        assert_eq!(plan.why_threads.contains("no such lanes"), more, "{}", plan.why_threads);
    }
}

#[test]
fn sizes_are_tried_until_the_plan_can_be_made() {
    let known = |n: usize| profile(&GAINS[..n], &GROWS[..n]);
    for (profile, asked, expected) in [
        (Profile::default(), asked(0, 0, 0), None),
        (known(1), asked(0, 0, 0), Some(2)),
        (known(3), asked(0, 0, 0), Some(8)),
        (known(6), asked(0, 0, 0), None),
        (profile(&FLAT[..1], &[]), asked(0, 0, 0), Some(2)),
        // 2 gains less than 3 %: the climb is over.
        (profile(&FLAT[..2], &[]), asked(0, 0, 0), None),
        // A declared size is tried alone, whatever it gains,
        (known(1), asked(0, 6, 0), Some(6)),
        (profile(&[(1, 114), (6, 700)], &[]), asked(0, 6, 0), None),
        (known(1), asked(0, 1, 0), None),
        // but with those below it where the largest that fits is looked for.
        (known(1), asked(0, 6, 100), Some(2)),
        (known(3), asked(0, 6, 100), Some(6)),
        (known(3), asked(0, 6, 50), None),
        // Memory ends a climb that would pay.
        (known(3), asked(0, 0, 50), None),
        (known(3), asked(0, 0, 60), Some(8)),
        (Profile { sharing: Sharing::Refused(String::new()), ..known(1) }, asked(0, 8, 0), None),
    ] {
        assert_eq!(next_size(cores(1), &profile, &asked), expected, "{profile:?} {asked:?}");
    }
}

/// The ground of so many devices, beside two cores.
fn devices(all: &[u32]) -> Ground<'_> {
    Ground { cores: NonZeroUsize::new(2).unwrap(), devices: all }
}

#[test]
fn each_device_has_lanes_of_its_own() {
    let lanes = |all, n| plan(devices(all), &profile(&GAINS, &[]), &asked(n, 0, 0));
    for (all, n, expected) in [(&[0][..], 0, 2), (&[0, 1], 0, 4), (&[3], 1, 1), (&[0, 1, 2], 8, 24)]
    {
        let plan = lanes(all, n).unwrap();
        assert_eq!((plan.lanes, &plan.devices[..]), (expected, all), "{}", plan.why_lanes);
        assert_eq!((plan.threads_per_lane, plan.wide.as_str()), (1, "on a device"));
    }
    let error = lanes(&[0], 9).unwrap_err().to_string();
    assert!(error.contains("lanes = 9") && error.contains("allowed are 1 to 8 on each"), "{error}");
}

#[test]
fn sizes_climb_further_on_a_device_and_end_where_its_memory_does() {
    let more: Vec<_> = GAINS.into_iter().chain([(64, 220)]).collect();
    let too_large = Profile { too_large: Some(128), ..profile(&more, &[]) };
    for (profile, asked, expected) in [
        (profile(&GAINS, &[]), asked(0, 0, 0), Some(64)),
        (profile(&more, &[]), asked(0, 0, 0), Some(128)),
        (too_large.clone(), asked(0, 0, 0), None),
        // What is declared may not fit, so those below it are tried first;
        (profile(&GAINS[..1], &[]), asked(0, 6, 0), Some(2)),
        (profile(&GAINS[..3], &[]), asked(0, 6, 0), Some(6)),
        (too_large.clone(), asked(0, 200, 0), None),
        // and the bound is the provider's to keep, known or not.
        (profile(&GAINS[..1], &[]), asked(0, 0, 1), Some(2)),
    ] {
        assert_eq!(next_size(devices(&[0]), &profile, &asked), expected, "{profile:?} {asked:?}");
    }
    assert_eq!(next_size(cores(2), &profile(&GAINS, &[]), &asked(0, 0, 0)), None);
    let plan = plan(devices(&[0]), &too_large, &asked(0, 0, 1)).unwrap();
    assert_eq!(plan.max_batch, 64);
    assert!(
        plan.why_max_batch.contains("as far as the memory of the device"),
        "{}",
        plan.why_max_batch
    );
}
