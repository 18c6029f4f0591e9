//! The glue around the scheduler, with an executor whose speed and failures the test decides.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

use futures_util::future::join_all;
use linesight::{
    batch::{
        Answer, BatchError, Batcher, Batching, Bounds, Class, ExecuteError, Executor, Feed, Input,
        Interrupter, ModelHandle, ModelSpec, Placement, Program, RefusalCause, Request, Site,
        Terms,
    },
    metrics::Metrics,
    types::{Instant, NamedTensor, Tensor},
};

const LONG: Duration = Duration::from_secs(120);
/// A row with this value fails its run.
const POISON: f32 = -1.0;
/// A row with this value makes the executor panic.
const BOMB: f32 = -2.0;

/// Doubles each value. Each run waits for leave from the test, where it holds the gate.
#[derive(Debug)]
struct Doubler {
    runs: AtomicUsize,
    gate: Option<Mutex<Receiver<()>>>,
}

#[derive(Debug)]
struct Open(Arc<Doubler>);

impl Program for Open {
    fn open(&self, _site: Site) -> Result<Box<dyn Executor>, ExecuteError> {
        Ok(Box::new(Open(Arc::clone(&self.0))))
    }
}

impl Executor for Open {
    fn execute(
        &mut self,
        inputs: &[Feed<'_>],
        outputs: &[Arc<str>],
    ) -> Result<Vec<NamedTensor>, ExecuteError> {
        self.0.runs.fetch_add(1, Ordering::SeqCst);
        if let Some(gate) = &self.0.gate {
            gate.lock().unwrap().recv().unwrap();
        }
        let input = Tensor::new(inputs[0].shape.to_vec(), inputs[0].data.clone()).unwrap();
        let values = input.as_f32().unwrap();
        assert!(!values.contains(&BOMB), "a bomb");
        if values.contains(&POISON) {
            return Err(ExecuteError("poisoned".to_owned()));
        }
        let doubled: Vec<f32> = values.iter().map(|it| it * 2.0).collect();
        let tensor = Tensor::new(input.shape().to_vec(), doubled).unwrap();
        Ok(vec![NamedTensor { name: Arc::clone(&outputs[0]), tensor }])
    }
}

struct World {
    doubler: Arc<Doubler>,
    leave: Option<Sender<()>>,
    model: ModelHandle,
    batcher: Batcher,
}

/// On cores, for tensors, one row a run, with all the time there is.
fn spec(program: impl Program + 'static) -> ModelSpec {
    ModelSpec {
        label: "test".to_owned(),
        program: Arc::new(program),
        image: None,
        batching: Batching::single(Duration::from_millis(1)),
        placement: Placement::Cores,
        max_lanes: None,
        terms: Terms::new(LONG, LONG),
        metrics: None,
    }
}

fn world(n_lanes: usize, max_batch: usize, gated: bool) -> World {
    world_of(n_lanes, max_batch, gated, Terms::new(LONG, LONG))
}

fn world_of(n_lanes: usize, max_batch: usize, gated: bool, terms: Terms) -> World {
    let (leave, gate) = channel();
    let gate = gated.then(|| Mutex::new(gate));
    let doubler = Arc::new(Doubler { runs: AtomicUsize::new(0), gate });
    let batcher = Batcher::start(NonZeroUsize::new(n_lanes).unwrap(), Metrics::new()).unwrap();
    let batching = Batching { max_batch, run_times: vec![(1, Duration::from_millis(1))] };
    let model = batcher.register(ModelSpec { batching, terms, ..spec(Open(Arc::clone(&doubler))) });
    World { doubler, leave: gated.then_some(leave), model, batcher }
}

/// Says where it was opened.
#[derive(Debug)]
struct Here(Option<Site>);

impl Program for Here {
    fn open(&self, site: Site) -> Result<Box<dyn Executor>, ExecuteError> {
        Ok(Box::new(Self(Some(site))))
    }
}

impl Executor for Here {
    fn execute(
        &mut self,
        _inputs: &[Feed<'_>],
        outputs: &[Arc<str>],
    ) -> Result<Vec<NamedTensor>, ExecuteError> {
        let value = match self.0 {
            Some(Site::Device(device)) => f32::from(u16::try_from(device).unwrap()),
            Some(Site::Core) | None => -1.0,
        };
        let tensor = Tensor::new(vec![1, 1], vec![value]).unwrap();
        Ok(vec![NamedTensor { name: Arc::clone(&outputs[0]), tensor }])
    }
}

#[test]
fn a_version_runs_where_it_was_placed() {
    runtime().block_on(async {
        let batcher = Batcher::start(NonZeroUsize::MIN, Metrics::new()).unwrap();
        for device in [3, 5] {
            batcher.add_device(device, NonZeroUsize::MIN).unwrap();
            batcher.add_device(device, NonZeroUsize::MIN).unwrap();
        }
        assert_eq!(batcher.n_cores(), 1);
        for (placement, sites) in [
            (Placement::Cores, &[-1.0][..]),
            (Placement::Devices(vec![5]), &[5.0]),
            (Placement::Devices(vec![3, 5]), &[3.0, 5.0]),
        ] {
            let model = batcher.register(ModelSpec { placement, ..spec(Here(None)) });
            let answers = join_all((0..20).map(|_| model.infer(request(0.0, LONG)))).await;
            for answer in answers {
                let site = value(answer).unwrap();
                assert!(sites.contains(&site), "on {site}, not one of {sites:?}");
            }
        }
    });
}

/// Holds what its sessions hold.
#[derive(Debug)]
struct Holder(Arc<()>);

impl Program for Holder {
    fn open(&self, _site: Site) -> Result<Box<dyn Executor>, ExecuteError> {
        Ok(Box::new(Self(Arc::clone(&self.0))))
    }
}

impl Executor for Holder {
    fn execute(
        &mut self,
        _inputs: &[Feed<'_>],
        outputs: &[Arc<str>],
    ) -> Result<Vec<NamedTensor>, ExecuteError> {
        let tensor = Tensor::new(vec![1, 1], vec![0.0]).unwrap();
        Ok(vec![NamedTensor { name: Arc::clone(&outputs[0]), tensor }])
    }
}

#[test]
fn a_lane_closes_what_was_dropped_and_keeps_the_rest() {
    runtime().block_on(async {
        let batcher = Batcher::start(NonZeroUsize::MIN, Metrics::new()).unwrap();
        let register = |held: &Arc<()>| batcher.register(spec(Holder(Arc::clone(held))));
        let (dropped, kept) = (Arc::new(()), Arc::new(()));
        let (first, second) = (register(&dropped), register(&kept));
        first.infer(request(0.0, LONG)).await.unwrap();
        assert_eq!(Arc::strong_count(&dropped), 3, "the program and the lane's session");
        drop(first);
        // It is asked once more, as it closes when it next falls idle.
        second.infer(request(0.0, LONG)).await.unwrap();
        while Arc::strong_count(&dropped) > 1 {
            tokio::task::yield_now().await;
        }
        assert_eq!(Arc::strong_count(&kept), 3);
    });
}

fn request(value: f32, patience: Duration) -> Request {
    let tensor = Tensor::new(vec![1, 1], vec![value]).unwrap();
    Request {
        input: Input::Tensors(vec![NamedTensor { name: Arc::from("x"), tensor }]),
        outputs: Arc::from([Arc::from("y")]),
        class: Class::Normal,
        bounds: Bounds::until(Instant::now() + patience),
    }
}

fn value(answer: Result<Answer, BatchError>) -> Result<f32, BatchError> {
    Ok(answer?.outputs[0].tensor.as_f32().unwrap()[0])
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn without_credit_what_would_miss_the_target_is_refused_and_told_when_to_come_back() {
    runtime().block_on(async {
        let target = Duration::from_millis(1);
        let world =
            world_of(1, 1, true, Terms { burst: Duration::ZERO, ..Terms::new(target, LONG) });
        let asked = || {
            let bounds = Bounds { aim: Instant::now() + target, ..request(1.0, LONG).bounds };
            world.model.infer(Request { bounds, ..request(1.0, LONG) })
        };
        let mut first = Box::pin(asked());
        assert!(futures_util::poll!(&mut first).is_pending(), "an idle lane takes it");
        // A run of 1 ms is ahead, and its own takes 1 ms.
        let Err(BatchError::Refused(refusal)) = asked().await else { panic!("not refused") };
        assert_eq!(refusal.cause, RefusalCause::Burst);
        assert!(refusal.retry_after >= target);
        world.leave.as_ref().unwrap().send(()).unwrap();
        assert!(first.await.is_ok());
    });
}

#[test]
fn an_item_is_told_when_its_time_is_up_while_the_lane_is_stuck() {
    let world = world(1, 1, true);
    let leave = world.leave.unwrap();
    runtime().block_on(async {
        let mut first = Box::pin(world.model.infer(request(1.0, LONG)));
        assert!(futures_util::poll!(&mut first).is_pending());
        // The lane has not been let go: nothing but the timer can answer.
        let hurried = world.model.infer(request(2.0, Duration::from_millis(30))).await;
        assert_eq!(value(hurried), Err(BatchError::Expired));
        leave.send(()).unwrap();
        assert_eq!(value(first.await), Ok(2.0));
    });
    assert_eq!(world.doubler.runs.load(Ordering::SeqCst), 1, "what has expired is not run");
}

#[test]
fn an_item_on_a_stuck_lane_is_told_too_and_its_answer_goes_nowhere() {
    let world = world(1, 1, true);
    let leave = world.leave.unwrap();
    runtime().block_on(async {
        let stuck = world.model.infer(request(1.0, Duration::from_millis(30))).await;
        assert_eq!(value(stuck), Err(BatchError::Expired));
        let mut next = Box::pin(world.model.infer(request(2.0, LONG)));
        assert!(futures_util::poll!(&mut next).is_pending());
        leave.send(()).unwrap();
        leave.send(()).unwrap();
        assert_eq!(value(next.await), Ok(4.0));
    });
}

#[test]
fn an_abandoned_item_is_not_run() {
    let world = world(1, 1, true);
    let leave = world.leave.unwrap();
    runtime().block_on(async {
        let mut first = Box::pin(world.model.infer(request(1.0, LONG)));
        let mut second = Box::pin(world.model.infer(request(2.0, LONG)));
        let mut third = Box::pin(world.model.infer(request(3.0, LONG)));
        for it in [&mut first, &mut second, &mut third] {
            assert!(futures_util::poll!(it).is_pending());
        }
        drop(second);
        leave.send(()).unwrap();
        leave.send(()).unwrap();
        assert_eq!((value(first.await), value(third.await)), (Ok(2.0), Ok(6.0)));
    });
    assert_eq!(world.doubler.runs.load(Ordering::SeqCst), 2);
}

#[test]
fn one_bad_item_of_a_shared_run_fails_alone() {
    for bad in [POISON, BOMB] {
        let world = world(1, 4, true);
        let leave = world.leave.unwrap();
        runtime().block_on(async {
            let mut first = Box::pin(world.model.infer(request(9.0, LONG)));
            assert!(futures_util::poll!(&mut first).is_pending());
            // These four wait together, and are run together.
            let values = [1.0, bad, 3.0, 4.0];
            let mut shared =
                Box::pin(join_all(values.map(|it| world.model.infer(request(it, LONG)))));
            assert!(futures_util::poll!(&mut shared).is_pending());
            // One run for the first, one for the four, and one each as that failed.
            (0..6).for_each(|_| leave.send(()).unwrap());
            assert_eq!(value(first.await), Ok(18.0));
            let answers: Vec<_> = shared.await.into_iter().map(value).collect();
            assert_eq!((&answers[0], &answers[2], &answers[3]), (&Ok(2.0), &Ok(6.0), &Ok(8.0)));
            assert!(matches!(answers[1], Err(BatchError::Execute(_))), "{:?}", answers[1]);
        });
        assert_eq!(world.doubler.runs.load(Ordering::SeqCst), 6);
    }
}

#[test]
fn work_that_cannot_be_done_in_time_is_refused_at_once() {
    let world = world(1, 1, true);
    let leave = world.leave.unwrap();
    runtime().block_on(async {
        let mut waiting: Vec<_> =
            (0..20).map(|_| Box::pin(world.model.infer(request(1.0, LONG)))).collect();
        for it in &mut waiting {
            assert!(futures_util::poll!(it).is_pending());
        }
        // Twenty items of a millisecond are ahead.
        let deadline = Instant::now() + Duration::from_millis(10);
        let bounds = Bounds { client_deadline: Some(deadline), ..request(2.0, LONG).bounds };
        let refused = world.model.infer(Request { bounds, ..request(2.0, LONG) }).await;
        let Err(BatchError::Refused(refusal)) = value(refused) else { panic!("was admitted") };
        assert!(refusal.retry_after >= Duration::from_millis(10));
        (0..20).for_each(|_| leave.send(()).unwrap());
        for it in waiting {
            assert_eq!(value(it.await), Ok(2.0));
        }
    });
}

#[test]
fn whoever_still_waits_when_the_lanes_stop_is_told() {
    let world = world(1, 1, true);
    let leave = world.leave.unwrap();
    runtime().block_on(async {
        let mut running = Box::pin(world.model.infer(request(1.0, LONG)));
        let mut waiting = Box::pin(world.model.infer(request(2.0, LONG)));
        assert!(futures_util::poll!(&mut running).is_pending());
        assert!(futures_util::poll!(&mut waiting).is_pending());
        leave.send(()).unwrap();
        leave.send(()).unwrap();
        drop(world.batcher);
        for it in [running, waiting] {
            let answer = value(it.await);
            assert!(matches!(answer, Ok(_) | Err(BatchError::Stopped)), "{answer:?}");
        }
        let late = value(world.model.infer(request(3.0, LONG)).await);
        assert_eq!(late, Err(BatchError::Stopped));
    });
}

#[test]
fn a_thousand_items_on_four_lanes_each_get_their_own_answer() {
    let world = world(4, 8, false);
    runtime().block_on(async {
        let ask = async |it: u16| value(world.model.infer(request(f32::from(it), LONG)).await);
        let answers = join_all((0..1000).map(ask)).await;
        for (number, answer) in (0_u16..).zip(answers) {
            assert_eq!(answer, Ok(f32::from(number) * 2.0));
        }
    });
}

/// Its first run does not end by itself; it does when interrupted, if it heeds that.
#[derive(Debug)]
struct Hang {
    heeds: bool,
    runs: AtomicUsize,
    released: Mutex<bool>,
    wake: Condvar,
}

impl Hang {
    fn release(&self) {
        *self.released.lock().unwrap() = true;
        self.wake.notify_all();
    }
}

#[derive(Debug)]
struct OpenHang(Arc<Hang>);

impl Program for OpenHang {
    fn open(&self, _site: Site) -> Result<Box<dyn Executor>, ExecuteError> {
        Ok(Box::new(Self(Arc::clone(&self.0))))
    }
}

impl Executor for OpenHang {
    fn execute(
        &mut self,
        inputs: &[Feed<'_>],
        outputs: &[Arc<str>],
    ) -> Result<Vec<NamedTensor>, ExecuteError> {
        if self.0.runs.fetch_add(1, Ordering::SeqCst) == 0 {
            let mut released = self.0.released.lock().unwrap();
            while !*released {
                released = self.0.wake.wait(released).unwrap();
            }
            return Err(ExecuteError("interrupted".to_owned()));
        }
        let tensor = Tensor::new(inputs[0].shape.to_vec(), inputs[0].data.clone()).unwrap();
        Ok(vec![NamedTensor { name: Arc::clone(&outputs[0]), tensor }])
    }

    fn interrupter(&self) -> Option<Arc<dyn Interrupter>> {
        self.0.heeds.then(|| Arc::<Hang>::clone(&self.0) as Arc<dyn Interrupter>)
    }
}

impl Interrupter for Hang {
    fn reset(&self) {}

    fn interrupt(&self) {
        self.release();
    }
}

/// One lane, and a first item that hangs on it and is told when its time is up; then another.
fn after_a_hang(heeds: bool, limit: Duration) -> (Arc<Hang>, u64) {
    let hang = Arc::new(Hang {
        heeds,
        runs: AtomicUsize::new(0),
        released: Mutex::new(false),
        wake: Condvar::new(),
    });
    let metrics = Metrics::new();
    let batcher = Batcher::start(NonZeroUsize::MIN, Arc::clone(&metrics)).unwrap();
    let terms = Terms::new(limit, limit);
    let model = batcher.register(ModelSpec { terms, ..spec(OpenHang(Arc::clone(&hang))) });
    runtime().block_on(async {
        let first = model.infer(request(1.0, Duration::from_millis(20))).await;
        assert_eq!(value(first), Err(BatchError::Expired));
        let second = model.infer(request(2.0, LONG)).await;
        assert_eq!(value(second), Ok(2.0));
    });
    drop(batcher);
    (hang, metrics.process.lanes_abandoned.get())
}

#[test]
fn a_run_that_nobody_waits_for_any_more_is_ended() {
    let (hang, abandoned) = after_a_hang(true, LONG);
    assert!(*hang.released.lock().unwrap());
    assert_eq!(abandoned, 0, "its lane goes on");
}

#[test]
fn a_lane_that_does_not_come_back_is_replaced_and_holds_up_no_stop() {
    let (hang, abandoned) = after_a_hang(false, Duration::from_millis(40));
    assert_eq!(abandoned, 1);
    assert!(!*hang.released.lock().unwrap(), "it hangs still");
    hang.release();
}
