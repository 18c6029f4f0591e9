//! Random days: what arrives, how it fares, and what there is to run it.

use proptest::prelude::*;

use super::LIMIT_MS;
use crate::batch::{
    event::Class,
    site::{Placement, Site},
};

/// What becomes of an item's run, or of its decoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Luck {
    Well,
    /// Its picture cannot be decoded.
    Unreadable,
    /// Its run does not come back, but can be ended.
    Endless,
    /// Its run does not come back at all.
    Stuck,
}

/// One item of a simulated day.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) at_ms: u32,
    pub(super) model: u32,
    pub(super) class: Class,
    pub(super) key: u8,
    pub(super) rows: usize,
    pub(super) decode_ms: Option<u32>,
    pub(super) run_ms: u32,
    pub(super) luck: Luck,
    pub(super) limit_ms: u32,
    /// The caller leaves this long after arriving.
    pub(super) leaves_after_ms: Option<u32>,
}

#[derive(Debug, Clone)]
pub(super) struct Model {
    pub(super) placement: Placement,
    pub(super) max_batch: usize,
    pub(super) max_lanes: usize,
}

#[derive(Debug, Clone)]
pub(super) struct Day {
    /// Where each lane works.
    pub(super) lanes: Vec<Site>,
    pub(super) models: Vec<Model>,
    pub(super) items: Vec<Plan>,
}

pub(super) fn plans(length_ms: u32) -> impl Strategy<Value = Plan> {
    let decode = prop::option::of(0_u32..6);
    let leaves = prop::option::weighted(0.2, 0_u32..60);
    let what = (0_u32..3, prop::bool::weighted(0.05), 0_u8..2, 1_usize..5);
    let work = (decode, 1_u32..6, 0_u32..1000);
    (0..length_ms, what, work, 1_u32..=LIMIT_MS, leaves).prop_map(
        |(at_ms, (model, low, key, rows), (decode_ms, run_ms, luck), limit_ms, leaves_after_ms)| {
            let luck = match luck {
                0 => Luck::Stuck,
                1..3 => Luck::Endless,
                3..60 if decode_ms.is_some() => Luck::Unreadable,
                _ => Luck::Well,
            };
            let class = if low { Class::Low } else { Class::Normal };
            Plan {
                at_ms,
                model,
                class,
                key,
                rows,
                decode_ms,
                run_ms,
                luck,
                limit_ms,
                leaves_after_ms,
            }
        },
    )
}

pub(super) fn days() -> impl Strategy<Value = Day> {
    let placement = prop_oneof![
        2 => Just(Placement::Cores),
        1 => Just(Placement::Devices(vec![0])),
        1 => Just(Placement::Devices(vec![0, 1])),
    ];
    let model = (placement, 1_usize..9, 1_usize..4)
        .prop_map(|(placement, max_batch, max_lanes)| Model { placement, max_batch, max_lanes });
    let lanes = (1_usize..5, [1_usize..3, 1_usize..3]).prop_map(|(cores, devices)| {
        let of_device = |(device, n)| std::iter::repeat_n(Site::Device(device), n);
        let devices = (0..).zip(devices).flat_map(of_device);
        std::iter::repeat_n(Site::Core, cores).chain(devices).collect()
    });
    let models = prop::collection::vec(model, 3);
    (lanes, models, prop::collection::vec(plans(400), 1..120))
        .prop_map(|(lanes, models, items)| Day { lanes, models, items })
}
