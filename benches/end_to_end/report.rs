//! The figures as they are kept: requirements judged, a page for people, raw JSON for programs.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

use crate::{
    alone::Alone,
    charts,
    crowd::{Crowd, MODELS},
    lifecycle::{Memory, Starts},
    machine::Machine,
    oha::{self, Compared},
    overload::{self, AtLoad},
    requirements::requirements,
    retries::{self, Retries},
    saturation::Saturation,
    sharing::{CALLERS, Sharing},
    stats::Latency,
    subject::Opening,
    tensors::Tensors,
};

/// Everything that one run found.
#[derive(Debug, Serialize)]
pub struct Run {
    pub machine: Machine,
    pub quick: bool,
    pub took_seconds: f64,
    /// Share of the processor that went to other programs.
    pub others_share: f64,
    pub opening: Opening,
    pub model_version: String,
    pub model_digest: String,
    pub picture_size: (u32, u32),
    pub pictures: usize,
    pub mean_picture_bytes: usize,
    pub saturation: Saturation,
    pub large: Saturation,
    pub alone: Alone,
    pub oha: Option<Compared>,
    pub overload: Vec<AtLoad>,
    pub retries: Retries,
    pub tensors: Tensors,
    pub crowd: Crowd,
    pub starts: Starts,
    pub memory: Memory,
    pub sharing: Sharing,
    pub micro: Vec<Micro>,
}

/// A micro-benchmark's median, as criterion left it.
#[derive(Debug, Serialize)]
pub struct Micro {
    pub name: String,
    pub nanos: f64,
    pub elements: u64,
}

/// Above this share used by others, figures that hang on time say nothing.
const QUIET: f64 = 0.05;

/// A ratio.
pub fn f3(it: f64) -> String {
    format!("{it:.3}")
}

/// The requirements as a table.
pub fn summary(run: &Run) -> String {
    let mut out = "| requirement | asked | measured | met |\n|---|---|---|---|\n".to_owned();
    let others = run.others_share.max(run.saturation.others_share);
    for it in requirements(run) {
        let met = match it.met {
            _ if it.timed && others > QUIET => "not quiet",
            true => "yes",
            false => "**no**",
        };
        line(&mut out, &[it.what, it.asked, &it.measured, met]);
    }
    if others > QUIET {
        let _a_string_takes_all = writeln!(
            out,
            "\n**Not quiet**: other programs used {:.0} % of the processor, so no figure of time in \
             this run says anything; ratios above 1 are noise. Run it again alone.",
            others * 100.0
        );
    }
    out
}

fn line(out: &mut String, cells: &[&str]) {
    let _a_string_takes_all = writeln!(out, "| {} |", cells.join(" | "));
}

/// Writes the page and the raw figures.
pub fn write(run: &Run) -> Result<()> {
    let day = run.machine.date.split('T').next().unwrap_or("undated");
    let [page, raw, img]: [PathBuf; 3] = if run.quick {
        ["target/bench/benchmarks.md", "target/bench/quick.json", "target/bench/img"]
            .map(Into::into)
    } else {
        ["docs/benchmarks.md", &format!("benches/runs/{day}.json"), "docs/img"].map(Into::into)
    };
    for (path, text) in [(page, page_of(run)), (raw, serde_json::to_string_pretty(run)? + "\n")] {
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, text)?;
    }
    charts::write(run, &img)
}

fn page_of(run: &Run) -> String {
    let machine = &run.machine;
    let mut out = format!(
        "# Benchmarks\n\n\
         Written by `make bench` from one run on {}; every figure is measured, and the raw ones lie \
         in `benches/runs/`. Generator, server and floor share the same cores. Ratios are medians \
         over turns taken one after the other.\n\n{}\n",
        machine.date,
        summary(run),
    );
    out += &conditions(run);
    out += &saturation(run);
    out += &large(run);
    out += &alone(run);
    out += &oha::section(run.oha.as_ref());
    out += &overload::section(&run.overload);
    out += &retries::section(&run.retries);
    out += &rest(run);
    out += &micro_table(&run.micro);
    out
}

