//! The scheduler's rules, one by one.

use std::{collections::HashMap, time::Duration};

use super::{Candidate, Rejection, Scheduler, Service, Terms};
use crate::{
    batch::{
        event::{Action, Arrival, Class, ItemKey, LaneKey, ModelKey},
        job::BatchKey,
        site::{Placement, Site},
    },
    metrics::Closed,
    types::Instant,
};

const MS: Duration = Duration::from_millis(1);
const TERMS: Terms = Terms::new(Duration::from_millis(600), Duration::from_secs(3));

fn on_cores(max_batch: usize, max_lanes: Option<usize>, terms: Terms) -> Service {
    Service { placement: Placement::Cores, max_batch, max_lanes, terms }
}

fn arrival(item: u64, now: Instant, decode: Option<Duration>) -> Arrival {
    Arrival {
        item: ItemKey(item),
        model: ModelKey(0),
        class: Class::Normal,
        batch_key: BatchKey::named("a"),
        rows: 1,
        decode,
        run: MS * 10,
        aim: now + MS * 600,
        expires: now + MS * 3000,
    }
}

fn candidate(item: &Arrival) -> Candidate {
    Candidate {
        model: item.model,
        class: item.class,
        cost: item.cost(),
        aim: item.aim,
        reserve: Duration::ZERO,
        expires: item.expires,
    }
}

#[test]
fn the_lane_that_decoded_runs_what_it_decoded() {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(2);
    scheduler.add_model(ModelKey(0), on_cores(1, Some(2), TERMS));
    let (first, second) = (LaneKey(0), LaneKey(1));
    let decode = |lane, item| vec![Action::Decode { lane, item: ItemKey(item) }];
    let run = |lane, item| {
        let (items, closed) = (vec![ItemKey(item)], Closed::Full);
        vec![Action::Run { lane, model: ModelKey(0), items, closed }]
    };
    assert_eq!(scheduler.arrive(arrival(0, now, Some(MS)), now), decode(first, 0));
    assert_eq!(scheduler.arrive(arrival(1, now, Some(MS)), now), decode(second, 1));
    assert_eq!(scheduler.decoded(second, true, now), run(second, 1));
    assert_eq!(scheduler.decoded(first, true, now), run(first, 0));
    assert_eq!(scheduler.ran(first, now), []);
}

