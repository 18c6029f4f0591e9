//! Items share runs where that is proven sound, and only there; each gets its own rows back.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use linesight::{
    batch::{Answer, Bounds, Input, Request},
    repository::ServingModel,
    types::{Instant, NamedTensor, Tensor},
};

use crate::support::{engines::Engines, models::Repository};

const LONG: Duration = Duration::from_secs(120);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn request(model: &ServingModel, rows: Vec<f32>, shape: Vec<usize>) -> Request {
    let input = &model.signature.inputs[0];
    let tensor = Tensor::new(shape, rows).unwrap();
    Request {
        input: Input::Tensors(vec![NamedTensor { name: Arc::clone(&input.name), tensor }]),
        outputs: Arc::from([Arc::clone(&model.signature.outputs[0].name)]),
        bounds: Bounds::until(Instant::now() + LONG),
    }
}

/// 1,024 numbers that no other item has.
fn item(number: u16) -> Vec<f32> {
    (0..1024_u16).map(|at| (f32::from(number) * 31.0 + f32::from(at) * 0.37).sin()).collect()
}

fn row(answer: &Answer) -> &[f32] {
    answer.outputs[0].tensor.as_f32().unwrap()
}

fn far(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn a_wide_network_shares_runs_and_each_item_gets_its_own_answer() {
    let repository = Repository::empty();
    repository.bare("wide_mlp");
    let runtime = runtime();
    let engines = Engines::start(repository.path(), 2, &runtime);
    let model = engines.model("wide_mlp");
    let batching = model.lanes.batching();
    assert!(batching.max_batch >= 4, "sharing pays for this network: {batching:?}");

    let ask = |number| model.lanes.infer(request(&model, item(number), vec![1, 1024]));
    let alone: Vec<Answer> = (0..8_u16).map(|it| runtime.block_on(ask(it)).unwrap()).collect();
    assert!(alone.iter().all(|it| it.batch_size == 1));
    let together = runtime.block_on(join_all((0..256).map(|it| ask(it % 8))));
    let together: Vec<Answer> = together.into_iter().map(Result::unwrap).collect();
    for (number, answer) in together.iter().enumerate() {
        let off = far(row(answer), row(&alone[number % 8]));
        assert!(off < 1e-3, "item {number} differs by {off} from itself alone");
        assert!(answer.batch_size <= batching.max_batch);
    }
    let shared = together.iter().filter(|it| it.batch_size >= 4).count();
    assert!(shared > 200, "only {shared} of 256 shared a run of 4 or more");
}

#[test]
fn items_of_several_rows_share_runs_too() {
    let repository = Repository::empty();
    repository.bare("wide_mlp");
    let runtime = runtime();
    let engines = Engines::start(repository.path(), 1, &runtime);
    let model = engines.model("wide_mlp");
    let rows = |n: u16| (0..n).flat_map(item).collect::<Vec<f32>>();
    let ask = |n: u16| model.lanes.infer(request(&model, rows(n), vec![n.into(), 1024]));
    let sizes = [3, 1, 2, 40, 1, 5];
    let answers = runtime.block_on(join_all(sizes.map(ask)));
    let single = runtime.block_on(ask(1)).unwrap();
    for (n, answer) in sizes.iter().zip(answers) {
        let answer = answer.unwrap();
        assert_eq!(answer.outputs[0].tensor.shape(), [usize::from(*n), 16]);
        assert!(far(&row(&answer)[..16], row(&single)) < 1e-3, "the first row of {n}");
    }
}

#[test]
fn a_time_major_network_is_found_out_and_never_shared() {
    let repository = Repository::empty();
    repository.bare("time_major_rnn");
    let runtime = runtime();
    let engines = Engines::start(repository.path(), 1, &runtime);
    let model = engines.model("time_major_rnn");
    assert_eq!(model.lanes.batching().max_batch, 1);
    let ask = |it: u8| {
        let x = f32::from(it) / 8.0;
        model.lanes.infer(request(&model, vec![x, -x, x, 1.0], vec![1, 1, 4]))
    };
    let answers = runtime.block_on(join_all((0..32).map(ask)));
    for (number, answer) in (0..).zip(answers) {
        let answer = answer.unwrap();
        assert_eq!(answer.batch_size, 1);
        let alone = runtime.block_on(ask(number)).unwrap();
        assert_eq!(row(&answer), row(&alone), "item {number}");
    }
}
