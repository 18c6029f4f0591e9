//! The real server: the binary that ships, as an operator starts it, in a process of its own.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use linesight::types::Instant;
use serde::Deserialize;

use crate::{load::Connection, machine::Cpu, window::pause};

const LONGEST_START: Duration = Duration::from_secs(60);
/// Where servers remember what they measured of models.
const PROFILES: &str = "target/bench/profiles";
const POLL: Duration = Duration::from_millis(2);

/// A running server; dropping it ends it.
pub struct Server {
    process: Child,
    pub data: SocketAddr,
    admin: SocketAddr,
    /// From spawning the process to the first 200 of `/readyz`.
    pub ready_after: Duration,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Listening {
    data: SocketAddr,
    admin: SocketAddr,
}

impl Server {
    /// Builds the binary as it ships in the image, without what the benches switch on in its
    /// dependencies.
    pub fn build() -> Result<PathBuf> {
        let cargo = option_env!("CARGO").unwrap_or("cargo");
        let args = ["build", "--profile", "dist", "--locked", "--quiet", "--bin", "linesight"];
        let done = Command::new(cargo).args(args).status().context("cannot run cargo")?;
        ensure!(done.success(), "the server cannot be built");
        let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
        Ok(Path::new(&target).join("dist/linesight"))
    }

    /// Starts it with default settings on free ports, its log in a file, and waits until it is
    /// ready.
    pub fn start(binary: &Path) -> Result<Self> {
        let folder = Path::new("target/bench");
        fs::create_dir_all(folder)?;
        let log = folder.join("server.log");
        let file = File::create(&log)?;
        let started = Instant::now();
        let mut process = Command::new(binary)
            .args(["serve", "--data", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .env("LINESIGHT_MODELS__CACHE", PROFILES)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        match wait_until_ready(&mut process, &log, started) {
            Ok((at, ready_after)) => {
                Ok(Self { process, data: at.data, admin: at.admin, ready_after })
            }
            Err(error) => {
                let _may_have_ended = process.kill();
                let _reaped = process.wait();
                Err(error)
            }
        }
    }

    /// Lets the next start measure the models anew.
    pub fn forget_profiles() -> Result<()> {
        match fs::remove_dir_all(PROFILES) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Resident memory in MB (10^6 bytes).
    pub fn resident_mb(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib * 1024.0 / 1e6)
    }

    /// A metric without labels, as it is now.
    pub fn metric(&self, name: &str) -> Result<f64> {
        let request = b"GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n";
        let mut connection = Connection::open(self.admin)?;
        let page = String::from_utf8_lossy(connection.ask(request)?.1).into_owned();
        let line = page.lines().find_map(|it| it.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.with_context(|| format!("there is no {name}"))?.parse()?)
    }

    /// Its processor time up to now.
    pub fn cpu(&self) -> Cpu {
        Cpu::of(self.process.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _may_have_ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}

fn wait_until_ready(
    process: &mut Child,
    log: &Path,
    started: Instant,
) -> Result<(Listening, Duration)> {
    let mut listening = None;
    while started.elapsed() < LONGEST_START {
        if let Some(status) = process.try_wait()? {
            bail!("the server ended with {status}: {}", fs::read_to_string(log)?);
        }
        listening = listening.or_else(|| addresses(log));
        if let Some(at) = listening
            && is_ready(at.admin)
        {
            return Ok((at, started.elapsed()));
        }
        pause(POLL);
    }
    bail!("the server was not ready in time: {}", fs::read_to_string(log)?)
}

/// From the log line that says where it listens.
fn addresses(log: &Path) -> Option<Listening> {
    let text = fs::read_to_string(log).ok()?;
    text.lines().find_map(|it| serde_json::from_str(it).ok())
}

fn is_ready(admin: SocketAddr) -> bool {
    let ask = || -> std::io::Result<u16> {
        let request = b"GET /readyz HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n";
        Ok(Connection::open(admin)?.ask(request)?.0)
    };
    matches!(ask(), Ok(200))
}