#[test]
fn what_waits_while_lanes_are_busy_shares_the_next_run() {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(1);
    scheduler.add_model(ModelKey(0), on_cores(4, Some(1), TERMS));
    for item in 0..6 {
        scheduler.arrive(arrival(item, now, None), now);
    }
    let items = |actions: Vec<Action>| match &actions[..] {
        [Action::Run { items, .. }] => items.iter().map(|it| it.0).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(items(scheduler.ran(LaneKey(0), now)), [1, 2, 3, 4]);
    assert_eq!(items(scheduler.ran(LaneKey(0), now)), [5]);
}

#[test]
fn the_prediction_counts_what_is_ahead_and_forgets_what_is_done() {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(2);
    scheduler.add_model(ModelKey(0), on_cores(1, Some(2), TERMS));
    let wait = |it: &Scheduler, now| it.predicted_wait(ModelKey(0), now);
    assert_eq!(wait(&scheduler, now), Duration::ZERO);
    for item in 0..6 {
        scheduler.arrive(arrival(item, now, None), now);
    }
    // Two run (10 ms each) and four wait (40 ms), on two lanes.
    assert_eq!(wait(&scheduler, now), MS * 30);
    let later = now + MS * 10;
    scheduler.ran(LaneKey(0), later);
    assert_eq!(wait(&scheduler, later), MS * 20);
    assert_eq!(scheduler.cancel(ItemKey(5), later), []);
    assert_eq!(scheduler.waiting(ModelKey(0)), 2);
    assert_eq!(wait(&scheduler, later), MS * 15);
}

#[test]
fn a_model_that_may_have_one_lane_waits_for_that_lane() {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(4);
    scheduler.add_model(ModelKey(0), on_cores(1, Some(1), TERMS));
    for item in 0..5 {
        scheduler.arrive(arrival(item, now, None), now);
    }
    // One runs; four of 10 ms wait for the same lane, though three others are idle.
    assert_eq!(scheduler.predicted_wait(ModelKey(0), now), MS * 50);
    scheduler.add_model(ModelKey(1), on_cores(1, Some(4), TERMS));
    assert_eq!(scheduler.predicted_wait(ModelKey(1), now), Duration::ZERO, "those it may have");
}

#[test]
fn lasting_overload_is_refused_down_to_what_is_answered_within_the_target() {
    let start = Instant::now();
    let mut scheduler = Scheduler::new(1);
    scheduler.add_model(ModelKey(0), on_cores(1, Some(1), TERMS));
    // Twice as much as the lane can do: an item of 10 ms every 5 ms, for 10 s.
    let (mut free_at, mut began, mut late) = (None, HashMap::new(), Vec::new());
    for at in 0..10_000_u32 {
        let now = start + MS * at;
        let mut actions = Vec::new();
        if free_at == Some(at) {
            free_at = None;
            actions = scheduler.ran(LaneKey(0), now);
        }
        let item = arrival(u64::from(at), now, None);
        if at % 5 == 0 && scheduler.judge(&candidate(&item), now).is_ok() {
            began.insert(item.item, at);
            actions.extend(scheduler.arrive(item, now));
        }
        for action in actions {
            let Action::Run { items, .. } = action else { panic!("{action:?}") };
            free_at = Some(at + 10);
            let took = at + 10 - began[&items[0]];
            assert!(took <= 1210, "target and burst bound the wait");
            if took > 600 {
                late.push(began[&items[0]]);
            }
        }
    }
    // The queue grows by 1 s a second: above the target at 0.6 s, for the credit of 0.6 s, never again.
    assert!(late.iter().all(|it| (590..1_200).contains(it)), "{late:?}");
    assert!(late.len() > 100, "a burst is let in");
    assert_eq!(scheduler.lanes(), [0, 1, 0], "and the lane is never idle");
}

#[test]
fn what_aims_later_is_not_ahead() {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(1);
    let patient = Terms { target: MS * 3000, ..TERMS };
    scheduler.add_model(ModelKey(0), on_cores(1, Some(1), TERMS));
    scheduler.add_model(ModelKey(1), on_cores(1, Some(1), patient));
    for item in 0..100 {
        let aim = now + patient.target;
        let item = Arrival { model: ModelKey(1), aim, ..arrival(item, now, None) };
        scheduler.arrive(item, now);
    }
    // One of 10 ms is under way; the other 99 give way.
    assert_eq!(scheduler.predicted_wait(ModelKey(0), now), MS * 10);
    assert_eq!(scheduler.predicted_wait(ModelKey(1), now), MS * 1000);
}

#[test]
fn a_place_kept_from_the_head_counts_until_the_body_is_there_or_a_moment_has_passed() {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(1);
    scheduler.add_model(ModelKey(0), on_cores(1, Some(1), TERMS));
    let item = arrival(0, now, None);
    let kept: Vec<_> = (0..5).map(|_| scheduler.reserve(&candidate(&item), now).unwrap()).collect();
    assert_eq!(scheduler.predicted_wait(ModelKey(0), now), MS * 50);
    scheduler.end_reservation(kept[0]);
    scheduler.end_reservation(kept[0]);
    assert_eq!(scheduler.predicted_wait(ModelKey(0), now), MS * 40);
    let later = now + MS * 100;
    let predicted = scheduler.judge(&candidate(&arrival(1, later, None)), later);
    assert_eq!(predicted, Ok(later + MS * 10), "the other four were too slow");
}

#[test]
fn the_servers_own_work_waits_for_the_clients() {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(1);
    scheduler.add_model(ModelKey(0), on_cores(1, Some(1), TERMS));
    let own = |item| Arrival { class: Class::Low, aim: now, ..arrival(item, now, None) };
    scheduler.arrive(arrival(0, now, None), now);
    scheduler.arrive(own(1), now);
    scheduler.arrive(arrival(2, now, None), now);
    assert_eq!(scheduler.predicted_wait(ModelKey(0), now), MS * 20, "it is not ahead of a client");
    let ran = |it: Vec<Action>| match &it[..] {
        [Action::Run { items, .. }] => items[0].0,
        other => panic!("{other:?}"),
    };
    assert_eq!(ran(scheduler.ran(LaneKey(0), now)), 2);
    assert_eq!(ran(scheduler.ran(LaneKey(0), now)), 1);
    for item in 3..63 {
        scheduler.arrive(arrival(item, now, None), now);
    }
    let judged = scheduler.judge(&candidate(&own(99)), now);
    assert!(matches!(judged, Err(Rejection::NoCredit { .. })), "{judged:?}");
    assert!(
        scheduler.judge(&candidate(&arrival(99, now, None)), now).is_ok(),
        "a client has credit"
    );
}

#[test]
fn a_run_is_ended_when_the_last_that_waits_for_it_has_expired() {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(1);
    scheduler.add_model(ModelKey(0), on_cores(8, Some(1), TERMS));
    scheduler.arrive(arrival(0, now, None), now);
    for item in 1..4 {
        let expires = now + MS * u32::try_from(item).unwrap() * 10;
        scheduler.arrive(Arrival { expires, ..arrival(item, now, None) }, now);
    }
    scheduler.ran(LaneKey(0), now);
    let expire = |item| Action::Expire { item: ItemKey(item) };
    assert_eq!(scheduler.tick(now + MS * 10), [expire(1)]);
    scheduler.cancel(ItemKey(2), now + MS * 10);
    assert!(!scheduler.is_wanted(ItemKey(2)), "its caller has left; it is on a lane");
    assert_eq!(scheduler.tick(now + MS * 30), [expire(3), Action::Terminate { lane: LaneKey(0) }]);
    assert_eq!(scheduler.ran(LaneKey(0), now + MS * 31), []);
    assert_eq!(scheduler.n_items(), 0);
}

#[test]
fn a_lane_that_does_not_come_back_is_given_up_and_replaced() {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(1);
    scheduler.add_model(ModelKey(0), on_cores(1, Some(1), TERMS));
    scheduler.arrive(arrival(0, now, None), now);
    let lost = now + TERMS.limit * 2;
    scheduler.tick(lost - MS);
    assert_eq!(scheduler.next_tick(), Some(lost));
    let (lane, item) = (LaneKey(0), ItemKey(1));
    let patient = Arrival { expires: lost + MS * 50, ..arrival(1, lost, None) };
    assert_eq!(scheduler.arrive(patient, lost - MS), []);
    assert_eq!(scheduler.tick(lost), [Action::Abandon { lane }]);
    assert_eq!((scheduler.lanes(), scheduler.lost()), ([0, 0, 1], vec![lane]));
    assert_eq!(scheduler.ran(lane, lost), [], "too late: its place is taken");
    let run = Action::Run { lane, model: ModelKey(0), items: vec![item], closed: Closed::Full };
    assert_eq!(scheduler.replaced(lane, lost), [run]);
}

/// Two models, asked for so many items of 10 ms a second each: what is let in, in core seconds.
fn shares(weights: [u32; 2], per_second: [u32; 2]) -> [f64; 2] {
    let start = Instant::now();
    let mut scheduler = Scheduler::new(1);
    for (key, weight) in (0..).zip(weights) {
        scheduler.add_model(ModelKey(key), on_cores(1, Some(1), Terms { weight, ..TERMS }));
    }
    let (mut free_at, mut admitted) = (None, [0.0; 2]);
    for at in 0..20_000_u32 {
        let now = start + MS * at;
        let mut actions = Vec::new();
        if free_at.take_if(|it| *it == at).is_some() {
            actions = scheduler.ran(LaneKey(0), now);
        }
        for (model, rate) in (0..2).zip(per_second) {
            let key = u64::from(at) * 2 + u64::try_from(model).unwrap();
            let model_key = ModelKey(u32::try_from(model).unwrap());
            let item = Arrival { model: model_key, ..arrival(key, now, None) };
            let is_due = at * rate / 1000 != (at + 1) * rate / 1000;
            if is_due && scheduler.judge(&candidate(&item), now).is_ok() {
                // The first seconds are the burst's.
                admitted[model] += if at < 4_000 { 0.0 } else { item.cost().total().as_secs_f64() };
                actions.extend(scheduler.arrive(item, now));
            }
        }
        for action in actions {
            assert!(matches!(action, Action::Run { .. }), "{action:?}");
            free_at = Some(at + 10);
        }
    }
    admitted
}

#[test]
fn models_asked_for_too_much_share_by_weight() {
    for (weights, per_second, expected) in [
        ([1, 1], [200, 200], [8.0, 8.0]),
        ([1, 1], [500, 100], [8.0, 8.0]),
        ([3, 1], [200, 200], [12.0, 4.0]),
        // One asks for less than its half: it gets nearly all of it, and the other the rest.
        ([1, 1], [300, 20], [12.8, 3.2]),
        ([1, 1], [300, 0], [16.0, 0.0]),
    ] {
        let found = shares(weights, per_second);
        let near = |(a, b): (&f64, &f64)| (a - b).abs() < 0.6;
        let all_near = found.iter().zip(&expected).all(near);
        assert!(all_near, "{weights:?} {per_second:?}: {found:?}, not {expected:?}");
    }
}

/// One core, one accelerator with one lane, and a model on it.
fn with_accelerator(max_batch: usize) -> Scheduler {
    let mut scheduler = Scheduler::new(1);
    scheduler.add_lane(Site::Device(0));
    let service = on_cores(max_batch, None, TERMS);
    let placement = Placement::Devices(vec![0]);
    scheduler.add_model(ModelKey(0), Service { placement, ..service });
    scheduler
}

#[test]
fn an_accelerator_takes_what_is_ready_while_the_core_decodes_ahead() {
    let now = Instant::now();
    let mut scheduler = with_accelerator(2);
    let (core, device) = (LaneKey(0), LaneKey(1));
    let decode = |item| Action::Decode { lane: core, item: ItemKey(item) };
    let run = |items: &[u64], closed| {
        let items = items.iter().map(|it| ItemKey(*it)).collect();
        Action::Run { lane: device, model: ModelKey(0), items, closed }
    };
    assert_eq!(scheduler.arrive(arrival(0, now, Some(MS)), now), [decode(0)]);
    for item in 1..6 {
        assert_eq!(scheduler.arrive(arrival(item, now, Some(MS)), now), []);
    }
    let first = scheduler.decoded(core, true, now);
    assert_eq!(first, [run(&[0], Closed::Drained), decode(1)], "it does not wait for a full run");
    assert_eq!(scheduler.decoded(core, true, now), [decode(2)]);
    assert_eq!(scheduler.decoded(core, true, now), [], "one run ahead is enough");
    assert_eq!(scheduler.ran(device, now), [run(&[1, 2], Closed::Full), decode(3)]);
}

#[test]
fn what_is_run_on_an_accelerator_waits_for_the_slower_of_both() {
    let now = Instant::now();
    let wait = |decode: Duration, runs: Duration| {
        let mut scheduler = with_accelerator(1);
        for item in 0..10 {
            let item = Arrival { run: runs, ..arrival(item, now, Some(decode)) };
            scheduler.arrive(item, now);
        }
        scheduler.predicted_wait(ModelKey(0), now)
    };
    assert_eq!(wait(MS * 7, MS * 2), MS * 70, "ten are to be decoded");
    assert_eq!(wait(MS, MS * 20), MS * 180, "nine are to be run, behind the one being decoded");
}

#[test]
fn work_on_the_cores_does_not_wait_for_that_of_an_accelerator() {
    let now = Instant::now();
    let mut scheduler = with_accelerator(1);
    scheduler.add_model(ModelKey(1), on_cores(1, None, TERMS));
    for item in 0..10 {
        scheduler.arrive(arrival(item, now, None), now);
    }
    assert_eq!(scheduler.predicted_wait(ModelKey(0), now), MS * 100);
    assert_eq!(scheduler.predicted_wait(ModelKey(1), now), Duration::ZERO);
    let on_cores = Arrival { model: ModelKey(1), ..arrival(10, now, None) };
    let actions = scheduler.arrive(on_cores, now);
    assert!(matches!(actions[..], [Action::Run { lane: LaneKey(0), .. }]), "{actions:?}");
}