fn conditions(run: &Run) -> String {
    let it = &run.machine;
    let mut out = "## Conditions\n\n| | |\n|---|---|\n".to_owned();
    let cores = it.cores.to_string();
    let memory = format!("{:.1} GiB", it.memory_gib);
    let linesight = format!("{} ({})", it.linesight, it.commit);
    let onnxruntime = format!("{} ({})", it.onnxruntime, it.onnxruntime_digest);
    let model = format!("vial-defect version {} ({})", run.model_version, run.model_digest);
    let (width, height) = run.picture_size;
    let pictures = format!(
        "{} synthetic vials, JPEG {width}x{height}, {:.0} kB on average",
        run.pictures,
        crate::stats::ratio(run.mean_picture_bytes, 1000),
    );
    let others = format!(
        "{:.1} % of the processor, {:.1} % while throughput was measured; load average before: {}",
        run.others_share * 100.0,
        run.saturation.others_share * 100.0,
        it.load_average_before
    );
    for (what, value) in [
        ("processor", &it.processor),
        ("cores granted", &cores),
        ("memory", &memory),
        ("kernel", &it.kernel),
        ("compiler", &it.rustc),
        ("linesight", &linesight),
        ("ONNX Runtime", &onnxruntime),
        ("model", &model),
        ("pictures", &pictures),
        ("used by other programs", &others),
        ("the run took", &format!("{:.0} s", run.took_seconds)),
    ] {
        line(&mut out, &[what, value]);
    }
    out + "\n"
}

fn saturation(run: &Run) -> String {
    let it = &run.saturation;
    let mut out = format!(
        "## Throughput: JPEG to answer over HTTP\n\n\
         Closed loop, every answer checked. *Raw floor*: one thread a core decodes, resizes, \
         normalises and runs in process, the server idle: {:.1} images/s at \
         {:.2} ms of processor time each. *Fair floor*: the same while the generator posts the same \
         bodies at the server's rate to a handler that drops them: {:.1} images/s.\n\n\
         ![throughput against concurrency](img/throughput.svg)\n\n\
         ![latency of answers, with target and limit](img/latency.svg)\n\n\
         | connections | images/s | of the raw floor | of the fair floor | server CPU, ms/image | \
         generator CPU, ms/image | p50 ms | p90 ms | p99 ms |\n|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
        it.floor_per_second, it.floor_cpu_ms, it.fair_floor_per_second,
    );
    rows(&mut out, it);
    out + "\n"
}

fn rows(out: &mut String, it: &Saturation) {
    for at in &it.at {
        let Latency { p50_ms, p90_ms, p99_ms, .. } = at.latency;
        let ms = |it: f64| format!("{it:.1}");
        let cells = [
            at.connections.to_string(),
            ms(at.per_second),
            f3(at.to_raw_floor),
            f3(at.to_fair_floor),
            format!("{:.2}", at.server_cpu_ms),
            format!("{:.2}", at.generator_cpu_ms),
            ms(p50_ms),
            ms(p90_ms),
            ms(p99_ms),
        ];
        line(out, &cells.each_ref().map(String::as_str));
    }
}

fn large(run: &Run) -> String {
    let it = &run.large;
    let mut out = format!(
        "The same with pictures of twice the width and height, of which the raw floor is {:.1} images/s and the \
         fair one {:.1}:\n\n\
         | connections | images/s | of the raw floor | of the fair floor | server CPU, ms/image | \
         generator CPU, ms/image | p50 ms | p90 ms | p99 ms |\n|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
        it.floor_per_second, it.fair_floor_per_second,
    );
    rows(&mut out, it);
    out + "\n"
}

fn alone(run: &Run) -> String {
    let it = &run.alone;
    let mut out = format!(
        "## One request at a time\n\nThe server adds {:.2} ms to the median of the same work on one \
         thread in process.\n\n| | samples | p50 ms | p90 ms | p99 ms |\n|---|--:|--:|--:|--:|\n",
        it.added_p50_ms
    );
    let rows = [
        ("in process", it.in_process),
        ("over HTTP", it.http),
        ("a handler that reads and drops, asked as often", it.sink),
    ];
    for (what, latency) in rows {
        let ms = |it: f64| format!("{it:.2}");
        let Latency { samples, p50_ms, p90_ms, p99_ms } = latency;
        line(&mut out, &[what, &samples.to_string(), &ms(p50_ms), &ms(p90_ms), &ms(p99_ms)]);
    }
    let parts = &it.parts;
    let _a_string_takes_all = write!(
        out,
        "\nMedians of the parts over HTTP, in ms: body read {:.2}, queue {:.2}, decode {:.2}, run \
         {:.2}, other work of the server {:.2}, outside of it (sockets, waking up) {:.2}.\n\n",
        parts.read_ms,
        parts.queue_ms,
        parts.decode_ms,
        parts.infer_ms,
        parts.other_ms,
        parts.outside_ms,
    );
    out
}

