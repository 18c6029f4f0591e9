//! Rows that are ready, through the lanes as a caller of the library has them, against sessions in
//! process: what queueing costs, and nothing else.

use std::path::Path;

use anyhow::Result;
use linesight::onnx::Environment;
use serde::Serialize;

use crate::{
    floor::Floor,
    sharing::{drive, load, row},
    stats::{mean, median},
    subject::MODEL_NAME,
    window::Window,
};

/// Callers for each lane.
const CALLERS: usize = 4;

/// Medians over the rounds.
#[derive(Debug, Serialize)]
pub struct Tensors {
    pub floor_per_second: f64,
    pub per_second: f64,
    pub to_raw_floor: f64,
    rounds: Vec<(f64, f64, f64)>,
}

pub fn measure(
    environment: &Environment,
    floor: &mut Floor<'_>,
    n_lanes: usize,
    plan: (usize, Window),
) -> Result<Tensors> {
    let (n_rounds, window) = plan;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let (model, _batcher) = load(environment, Path::new("models"), MODEL_NAME, n_lanes, &runtime)?;
    let shape = model.signature.inputs.first().map(|it| it.shape.clone()).unwrap_or_default();
    let shape: Vec<usize> = shape.iter().map(|it| it.unwrap_or(1)).collect();
    let row = row(&shape)?;
    let mut rounds = Vec::new();
    let mut before = floor.runs(window)?.per_second;
    for _ in 0..n_rounds {
        let (ours, _) = runtime.block_on(drive(&model, &row, n_lanes * CALLERS, window))?;
        let after = floor.runs(window)?.per_second;
        rounds.push((before, ours, after));
        before = after;
    }
    let over = |value: &dyn Fn(&(f64, f64, f64)) -> f64| {
        median(&rounds.iter().map(value).collect::<Vec<_>>())
    };
    Ok(Tensors {
        floor_per_second: over(&|it| mean(&[it.0, it.2])),
        per_second: over(&|it| it.1),
        to_raw_floor: over(&|it| it.1 / mean(&[it.0, it.2])),
        rounds,
    })
}
