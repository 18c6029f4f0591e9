//! What serving costs, measured end to end in one run: `make bench`, or
//! `cargo bench --bench end_to_end [-- --quick]`.
//!
//! Ratios are formed from turns taken one after the other, so that what else the machine does falls
//! on both sides. The figures go to `docs/benchmarks.md` and, raw, to `benches/runs/`; those of a
//! quick run to `target/bench/`, as they are for looking at and not for keeping. Figures that fall
//! short are reported, not failed; a wrong answer ends the run.
#![expect(unreachable_pub, reason = "modules of a program have no outside")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

mod alone; // one request at a time against one thread in process: what HTTP and queue add
mod charts; // docs/img/*.svg
mod crowd; // a hundred models of which one is asked
mod floor; // decode and run on every core, and nothing else
mod lifecycle; // start to ready; resident memory over ten thousand requests
mod load; // the load generator and its HTTP client
mod machine; // processor, versions, who used the processor
mod oha; // the load generator against another
mod open_loop; // requests sent by the clock
mod overload; // more than can be answered: what is still in time, how fast the rest is refused
mod report; // docs/benchmarks.md, benches/runs/*.json
mod requirements; // what is asked of a run
mod retries; // clients that ask again at once
mod saturation; // throughput at 2, 8 and 32 connections against the floor
mod server; // the release binary as a process
mod sharing; // what shared runs gain for a wide network
mod sink; // a handler that reads and drops, for the fair floor
mod stats; // medians and percentiles
mod subject; // the vial model, its pictures and their labels
mod tensors; // rows that are ready, through the lanes
mod window; // how long a measurement lasts

use std::time::Duration;

use anyhow::Result;
use linesight::{
    host::Host,
    onnx::{Environment, LibraryChoice},
    types::Instant,
};

use self::{overload::Offered, report::Run, window::Window};

/// How long everything takes.
#[derive(Debug)]
struct Plan {
    quick: bool,
    saturation: (usize, Window),
    alone: (usize, Window),
    /// Pictures of four times the pixels.
    large: (usize, Window),
    tensors: (usize, Window),
    oha: (usize, Window),
    overload: Vec<Offered>,
    retries: Duration,
    crowd: (usize, Window),
    starts: usize,
    requests: usize,
    sharing: (usize, Window),
}

impl Plan {
    fn of(quick: bool) -> Self {
        let ms = Duration::from_millis;
        let window = |warm_up, measured| Window { warm_up: ms(warm_up), measured: ms(measured) };
        if quick {
            return Self {
                quick,
                saturation: (2, window(300, 1_500)),
                alone: (4, window(100, 600)),
                large: (2, window(300, 1_500)),
                tensors: (2, window(300, 1_500)),
                oha: (1, window(200, 1_500)),
                overload: vec![Offered { times: &[2.0, 10.0], lasting: ms(8_000), turns: 1 }],
                retries: ms(8_000),
                crowd: (8, window(100, 400)),
                starts: 2,
                requests: 1_000,
                sharing: (2, window(200, 1_000)),
            };
        }
        Self {
            quick,
            saturation: (16, window(300, 1_250)),
            alone: (24, window(100, 600)),
            large: (6, window(300, 2_500)),
            tensors: (12, window(200, 1_200)),
            oha: (5, window(300, 2_500)),
            overload: vec![
                Offered { times: &[0.5, 0.9, 1.1, 1.5, 4.0], lasting: ms(10_000), turns: 1 },
                Offered { times: &[2.0, 10.0], lasting: ms(20_000), turns: 5 },
            ],
            retries: ms(20_000),
            crowd: (30, window(100, 500)),
            starts: 5,
            requests: 10_000,
            sharing: (5, window(300, 2_000)),
        }
    }
}

fn main() -> Result<()> {
    let plan = Plan::of(std::env::args().any(|it| it == "--quick"));
    let run = measure(&plan)?;
    report::write(&run)?;
    println!("{}", report::summary(&run));
    Ok(())
}

fn measure(plan: &Plan) -> Result<Run> {
    let binary = server::Server::build()?;
    let environment = Environment::load(&LibraryChoice::Search)?;
    let machine = machine::Machine::look(&environment);
    let started = Instant::now();
    let say = |what: &str| eprintln!("{:6.1} s  {what}", started.elapsed().as_secs_f64());

    let (everything, own) = (machine::Everything::now(), machine::Cpu::of_self());
    let n_cores = Host::detect().cores(None).get();
    let subject = subject::Subject::load(&environment)?;
    let mut floor = floor::Floor::open(&subject, n_cores)?;
    let server = server::Server::start(&binary)?;
    say("throughput against the floor");
    let connections = saturation::CONNECTIONS;
    let saturation =
        saturation::measure(&subject, &server, &mut floor, connections, plan.saturation)?;
    say("the same with pictures of four times the pixels");
    let large = large(&environment, &server, n_cores, plan.large)?;
    say("one request at a time");
    let alone = alone::measure(&subject, &server, &mut floor, plan.alone)?;
    say("the generator against oha");
    let oha = oha::measure(&subject, &server, plan.oha)?;
    say("overload");
    let overload = overload::measure(&subject.pictures, &server, &mut floor, &plan.overload)?;
    say("clients that retry at once");
    let retries = retries::measure(&subject, &server, &mut floor, plan.retries)?;
    drop(server);
    say("tensors through the lanes");
    let tensors = tensors::measure(&environment, &mut floor, n_cores, plan.tensors)?;
    drop(floor);
    say("start to ready");
    let starts = lifecycle::starts(&binary, plan.starts)?;
    say("resident memory");
    let memory = lifecycle::memory(&subject, &binary, plan.requests)?;
    say("shared runs");
    let sharing = sharing::measure(&environment, n_cores, plan.sharing)?;
    say("a hundred models");
    let crowd = crowd::measure(&environment, n_cores, plan.crowd)?;
    say("done");
    let others_share = everything.others_share(&[own.since()], started.elapsed());
    let pictures = subject.pictures.len();
    let mean_bytes = subject.pictures.iter().map(|it| it.jpeg.len()).sum::<usize>() / pictures;
    Ok(Run {
        machine,
        quick: plan.quick,
        took_seconds: started.elapsed().as_secs_f64(),
        others_share,
        opening: subject.opening,
        model_version: subject.version.clone(),
        model_digest: subject.digest.clone(),
        picture_size: subject.picture_size,
        pictures,
        mean_picture_bytes: mean_bytes,
        micro: report::micro(),
        saturation,
        large,
        alone,
        oha,
        overload,
        retries,
        tensors,
        crowd,
        starts,
        memory,
        sharing,
    })
}

/// Throughput with pictures of twice the width and height, against a floor of their own.
fn large(
    environment: &Environment,
    server: &server::Server,
    n_cores: usize,
    plan: (usize, Window),
) -> Result<saturation::Saturation> {
    let subject = subject::Subject::load_doubled(environment)?;
    let mut floor = floor::Floor::open(&subject, n_cores)?;
    saturation::measure(&subject, server, &mut floor, saturation::CONNECTIONS_LARGE, plan)
}
