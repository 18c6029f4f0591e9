//! The scheduler against random days: a discrete-event simulation that checks its promises.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use proptest::prelude::*;

use super::{Admission, Candidate, Scheduler, Terms};
use crate::{
    batch::{
        event::{Action, Arrival, ItemKey, LaneKey, ModelKey},
        job::BatchKey,
    },
    types::Instant,
};

const MS: Duration = Duration::from_millis(1);
const TERMS: Terms =
    Terms { target: Duration::from_millis(600), burst: Duration::from_millis(600) };

/// One item of a simulated day.
#[derive(Debug, Clone)]
struct Plan {
    at_ms: u32,
    model: u32,
    key: u8,
    rows: usize,
    decode_ms: Option<u32>,
    decodes_well: bool,
    limit_ms: u32,
    /// The caller leaves this long after arriving.
    leaves_after_ms: Option<u32>,
}

#[derive(Debug, Clone)]
struct Day {
    n_lanes: usize,
    /// `(max_batch, max_lanes)` by model.
    models: Vec<(usize, usize)>,
    items: Vec<Plan>,
}

fn plans() -> impl Strategy<Value = Plan> {
    let decode = prop::option::of(0_u32..6);
    let leaves = prop::option::weighted(0.2, 0_u32..60);
    (0_u32..400, 0_u32..3, 0_u8..2, 1_usize..5, decode, 0_u8..10, 1_u32..120, leaves).prop_map(
        |(at_ms, model, key, rows, decode_ms, luck, limit_ms, leaves_after_ms)| Plan {
            at_ms,
            model,
            key,
            rows,
            decode_ms,
            decodes_well: luck > 0,
            limit_ms,
            leaves_after_ms,
        },
    )
}

fn days() -> impl Strategy<Value = Day> {
    let models = prop::collection::vec((1_usize..9, 1_usize..4), 3);
    (1_usize..5, models, prop::collection::vec(plans(), 1..120))
        .prop_map(|(n_lanes, models, items)| Day { n_lanes, models, items })
}

/// What will happen, in order of time; at equal times in order of this enum's making.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    LaneDone(usize),
    Leaves(u64),
    Arrives(u64),
    Tick,
}

/// The world around the scheduler: lanes that take their time, callers that leave, a clock.
struct World<'a> {
    day: &'a Day,
    scheduler: Scheduler,
    start: Instant,
    agenda: BTreeMap<(u32, u64), Event>,
    serial: u64,
    busy: HashMap<usize, Action>,
    fate: HashMap<u64, &'static str>,
    decoded: HashSet<u64>,
    last_run: HashMap<(u32, u8), (u32, u64)>,
}

impl<'a> World<'a> {
    fn new(day: &'a Day) -> Self {
        let mut scheduler = Scheduler::new(day.n_lanes);
        for (key, (max_batch, max_lanes)) in (0..).zip(&day.models) {
            scheduler.add_model(ModelKey(key), *max_batch, *max_lanes, TERMS);
        }
        let mut world = Self {
            day,
            scheduler,
            start: Instant::now(),
            agenda: BTreeMap::new(),
            serial: 0,
            busy: HashMap::new(),
            fate: HashMap::new(),
            decoded: HashSet::new(),
            last_run: HashMap::new(),
        };
        for (item, plan) in (0..).zip(&day.items) {
            world.plan(plan.at_ms, Event::Arrives(item));
            world.plan(plan.at_ms + plan.limit_ms, Event::Tick);
            if let Some(after) = plan.leaves_after_ms {
                world.plan(plan.at_ms + after, Event::Leaves(item));
            }
        }
        world
    }

    fn plan(&mut self, at_ms: u32, event: Event) {
        self.agenda.insert((at_ms, self.serial), event);
        self.serial += 1;
    }

    fn instant(&self, at_ms: u32) -> Instant {
        self.start + MS * at_ms
    }

    fn end(&mut self, item: u64, fate: &'static str) {
        let before = self.fate.insert(item, fate);
        assert_eq!(before, None, "item {item} ended twice: {fate}");
    }

