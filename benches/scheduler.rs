//! What the scheduler and the lanes cost an item when the model costs nothing:
//! `cargo bench --bench scheduler`.

use std::{hint::black_box, num::NonZeroUsize, sync::Arc, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::join_all;
use linesight::{
    batch::{
        Batcher, Batching, Bounds, Class, ExecuteError, Executor, Feed, Input, ModelHandle,
        ModelSpec, Placement, Program, Request, Site, Terms,
    },
    metrics::Metrics,
    types::{Instant, NamedTensor, Tensor, TensorData},
};

const FAR: Duration = Duration::from_secs(600);

/// A model that answers at once with what it was asked.
#[derive(Debug)]
struct Echo;

impl Program for Echo {
    fn open(&self, _site: Site) -> Result<Box<dyn Executor>, ExecuteError> {
        Ok(Box::new(Self))
    }
}

impl Executor for Echo {
    fn execute(
        &mut self,
        inputs: &[Feed<'_>],
        outputs: &[Arc<str>],
    ) -> Result<Vec<NamedTensor>, ExecuteError> {
        let feed = inputs.first().ok_or_else(|| ExecuteError("no input".to_owned()))?;
        let TensorData::F32(data) = feed.data else {
            return Err(ExecuteError("not f32".to_owned()));
        };
        let tensor = Tensor::new(feed.shape.to_vec(), data.clone());
        let tensor = tensor.map_err(|it| ExecuteError(it.to_string()))?;
        Ok(outputs
            .iter()
            .map(|name| NamedTensor { name: Arc::clone(name), tensor: tensor.clone() })
            .collect())
    }
}

fn model(batcher: &Batcher, max_batch: usize) -> ModelHandle {
    let cost = Duration::from_micros(1);
    batcher.register(ModelSpec {
        placement: Placement::Cores,
        label: "echo".to_owned(),
        program: Arc::new(Echo),
        image: None,
        batching: Batching { max_batch, run_times: vec![(1, cost), (max_batch.max(2), cost)] },
        max_lanes: None,
        terms: Terms::new(FAR, FAR),
        metrics: None,
    })
}

fn request(name: &Arc<str>, outputs: &Arc<[Arc<str>]>) -> Request {
    let tensor = Tensor::new(vec![1, 4], vec![0.5; 4]).expect("four elements");
    Request {
        input: Input::Tensors(vec![NamedTensor { name: Arc::clone(name), tensor }]),
        outputs: Arc::clone(outputs),
        class: Class::Normal,
        bounds: Bounds::until(Instant::now() + FAR),
    }
}

fn scheduler(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let lanes = NonZeroUsize::new(2).expect("two is not zero");
    let batcher = Batcher::start(lanes, Metrics::new()).expect("threads");
    let name: Arc<str> = Arc::from("x");
    let outputs: Arc<[Arc<str>]> = Arc::from([Arc::from("y")]);
    let mut group = c.benchmark_group("scheduler");
    for (what, at_once, max_batch) in [
        ("an item alone, there and back", 1, 1),
        ("64 at once, one a run", 64, 1),
        ("64 at once, up to 32 a run", 64, 32),
        ("1024 at once, one a run", 1024, 1),
        ("1024 at once, up to 32 a run", 1024, 32),
    ] {
        let model = model(&batcher, max_batch);
        group.throughput(Throughput::Elements(at_once));
        group.bench_function(what, |b| {
            b.iter(|| {
                let ask = |_| model.infer(request(&name, &outputs));
                black_box(runtime.block_on(join_all((0..at_once).map(ask))))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, scheduler);
criterion_main!(benches);
