//! `linesight doctor`

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::{Settings, table};
use crate::{
    app::{self, Engines},
    host::Host,
    repository::{Snapshot, VersionState},
};

/// Show versions, digests, cores, and whether the models answer their golden samples.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    #[command(flatten)]
    settings: Settings,
    /// As JSON, for a record
    #[arg(long)]
    json: bool,
    /// Only ask the server that runs with these settings whether it is ready, as a probe does
    #[arg(long, conflicts_with = "json")]
    ready: bool,
}

impl Doctor {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let config = self.settings.load_quietly()?;
        if self.ready {
            return ready(config.server.admin);
        }
        crate::telemetry::init(&config.log)?;
        let runtime = app::edge_runtime(&config)?;
        let engines = Engines::start(&config, None)?;
        engines.load(runtime.handle())?;
        let snapshot = engines.predictor.snapshot();
        let report = report(&config, &engines, &snapshot);
        if self.json {
            table::print(&serde_json::to_string_pretty(&report)?);
        } else {
            let rows: Vec<Vec<String>> = lines("", &report);
            table::print(&table::columns(&rows));
        }
        let readiness = snapshot.readiness();
        for note in &readiness.notes {
            table::complain(&format!("note: {note}"));
        }
        Ok(if readiness.ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Prints what `/readyz` says. For a container's health check: nothing is loaded.
fn ready(admin: SocketAddr) -> anyhow::Result<ExitCode> {
    let (status, said) = probe(reachable(admin)).with_context(|| {
        format!(
            "no answer from the admin listener at {admin}; is a server running with these settings?"
        )
    })?;
    table::print(said.trim_end());
    Ok(if status == 200 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A listener on every address is asked on this machine's own.
fn reachable(mut admin: SocketAddr) -> SocketAddr {
    match admin.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => admin.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => admin.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    admin
}

/// Status and body of `/readyz`.
fn probe(admin: SocketAddr) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&admin, PROBE_TIMEOUT)?;
    stream.set_read_timeout(Some(PROBE_TIMEOUT))?;
    write!(stream, "GET /readyz HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(PROBE_BYTES).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("it does not speak HTTP")?;
    let status = head.split(' ').nth(1).and_then(|it| it.parse().ok());
    Ok((status.context("it does not speak HTTP")?, body.to_owned()))
}

const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// A list of reasons is shorter, however many models there are.
const PROBE_BYTES: u64 = 1 << 20;

fn report(
    config: &crate::config::Config,
    engines: &Engines,
    snapshot: &Snapshot,
) -> serde_json::Value {
    let host = Host::detect();
    let environment = &engines.environment;
    let version = |name: &str, (version, state): (_, &VersionState)| {
        let mut line = json!({ "model": name, "version": version, "state": state.as_str() });
        match state {
            VersionState::Serving(serving) => {
                line["digest"] = json!(serving.digest);
                line["evidence"] = json!(serving.evidence);
                let compute = &serving.plan.compute;
                line["provider"] = json!(compute.provider.as_str());
                if let Some(share) = compute.share() {
                    line["nodes"] = json!(share);
                    line["devices"] = json!(serving.plan.devices);
                }
                line["max_batch"] = json!(serving.lanes.batching().max_batch);
            }
            VersionState::Failed(why) => line["reason"] = json!(why),
            VersionState::Found | VersionState::Loading => {}
        }
        line
    };
    let models: Vec<_> = snapshot
        .models
        .iter()
        .flat_map(|(name, entry)| entry.versions.iter().map(|it| version(name.as_str(), it)))
        .collect();
    json!({
        "linesight": env!("CARGO_PKG_VERSION"),
        "onnxruntime": {
            "version": environment.version(),
            "library": environment.library_path(),
            "digest": environment.library_digest(),
            "build": environment.build_info(),
        },
        "host": {
            "cores": host.cores(config.runtime.cores),
            "allowed_cpus": host.allowed_cpus,
            "quota_cores": host.quota_cores,
            "memory_limit_bytes": host.memory_limit,
            "gpus": crate::host::gpus(),
            "resident_bytes": crate::host::rss_bytes(),
        },
        "models": models,
    })
}

/// Nested values as rows of a dotted name and a value.
fn lines(name: &str, value: &serde_json::Value) -> Vec<Vec<String>> {
    let below = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
    match value {
        serde_json::Value::Object(all) => {
            all.iter().flat_map(|(key, it)| lines(&below(key), it)).collect()
        }
        serde_json::Value::Array(all) => {
            all.iter().enumerate().flat_map(|(at, it)| lines(&below(&at.to_string()), it)).collect()
        }
        serde_json::Value::String(text) => vec![vec![name.to_owned(), text.clone()]],
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {
            vec![vec![name.to_owned(), value.to_string()]]
        }
    }
}
