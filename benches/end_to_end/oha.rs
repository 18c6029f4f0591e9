//! The load generator against another, `oha`: whether both say the same of the same server.
//!
//! Where `oha` is not on the path (`cargo install --locked oha`), it is not asked, and the page says
//! so. It posts one body over and over, so both post the first picture only.

use std::{
    fs, io,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use linesight::types::Instant;
use serde::Serialize;
use serde_json::Value;

use crate::{
    load::{Load, Pace, Target},
    overload,
    server::Server,
    stats::{median, millis, per_second, quantile},
    subject::{MODEL_NAME, Picture, Subject},
    window::Window,
};

const CONNECTIONS: usize = 8;
/// What is offered by the clock, of what was answered in a closed loop.
const OFFERED: f64 = 0.5;

/// What both found.
#[derive(Debug, Serialize)]
pub struct Compared {
    pub version: String,
    pub connections: usize,
    /// As fast as answers come: medians over the turns.
    pub closed: Pair,
    /// At so many a second, whatever comes back; latency from when a request was due.
    pub offered_per_second: f64,
    pub open: Pair,
}

#[derive(Debug, Serialize)]
pub struct Pair {
    pub own: Seen,
    pub oha: Seen,
}

/// What a generator says it saw.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Seen {
    pub per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// Lets both ask, in turns.
pub fn measure(
    subject: &Subject,
    server: &Server,
    (turns, window): (usize, Window),
) -> Result<Option<Compared>> {
    let Some(version) = version()? else { return Ok(None) };
    let first = subject.pictures.first().context("no pictures")?;
    let pictures: Arc<[Picture]> = Arc::new([first.clone()]);
    let folder = tempfile::tempdir()?;
    let body = folder.path().join("body.jpg");
    fs::write(&body, &first.jpeg)?;
    let ask = |pace: &[&str], time: Duration| {
        let url = format!("http://{}/v1/models/{MODEL_NAME}/predict", server.data);
        let body = body.to_str().context("a path that is no text")?;
        let time = format!("{}ms", time.as_millis());
        let connections = CONNECTIONS.to_string();
        let fixed = ["--no-tui", "--output-format", "json", "-m", "POST", "-T", "image/jpeg"];
        let what = ["-D", body, "-z", &time, "-c", &connections, "-w", &url];
        let output = Command::new("oha").args(fixed).args(pace).args(what).output()?;
        seen_by_oha(&output.stdout).with_context(|| format!("of {url}"))
    };

    let (mut own, mut oha) = (Vec::new(), Vec::new());
    for _ in 0..turns.max(1) {
        own.push(closed(&pictures, server, window)?);
        oha.push(ask(&[], window.total())?);
    }
    let closed = Pair { own: medians(&own), oha: medians(&oha) };

    let lasting = overload::SETTLED + window.total() * 2;
    let rate = closed.own.per_second * OFFERED;
    let open = overload::offer(&pictures, server, (rate, lasting), CONNECTIONS)?;
    let pace = ["-q", &format!("{rate:.0}"), "--latency-correction"];
    let open = Pair { own: open, oha: ask(&pace, lasting)? };
    Ok(Some(Compared { version, connections: CONNECTIONS, closed, offered_per_second: rate, open }))
}

fn version() -> Result<Option<String>> {
    match Command::new("oha").arg("--version").stderr(Stdio::null()).output() {
        Ok(output) => Ok(Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn closed(pictures: &Arc<[Picture]>, server: &Server, window: Window) -> Result<Seen> {
    let target = Target { address: server.data, judges: true };
    let load = Load::start(target, pictures, CONNECTIONS, Pace::Closed)?;
    window.warm_up();
    let from = Instant::now();
    window.measure();
    let to = Instant::now();
    let answers = load.stop()?;
    let inside = answers.iter().filter(|it| from <= it.at && it.at < to);
    let took: Vec<f64> = inside.map(|it| millis(it.took)).collect();
    Ok(Seen {
        per_second: per_second(took.len(), to - from),
        p50_ms: quantile(&took, 0.5),
        p99_ms: quantile(&took, 0.99),
    })
}

fn seen_by_oha(json: &[u8]) -> Result<Seen> {
    let all: Value = serde_json::from_slice(json).context("oha did not answer in JSON")?;
    let at = |pointer: &str| all.pointer(pointer).and_then(Value::as_f64);
    let only_200 = all.pointer("/statusCodeDistribution").and_then(Value::as_object);
    if only_200.is_none_or(|it| it.keys().any(|status| status != "200")) {
        bail!("oha saw other answers than 200: {only_200:?}");
    }
    let number = |pointer: &str| at(pointer).with_context(|| format!("oha says no {pointer}"));
    Ok(Seen {
        per_second: number("/summary/requestsPerSec")?,
        p50_ms: number("/latencyPercentiles/p50")? * 1e3,
        p99_ms: number("/latencyPercentiles/p99")? * 1e3,
    })
}

fn medians(all: &[Seen]) -> Seen {
    let of = |part: fn(&Seen) -> f64| median(&all.iter().map(part).collect::<Vec<_>>());
    Seen {
        per_second: of(|it| it.per_second),
        p50_ms: of(|it| it.p50_ms),
        p99_ms: of(|it| it.p99_ms),
    }
}

/// The section of the page.
pub fn section(compared: Option<&Compared>) -> String {
    let mut out = "## The generator against oha\n\n".to_owned();
    let Some(Compared { version, connections, closed, offered_per_second, open }) = compared else {
        return out + "Not compared: `oha` was not on the path (`cargo install --locked oha`).\n\n";
    };
    out += &format!(
        "Both post the same picture over {connections} connections, in turns: as fast as answers come, \
         and at {offered_per_second:.0} a second by the clock, with latency from when a request was \
         due. ({version})\n\n\
         | | answers/s | p50 ms | p99 ms |\n|---|--:|--:|--:|\n"
    );
    for (what, it) in [
        ("as fast as answers come, own", &closed.own),
        ("the same, oha", &closed.oha),
        ("by the clock, own", &open.own),
        ("the same, oha", &open.oha),
    ] {
        out +=
            &format!("| {what} | {:.1} | {:.2} | {:.2} |\n", it.per_second, it.p50_ms, it.p99_ms);
    }
    out + "\n"
}
