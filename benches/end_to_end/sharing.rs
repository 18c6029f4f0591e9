//! What sharing runs gains where it is proven: a wide network through the library, with the batch
//! limit measured at load and with a limit of 1, in turns.

use std::{num::NonZeroUsize, path::Path, process::Command, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use linesight::{
    app,
    batch::{Batcher, Batching, Bounds, Input, Request},
    config::{Config, ConfigSources, RawConfig},
    metrics::Metrics,
    onnx::Environment,
    repository::{Catalog, Provision, ServingModel},
    types::{Instant, ModelRef, NamedTensor, Tensor},
};
use serde::Serialize;

use crate::{
    stats::{median, per_second, ratio},
    window::Window,
};

const MODEL: &str = "wide_mlp";
const WIDTH: u16 = 1024;
/// Callers for each lane: enough for the largest batch on it, and one more of them waiting.
pub const CALLERS: usize = 64;

/// One turn: items a second and rows a run.
#[derive(Debug, Clone, Copy, Serialize)]
struct Turn {
    shared_per_second: f64,
    shared_mean_batch: f64,
    single_per_second: f64,
}

/// The whole: medians over the rounds.
#[derive(Debug, Serialize)]
pub struct Sharing {
    pub model_bytes: u64,
    pub max_batch: usize,
    pub shared_per_second: f64,
    pub single_per_second: f64,
    pub gain: f64,
    pub mean_batch: f64,
    rounds: Vec<Turn>,
}

pub fn measure(
    environment: &Environment,
    n_lanes: usize,
    plan: (usize, Window),
) -> Result<Sharing> {
    let (n_rounds, window) = plan;
    let repository = tempfile::tempdir()?;
    let onnx = made_model()?;
    let model_bytes = std::fs::copy(onnx, repository.path().join(format!("{MODEL}.onnx")))?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let (model, _batcher) = load(environment, repository.path(), n_lanes, &runtime)?;
    let shared = (*model.lanes.batching()).clone();
    let single = Batching { max_batch: 1, ..shared.clone() };
    let mut rounds = Vec::new();
    for _ in 0..n_rounds {
        let turn = |batching: &Batching| {
            model.lanes.set_batching(batching.clone());
            runtime.block_on(drive(&model, n_lanes * CALLERS, window))
        };
        let ((shared_per_second, shared_mean_batch), (single_per_second, _)) =
            (turn(&shared)?, turn(&single)?);
        rounds.push(Turn { shared_per_second, shared_mean_batch, single_per_second });
    }
    let over = |value: &dyn Fn(&Turn) -> f64| median(&rounds.iter().map(value).collect::<Vec<_>>());
    Ok(Sharing {
        model_bytes,
        max_batch: shared.max_batch,
        shared_per_second: over(&|it| it.shared_per_second),
        single_per_second: over(&|it| it.single_per_second),
        gain: over(&|it| it.shared_per_second / it.single_per_second),
        mean_batch: over(&|it| it.shared_mean_batch),
        rounds,
    })
}

/// The lanes and the repository, put together as `serve` does, without HTTP.
fn load(
    environment: &Environment,
    root: &Path,
    n_lanes: usize,
    runtime: &tokio::runtime::Runtime,
) -> Result<(Arc<ServingModel>, Arc<Batcher>)> {
    let metrics = Metrics::new();
    let n_lanes = NonZeroUsize::new(n_lanes).context("no lanes")?;
    let batcher = Arc::new(Batcher::start(n_lanes, Arc::clone(&metrics))?);
    let catalog = Arc::new(Catalog::default());
    let flags = RawConfig::default();
    let config = Config::load(ConfigSources { flags, env: Vec::new(), file: None })?;
    let provision = Provision {
        root: root.to_path_buf(),
        only: None,
        config: app::load_config(&config),
        environment: environment.clone(),
        batcher: Arc::clone(&batcher),
        metrics,
        catalog: Arc::clone(&catalog),
    };
    provision.run(runtime.handle())?;
    let model = ModelRef { name: MODEL.parse()?, version: None };
    let model = catalog.resolve(&model).ok().context("the wide network is not served")?;
    Ok((model, batcher))
}

/// So many callers, each with one item at a time: items a second, and the mean rows of a run.
async fn drive(model: &ServingModel, callers: usize, window: Window) -> Result<(f64, f64)> {
    let from = Instant::now() + window.warm_up;
    let to = from + window.measured;
    let input = model.signature.inputs.first().context("no input")?;
    let output = model.signature.outputs.first().context("no output")?;
    let outputs: Arc<[Arc<str>]> = Arc::from([Arc::clone(&output.name)]);
    let row: Vec<f32> = (0..WIDTH).map(|it| (f32::from(it) * 0.37).sin()).collect();
    let caller = || async {
        let (mut items, mut runs) = (0_usize, 0.0);
        while Instant::now() < to {
            let tensor = Tensor::new(vec![1, row.len()], row.clone())?;
            let request = Request {
                input: Input::Tensors(vec![NamedTensor { name: Arc::clone(&input.name), tensor }]),
                outputs: Arc::clone(&outputs),
                bounds: Bounds::until(to + window.total() * 100),
            };
            let answer = model.lanes.infer(request).await?;
            let now = Instant::now();
            if from <= now && now < to {
                items += 1;
                runs += ratio(1, answer.batch_size);
            }
        }
        anyhow::Ok((items, runs))
    };
    let done = try_join_all((0..callers).map(|_| caller())).await?;
    let items: usize = done.iter().map(|it| it.0).sum();
    let runs: f64 = done.iter().map(|it| it.1).sum();
    Ok((per_second(items, window.measured), ratio(items, 1) / runs))
}

/// The network that the tests make, made again if they have not.
fn made_model() -> Result<std::path::PathBuf> {
    let folder = Path::new("target/test-models");
    let model = folder.join(format!("{MODEL}.onnx"));
    if !model.exists() {
        let venv = Path::new(".venv/bin/python");
        let python = if venv.exists() { venv } else { Path::new("python3") };
        let done = Command::new(python).arg("tests/models/make.py").arg(folder).status()?;
        ensure!(done.success(), "tests/models/make.py failed; `make bench` sets its Python up");
    }
    Ok(model)
}