    fn run(mut self) -> HashMap<u64, &'static str> {
        while let Some(((at_ms, _), event)) = self.agenda.pop_first() {
            let now = self.instant(at_ms);
            let actions = match event {
                Event::Arrives(item) => self.arrive(item, now),
                Event::Tick => self.scheduler.tick(now),
                Event::Leaves(item) => {
                    if !self.fate.contains_key(&item) && self.scheduler.is_wanted(ItemKey(item)) {
                        self.scheduler.cancel(ItemKey(item));
                        self.end(item, "left");
                    }
                    Vec::new()
                }
                Event::LaneDone(lane) => self.lane_done(lane, now),
            };
            self.carry_out(actions, at_ms);
            self.check_no_lane_idles_beside_work();
        }
        assert_eq!(self.scheduler.n_items(), 0, "everything has left");
        self.fate
    }

    fn arrive(&mut self, item: u64, now: Instant) -> Vec<Action> {
        let plan = &self.day.items[usize::try_from(item).unwrap()];
        let arrival = Arrival {
            item: ItemKey(item),
            model: ModelKey(plan.model),
            batch_key: BatchKey::named(if plan.key == 0 { "a" } else { "b" }),
            rows: plan.rows,
            decode: plan.decode_ms.map(|it| MS * it),
            run: MS * 3,
            aim: now + MS * 50,
            expires: now + MS * plan.limit_ms,
        };
        self.scheduler.arrive(arrival, now)
    }

    fn lane_done(&mut self, lane: usize, now: Instant) -> Vec<Action> {
        match self.busy.remove(&lane).expect("a lane ends what it began") {
            Action::Decode { item, .. } => {
                let ok = self.day.items[usize::try_from(item.0).unwrap()].decodes_well;
                let wanted = self.scheduler.is_wanted(item);
                if ok {
                    self.decoded.insert(item.0);
                } else if wanted {
                    self.end(item.0, "undecodable");
                }
                self.scheduler.decoded(LaneKey(lane), ok, now)
            }
            Action::Run { items, .. } => {
                for item in items {
                    if self.scheduler.is_wanted(item) {
                        self.end(item.0, "answered");
                    }
                }
                self.scheduler.ran(LaneKey(lane), now)
            }
            Action::Expire { .. } => unreachable!("lanes do not expire items"),
        }
    }

    fn carry_out(&mut self, actions: Vec<Action>, at_ms: u32) {
        for action in actions {
            match &action {
                Action::Expire { item } => {
                    let plan = &self.day.items[usize::try_from(item.0).unwrap()];
                    assert!(at_ms >= plan.at_ms + plan.limit_ms, "expired early");
                    self.end(item.0, "expired");
                }
                Action::Decode { lane, item } => {
                    let plan = &self.day.items[usize::try_from(item.0).unwrap()];
                    let took = plan.decode_ms.expect("only compressed items are decoded");
                    assert!(!self.decoded.contains(&item.0), "decoded twice");
                    self.occupy(*lane, action.clone(), at_ms + took.max(1));
                }
                Action::Run { lane, model, items } => {
                    self.check_run(*model, items);
                    self.occupy(*lane, action.clone(), at_ms + 3);
                }
            }
        }
    }

    fn occupy(&mut self, lane: LaneKey, action: Action, until_ms: u32) {
        assert!(self.busy.insert(lane.0, action).is_none(), "a lane does one thing at a time");
        self.plan(until_ms, Event::LaneDone(lane.0));
    }

    fn check_run(&mut self, model: ModelKey, items: &[ItemKey]) {
        let (max_batch, max_lanes) = self.day.models[model.0 as usize];
        let of = |it: &ItemKey| &self.day.items[usize::try_from(it.0).unwrap()];
        let rows: usize = items.iter().map(|it| of(it).rows).sum();
        assert!(rows <= max_batch || items.len() == 1, "{rows} rows in a run of {max_batch}");
        assert!(items.iter().all(|it| of(it).key == of(&items[0]).key), "keys were mixed");
        assert!(items.iter().all(|it| of(it).model == model.0), "models were mixed");
        for item in items {
            let plan = of(item);
            assert!(plan.decode_ms.is_none() || self.decoded.contains(&item.0), "not decoded");
            assert!(self.scheduler.is_wanted(*item), "ran an item nobody waits for");
        }
        let running =
            |it: &&Action| matches!(it, Action::Run { model: other, .. } if *other == model);
        assert!(self.busy.values().filter(running).count() < max_lanes, "too many lanes");
        // Items that need no decoding run in the order they came: decoding may let others pass.
        for item in items.iter().filter(|it| of(it).decode_ms.is_none()) {
            let plan = of(item);
            let place = (plan.at_ms, item.0);
            let last = self.last_run.insert((model.0, plan.key), place);
            assert!(last.is_none_or(|it| it < place), "overtaken: {last:?} before {place:?}");
        }
    }

    fn check_no_lane_idles_beside_work(&self) {
        if self.busy.len() == self.day.n_lanes {
            return;
        }
        for (model, (_, max_lanes)) in (0..).zip(&self.day.models) {
            let running =
                |it: &&Action| matches!(it, Action::Run { model: other, .. } if other.0 == model);
            let at_limit = self.busy.values().filter(running).count() >= *max_lanes;
            let waiting = self.scheduler.waiting(ModelKey(model));
            assert!(waiting == 0 || at_limit, "{waiting} wait beside an idle lane");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_item_of_any_day_ends_exactly_once(day in days()) {
        let fates = World::new(&day).run();
        prop_assert_eq!(fates.len(), day.items.len());
    }
}

fn arrival(item: u64, now: Instant, decode: Option<Duration>) -> Arrival {
    Arrival {
        item: ItemKey(item),
        model: ModelKey(0),
        batch_key: BatchKey::named("a"),
        rows: 1,
        decode,
        run: MS * 10,
        aim: now + MS * 600,
        expires: now + MS * 3000,
    }
}

#[test]
fn the_lane_that_decoded_runs_what_it_decoded() {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(2);
    scheduler.add_model(ModelKey(0), 1, 2, TERMS);
    let (first, second) = (LaneKey(0), LaneKey(1));
    let decode = |lane, item| vec![Action::Decode { lane, item: ItemKey(item) }];
    let run =
        |lane, item| vec![Action::Run { lane, model: ModelKey(0), items: vec![ItemKey(item)] }];
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
    scheduler.add_model(ModelKey(0), 4, 1, TERMS);
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
    scheduler.add_model(ModelKey(0), 1, 2, TERMS);
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
    assert!(scheduler.cancel(ItemKey(5)));
    assert_eq!(wait(&scheduler, later), MS * 15);
}

#[test]
fn a_model_that_may_have_one_lane_waits_for_that_lane() {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(4);
    scheduler.add_model(ModelKey(0), 1, 1, TERMS);
    for item in 0..5 {
        scheduler.arrive(arrival(item, now, None), now);
    }
    // One runs; four of 10 ms wait for the same lane, though three others are idle.
    assert_eq!(scheduler.predicted_wait(ModelKey(0), now), MS * 40);
}

#[test]
fn lasting_overload_is_refused_down_to_what_is_answered_within_the_target() {
    let start = Instant::now();
    let mut scheduler = Scheduler::new(1);
    scheduler.add_model(ModelKey(0), 1, 1, TERMS);
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
        let candidate = Candidate {
            model: ModelKey(0),
            cost: item.cost(),
            aim: item.aim,
            reserve: Duration::ZERO,
            expires: item.expires,
        };
        if at % 5 == 0 && scheduler.judge(&candidate, now) == Admission::Admitted {
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
    assert_eq!(scheduler.lanes(), (0, 1), "and the lane is never idle");
}

#[test]
fn waits_that_take_longer_than_predicted_are_predicted_longer() {
    let start = Instant::now();
    let mut scheduler = Scheduler::new(1);
    scheduler.add_model(ModelKey(0), 1, 1, TERMS);
    // Ten of 10 ms wait behind one; each takes 15.
    let mut now = start;
    for item in 0..400 {
        scheduler.arrive(arrival(item, now, None), now);
        if item >= 10 {
            now += MS * 15;
            scheduler.ran(LaneKey(0), now);
        }
    }
    let predicted = scheduler.predicted_wait(ModelKey(0), now);
    assert!((MS * 145..=MS * 165).contains(&predicted), "{predicted:?}");
}
