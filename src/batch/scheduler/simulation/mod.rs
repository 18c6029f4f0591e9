//! The scheduler against random days: a discrete-event simulation that checks its promises.
//!
//! Items of several models arrive at random, of random sizes, kinds and patience; some callers leave,
//! some pictures cannot be decoded, some runs fail, some never come back, of which some can be ended.

mod day;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::Duration,
};

use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};

use self::day::{Day, Luck, Model, Plan, days, plans};
use super::{Candidate, Scheduler, Service, Terms};
use crate::{
    batch::{
        event::{Action, Arrival, Class, ItemKey, LaneKey, ModelKey},
        job::BatchKey,
        site::{Placement, Site},
    },
    types::Instant,
};

const MS: Duration = Duration::from_millis(1);
const LIMIT_MS: u32 = 120;
/// How long a lane takes to be replaced.
const REPLACED_AFTER_MS: u32 = 5;

/// What will happen, in order of time; at equal times in order of its planning.
#[derive(Debug, Clone)]
enum Event {
    LaneDone(usize),
    LaneReplaced(usize),
    Leaves(u64),
    Arrives(u64),
    Tick,
}

/// What a lane is at.
#[derive(Debug)]
struct Work {
    action: Action,
    began_ms: u32,
    /// Tells this work's end from that of another on the same lane.
    ends: Option<u64>,
}

/// The world around the scheduler: lanes that take their time, callers that leave, a clock.
struct World<'a> {
    day: &'a Day,
    scheduler: Scheduler,
    start: Instant,
    agenda: BTreeMap<(u32, u64), Event>,
    serial: u64,
    /// When the scheduler has asked to be called.
    ticks: HashSet<u32>,
    busy: HashMap<usize, Work>,
    lost: HashSet<usize>,
    fate: HashMap<u64, &'static str>,
    decoded: HashSet<u64>,
    /// Let in, and not ended.
    present: BTreeSet<u64>,
    last_run: HashMap<(u32, u8), (u32, u64)>,
}

impl<'a> World<'a> {
    fn new(day: &'a Day) -> Self {
        let terms = Terms::new(MS * 60, MS * LIMIT_MS);
        let mut scheduler = Scheduler::default();
        day.lanes.iter().for_each(|site| scheduler.add_lane(*site));
        for (key, model) in (0..).zip(&day.models) {
            let Model { placement, max_batch, max_lanes } = model.clone();
            let max_lanes = Some(max_lanes);
            let service = Service { placement, max_batch, max_lanes, terms };
            scheduler.add_model(ModelKey(key), service);
        }
        let mut world = Self {
            day,
            scheduler,
            start: Instant::now(),
            agenda: BTreeMap::new(),
            serial: 0,
            ticks: HashSet::new(),
            busy: HashMap::new(),
            lost: HashSet::new(),
            fate: HashMap::new(),
            decoded: HashSet::new(),
            present: BTreeSet::new(),
            last_run: HashMap::new(),
        };
        for (item, plan) in (0..).zip(&day.items) {
            world.plan(plan.at_ms, Event::Arrives(item));
            if let Some(after) = plan.leaves_after_ms {
                world.plan(plan.at_ms + after, Event::Leaves(item));
            }
        }
        world
    }

    fn plan(&mut self, at_ms: u32, event: Event) -> u64 {
        let serial = self.serial;
        self.agenda.insert((at_ms, serial), event);
        self.serial += 1;
        serial
    }

