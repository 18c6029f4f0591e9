//! Many models of which one is asked: does the crowd cost it anything?

use anyhow::Result;
use linesight::onnx::Environment;
use serde::Serialize;

use crate::{
    sharing::{drive, load, made_model, row},
    stats::median,
    window::Window,
};

const MODEL: &str = "small_mlp";
const WIDTH: usize = 512;
pub const MODELS: usize = 100;
/// Callers for each lane.
const CALLERS: usize = 8;

/// Items a second, medians over the rounds.
#[derive(Debug, Serialize)]
pub struct Crowd {
    pub model_bytes: u64,
    pub alone_per_second: f64,
    pub in_crowd_per_second: f64,
    pub to_alone: f64,
    rounds: Vec<(f64, f64)>,
}

pub fn measure(environment: &Environment, n_lanes: usize, plan: (usize, Window)) -> Result<Crowd> {
    let (n_rounds, window) = plan;
    let onnx = made_model(MODEL)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let repository = |n: usize| -> Result<tempfile::TempDir> {
        let folder = tempfile::tempdir()?;
        for at in 0..n {
            std::fs::copy(&onnx, folder.path().join(format!("m{at}.onnx")))?;
        }
        Ok(folder)
    };
    let (one, many) = (repository(1)?, repository(MODELS)?);
    let (alone, _lanes_of_one) = load(environment, one.path(), "m0", n_lanes, &runtime)?;
    let (hot, _lanes_of_many) = load(environment, many.path(), "m0", n_lanes, &runtime)?;
    let row = row(&[1, WIDTH])?;
    // The same limit for both, so that it is not the trial at load that is compared.
    hot.lanes.set_batching((*alone.lanes.batching()).clone());
    let mut rounds = Vec::new();
    for round in 0..n_rounds {
        let turn =
            |model| anyhow::Ok(runtime.block_on(drive(model, &row, n_lanes * CALLERS, window))?.0);
        // Two turns with one and the same model differ by a tenth, so there are many, and each is
        // first in half of them.
        rounds.push(if round % 2 == 0 {
            (turn(&alone)?, turn(&hot)?)
        } else {
            let in_crowd = turn(&hot)?;
            (turn(&alone)?, in_crowd)
        });
    }
    let over =
        |value: &dyn Fn(&(f64, f64)) -> f64| median(&rounds.iter().map(value).collect::<Vec<_>>());
    Ok(Crowd {
        model_bytes: std::fs::metadata(&onnx)?.len(),
        alone_per_second: over(&|it| it.0),
        in_crowd_per_second: over(&|it| it.1),
        to_alone: over(&|it| it.1 / it.0),
        rounds,
    })
}