fn rest(run: &Run) -> String {
    let (starts, memory, sharing) = (&run.starts, &run.memory, &run.sharing);
    let each: Vec<String> = starts.each_ms.iter().map(|it| format!("{it:.0}")).collect();
    format!(
        "## Start\n\nProcess spawned to first 200 of `/readyz`: {:.0} ms, the median of {} ms; {:.0} ms \
         the first time on a machine, when the model is measured too. Files were in the page cache. Of it, measured apart: package read and verified {:.0} ms, graph \
         optimised {:.0} ms, one session opened {:.0} ms.\n\n\
         ## Memory\n\nResident (`VmRSS`, 10^6 bytes): {:.0} MB after loading; over {} requests at \
         saturation {:.1} MB in the second fifth, {:.1} MB in the last ({:+.1} %), {:.1} MB at the \
         highest, {:.1} MB at the end.\n\n\
         ## Shared runs\n\nA wide network ({} MB of weights), {} callers a lane, \
         through the library: {:.0} items/s with the limit of {} rows found at load (mean {:.1}), \
         {:.0} items/s with a limit of 1: {:.1} times.\n\n\
         ## Through the library\n\nRows that are ready, through the lanes: {:.1}/s, of {:.1}/s that \
         sessions in process run: {:.3}.\n\n{} models of {:.1} MB, of which one is asked: {:.0} items/s, of \
         {:.0}/s where it is alone: {:.3}.\n\n",
        starts.median_ms,
        each.join(", "),
        starts.first_ms,
        run.opening.read_ms,
        run.opening.optimise_ms,
        run.opening.open_ms,
        memory.loaded_mb,
        memory.requests,
        memory.second_fifth_mb,
        memory.last_fifth_mb,
        memory.growth * 100.0,
        memory.highest_mb,
        memory.end_mb,
        sharing.model_bytes / 1_000_000,
        CALLERS,
        sharing.shared_per_second,
        sharing.max_batch,
        sharing.mean_batch,
        sharing.single_per_second,
        sharing.gain,
        run.tensors.per_second,
        run.tensors.floor_per_second,
        run.tensors.to_raw_floor,
        MODELS,
        f64::from(u32::try_from(run.crowd.model_bytes).unwrap_or(u32::MAX)) / 1e6,
        run.crowd.in_crowd_per_second,
        run.crowd.alone_per_second,
        run.crowd.to_alone,
    )
}

fn micro_table(micro: &[Micro]) -> String {
    if micro.is_empty() {
        return String::new();
    }
    let mut out = "## Micro-benchmarks\n\nMedians by criterion, of the same `make bench`.\n\n\
                   | | time |\n|---|--:|\n"
        .to_owned();
    for Micro { name, nanos, elements } in micro {
        let each = if *elements > 1 { " an item" } else { "" };
        let count = u32::try_from((*elements).max(1)).map_or(f64::NAN, f64::from);
        let nanos = nanos / count;
        let time = match nanos {
            it if it < 1e3 => format!("{it:.0} ns{each}"),
            it if it < 1e6 => format!("{:.2} µs{each}", it / 1e3),
            it => format!("{:.2} ms{each}", it / 1e6),
        };
        line(&mut out, &[name, &time]);
    }
    out
}

/// Micro-benchmarks that have run within the last half hour; older ones are of another machine or
/// another program, for all one knows.
pub fn micro() -> Vec<Micro> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from("target/criterion")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.ends_with("new") {
                found.extend(recent(&path));
            } else if path.is_dir() {
                folders.push(path);
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn recent(folder: &Path) -> Option<Micro> {
    let estimates = folder.join("estimates.json");
    let age = fs::metadata(&estimates).ok()?.modified().ok()?.elapsed().ok()?;
    if age > Duration::from_secs(1800) {
        return None;
    }
    let json = |path: &Path| serde_json::from_slice::<Value>(&fs::read(path).ok()?).ok();
    let (estimates, about) = (json(&estimates)?, json(&folder.join("benchmark.json"))?);
    Some(Micro {
        name: about.get("full_id")?.as_str()?.to_owned(),
        nanos: estimates.pointer("/median/point_estimate")?.as_f64()?,
        elements: about.pointer("/throughput/Elements").and_then(Value::as_u64).unwrap_or(1),
    })
}