    fn of(&self, item: ItemKey) -> &'a Plan {
        &self.day.items[usize::try_from(item.0).unwrap()]
    }

    fn end(&mut self, item: u64, fate: &'static str) {
        self.present.remove(&item);
        let before = self.fate.insert(item, fate);
        assert_eq!(before, None, "item {item} ended twice: {fate}");
    }

    fn run(mut self) -> HashMap<u64, &'static str> {
        while let Some(((at_ms, serial), event)) = self.agenda.pop_first() {
            let now = self.start + MS * at_ms;
            // As the glue does: whatever happens, what is due comes first.
            let due = self.scheduler.tick(now);
            self.carry_out(due, at_ms);
            let actions = match event {
                Event::Arrives(item) => self.arrive(item, now),
                Event::Tick => Vec::new(),
                Event::Leaves(item) => {
                    let left = self.scheduler.is_wanted(ItemKey(item));
                    if left {
                        self.end(item, "left");
                    }
                    self.scheduler.cancel(ItemKey(item), now)
                }
                Event::LaneDone(lane) => self.lane_done(lane, serial, at_ms),
                Event::LaneReplaced(lane) => {
                    self.lost.remove(&lane);
                    self.scheduler.replaced(LaneKey(lane), now)
                }
            };
            self.carry_out(actions, at_ms);
            self.check_no_lane_idles_beside_work();
            if let Some(next) = self.scheduler.next_tick() {
                let next = next.saturating_duration_since(self.start).as_millis();
                let next_ms = u32::try_from(next).unwrap();
                if self.ticks.insert(next_ms) {
                    assert!(next_ms > at_ms, "what is due has been done");
                    self.plan(next_ms, Event::Tick);
                }
            }
        }
        assert_eq!(self.scheduler.n_items(), 0, "everything has left");
        assert_eq!(self.scheduler.lanes(), [self.day.lanes.len(), 0, 0], "every lane is back");
        self.fate
    }

    fn arrive(&mut self, item: u64, now: Instant) -> Vec<Action> {
        let plan = self.of(ItemKey(item));
        let arrival = Arrival {
            item: ItemKey(item),
            model: ModelKey(plan.model),
            class: plan.class,
            batch_key: BatchKey::named(if plan.key == 0 { "a" } else { "b" }),
            rows: plan.rows,
            decode: plan.decode_ms.map(|it| MS * it),
            // What is foretold is not what comes.
            run: MS * 3,
            aim: now + MS * 60,
            expires: now + MS * plan.limit_ms,
        };
        let candidate = Candidate {
            model: arrival.model,
            class: plan.class,
            cost: arrival.cost(),
            aim: arrival.aim,
            reserve: MS * 2,
            expires: arrival.expires,
        };
        if self.scheduler.judge(&candidate, now).is_ok() {
            self.present.insert(item);
            return self.scheduler.arrive(arrival, now);
        }
        let Model { placement, max_lanes, .. } = &self.day.models[plan.model as usize];
        let no_core = plan.decode_ms.is_some() && self.idle(&Placement::Cores).is_none();
        let full = self.n_running(ModelKey(plan.model)) >= *max_lanes;
        let no_lane = self.idle(placement).is_none();
        assert!(no_core || no_lane || full, "refused beside an idle lane");
        self.end(item, "refused");
        Vec::new()
    }

    fn lane_done(&mut self, lane: usize, serial: u64, at_ms: u32) -> Vec<Action> {
        if self.busy.get(&lane).is_none_or(|it| it.ends != Some(serial)) {
            // Given up meanwhile, or ended before.
            return Vec::new();
        }
        let now = self.start + MS * at_ms;
        match self.busy.remove(&lane).unwrap().action {
            Action::Decode { item, .. } => {
                let ok = self.of(item).luck != Luck::Unreadable;
                if ok {
                    self.decoded.insert(item.0);
                } else if self.scheduler.is_wanted(item) {
                    self.end(item.0, "undecodable");
                }
                self.scheduler.decoded(LaneKey(lane), ok, now)
            }
            Action::Run { items, .. } => {
                for item in items {
                    if self.scheduler.is_wanted(item) {
                        let plan = self.of(item);
                        assert!(at_ms < plan.at_ms + plan.limit_ms, "answered after its limit");
                        self.end(item.0, "answered");
                    }
                }
                self.scheduler.ran(LaneKey(lane), now)
            }
            other @ (Action::Expire { .. } | Action::Terminate { .. } | Action::Abandon { .. }) => {
                unreachable!("lanes do not {other:?}")
            }
        }
    }

    fn carry_out(&mut self, actions: Vec<Action>, at_ms: u32) {
        for action in actions {
            match &action {
                Action::Expire { item } => {
                    let plan = self.of(*item);
                    assert_eq!(at_ms, plan.at_ms + plan.limit_ms, "expired too early or too late");
                    self.end(item.0, "expired");
                }
                Action::Decode { lane, item } => {
                    assert_eq!(self.day.lanes[lane.0], Site::Core, "only cores decode");
                    let took = self.of(*item).decode_ms.expect("only the compressed are decoded");
                    assert!(!self.decoded.contains(&item.0), "decoded twice");
                    self.occupy(*lane, &action, at_ms, Some(took.max(1)));
                }
                Action::Run { lane, model, items, .. } => {
                    self.check_run(*lane, *model, items);
                    let any = |luck| items.iter().any(|it| self.of(*it).luck == luck);
                    let (stuck, endless) = (any(Luck::Stuck), any(Luck::Endless));
                    let took = items.iter().map(|it| self.of(*it).run_ms).max();
                    let took = took.filter(|_| !stuck && !endless);
                    self.occupy(*lane, &action, at_ms, took);
                }
                Action::Terminate { lane } => {
                    let ends = self.plan(at_ms + 1, Event::LaneDone(lane.0));
                    let work = &self.busy[&lane.0];
                    let Action::Run { items, .. } = &work.action else { panic!("not a run") };
                    let wanted = |it: &ItemKey| self.scheduler.is_wanted(*it);
                    assert!(!items.iter().any(wanted), "somebody waits for it");
                    if !items.iter().any(|it| self.of(*it).luck == Luck::Stuck) {
                        self.busy.entry(lane.0).and_modify(|it| it.ends = Some(ends));
                    }
                }
                Action::Abandon { lane } => {
                    let work = self.busy.remove(&lane.0).expect("it is at work");
                    assert_eq!(at_ms, work.began_ms + 2 * LIMIT_MS, "given up early or late");
                    self.lost.insert(lane.0);
                    self.plan(at_ms + REPLACED_AFTER_MS, Event::LaneReplaced(lane.0));
                }
            }
        }
    }

    fn occupy(&mut self, lane: LaneKey, action: &Action, began_ms: u32, took_ms: Option<u32>) {
        let ends = took_ms.map(|it| self.plan(began_ms + it, Event::LaneDone(lane.0)));
        assert!(!self.lost.contains(&lane.0), "a lane that was given up does nothing");
        let work = Work { action: action.clone(), began_ms, ends };
        assert!(self.busy.insert(lane.0, work).is_none(), "a lane does one thing at a time");
    }

    fn n_running(&self, model: ModelKey) -> usize {
        let running =
            |it: &&Work| matches!(it.action, Action::Run { model: it, .. } if it == model);
        self.busy.values().filter(running).count()
    }

    fn check_run(&mut self, lane: LaneKey, model: ModelKey, items: &[ItemKey]) {
        let Model { placement, max_batch, max_lanes } = self.day.models[model.0 as usize].clone();
        assert!(placement.includes(self.day.lanes[lane.0]), "run where it may not");
        let of = |it: &ItemKey| &self.day.items[usize::try_from(it.0).unwrap()];
        let rows: usize = items.iter().map(|it| of(it).rows).sum();
        assert!(rows <= max_batch || items.len() == 1, "{rows} rows in a run of {max_batch}");
        assert!(items.iter().all(|it| of(it).key == of(&items[0]).key), "keys were mixed");
        assert!(items.iter().all(|it| of(it).model == model.0), "models were mixed");
        assert!(self.n_running(model) < max_lanes, "too many lanes");
        for item in items {
            let plan = of(item);
            assert!(plan.decode_ms.is_none() || self.decoded.contains(&item.0), "not decoded");
            assert!(self.scheduler.is_wanted(*item), "ran an item nobody waits for");
        }
        // Items that need no decoding run in the order they came: decoding may let others pass.
        let in_order = |it: &&ItemKey| of(it).decode_ms.is_none() && of(it).class == Class::Normal;
        for item in items.iter().filter(in_order) {
            let plan = of(item);
            let place = (plan.at_ms, item.0);
            let last = self.last_run.insert((model.0, plan.key), place);
            assert!(last.is_none_or(|it| it < place), "overtaken: {last:?} before {place:?}");
        }
    }

    fn idle(&self, placement: &Placement) -> Option<LaneKey> {
        let is_idle = |(at, site): &(usize, &Site)| {
            placement.includes(**site) && !self.busy.contains_key(at) && !self.lost.contains(at)
        };
        self.day.lanes.iter().enumerate().find(is_idle).map(|it| LaneKey(it.0))
    }

    fn check_no_lane_idles_beside_work(&self) {
        for (key, model) in (0..).map(ModelKey).zip(&self.day.models) {
            if self.n_running(key) >= model.max_lanes {
                continue;
            }
            let waiting = self.waiting(key);
            let is_ready =
                |it: &u64| self.decoded.contains(it) || self.of(ItemKey(*it)).decode_ms.is_none();
            let any_ready = waiting.iter().any(is_ready);
            let can_run = any_ready || (model.placement == Placement::Cores && !waiting.is_empty());
            let idle = self.idle(&model.placement);
            assert!(idle.is_none() || !can_run, "{waiting:?} beside the idle {idle:?}");
            // Cores decode for accelerators as far ahead as is worth it, and so for one that idles.
            let undecoded = !waiting.is_empty() && !any_ready;
            let core = self.idle(&Placement::Cores);
            assert!(core.is_none() || !undecoded, "{waiting:?} beside the idle {core:?}");
        }
    }

    /// The items of a model that are on no lane.
    fn waiting(&self, model: ModelKey) -> Vec<u64> {
        let mut on_lanes = HashSet::new();
        for work in self.busy.values() {
            match &work.action {
                Action::Decode { item, .. } => on_lanes.extend([item.0]),
                Action::Run { items, .. } => on_lanes.extend(items.iter().map(|it| it.0)),
                Action::Expire { .. } | Action::Terminate { .. } | Action::Abandon { .. } => {}
            }
        }
        let waits = |it: &&u64| self.of(ItemKey(**it)).model == model.0 && !on_lanes.contains(*it);
        let waiting: Vec<u64> = self.present.iter().filter(waits).copied().collect();
        assert_eq!(waiting.len(), self.scheduler.waiting(model), "{waiting:?}");
        waiting
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

#[test]
fn a_hundred_thousand_items_end_exactly_once() {
    let mut runner = TestRunner::deterministic();
    // Four lanes do some 1.4 items a millisecond; as many come, with rushes and lulls.
    let plans = prop::collection::vec(plans(70_000), 100_000);
    let mut items = plans.new_tree(&mut runner).unwrap().current();
    for it in &mut items {
        // Every other second is busier by half.
        it.at_ms = if it.at_ms % 4_000 < 1_000 { it.at_ms / 2 * 2 } else { it.at_ms };
    }
    items.sort_by_key(|it| it.at_ms);
    let models = [(1, 4), (8, 4), (4, 2)].map(|(max_batch, max_lanes)| Model {
        placement: Placement::Cores,
        max_batch,
        max_lanes,
    });
    let day = Day { lanes: vec![Site::Core; 4], models: models.into(), items };
    let fates = World::new(&day).run();
    assert_eq!(fates.len(), day.items.len());
    for fate in ["answered", "refused", "expired", "left", "undecodable"] {
        let n = fates.values().filter(|it| **it == fate).count();
        assert!(n > 1_000, "{n} {fate}: the day says little");
    }
}
