//! Where and when: processor, cores, versions; and who used the processor.

use std::{fs, process::Command, time::Duration};

use linesight::{host::Host, onnx::Environment, types::WallTime};
use serde::Serialize;

/// What the figures hold for.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    pub date: String,
    pub processor: String,
    pub cores: usize,
    pub memory_gib: f64,
    pub kernel: String,
    pub rustc: String,
    pub linesight: String,
    pub commit: String,
    pub onnxruntime: String,
    pub onnxruntime_digest: String,
    pub load_average_before: String,
}

impl Machine {
    pub fn look(environment: &Environment) -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|it| it.starts_with(name));
            let value = line.and_then(|it| it.split_once(':')).map(|(_, it)| it.trim().to_owned());
            value.unwrap_or_else(|| "unknown".to_owned())
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let kib: f64 = memory.split(' ').next().and_then(|it| it.parse().ok()).unwrap_or(f64::NAN);
        let dirty =
            if said("git", &["status", "--porcelain", "-uno"]).is_empty() { "" } else { "+" };
        let digest = environment.library_digest();
        Self {
            date: WallTime::now().to_string(),
            processor: field(&cpuinfo, "model name"),
            cores: Host::detect().cores(None).get(),
            memory_gib: kib / f64::from(1 << 20),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            rustc: said("rustc", &["--version"]),
            linesight: env!("CARGO_PKG_VERSION").to_owned(),
            commit: said("git", &["rev-parse", "--short", "HEAD"]) + dirty,
            onnxruntime: environment.version().to_owned(),
            onnxruntime_digest: digest.map_or_else(|| "unknown".to_owned(), |it| it.to_string()),
            load_average_before: read("/proc/loadavg")
                .split(' ')
                .take(3)
                .collect::<Vec<_>>()
                .join(" "),
        }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let text = output.map(|it| String::from_utf8_lossy(&it.stdout).trim().to_owned());
    text.unwrap_or_default()
}

/// A process's processor time at one moment.
#[derive(Debug, Clone)]
pub struct Cpu {
    stat: String,
    at: Duration,
}

/// Processor time used.
#[derive(Debug, Clone, Copy)]
pub struct CpuTime(Duration);

impl Cpu {
    pub fn of_self() -> Self {
        Self::read("/proc/self/stat".to_owned())
    }

    pub fn of(process: u32) -> Self {
        Self::read(format!("/proc/{process}/stat"))
    }

    fn read(stat: String) -> Self {
        let at = process_time(&read(&stat)).unwrap_or_default();
        Self { stat, at }
    }

    pub fn since(&self) -> CpuTime {
        let now = process_time(&read(&self.stat)).unwrap_or_default();
        CpuTime(now.saturating_sub(self.at))
    }
}

impl CpuTime {
    /// Milliseconds for each of `count`.
    pub fn per(self, count: usize) -> f64 {
        crate::stats::millis(self.0) / crate::stats::ratio(count, 1)
    }
}

/// Linux counts in hundredths of a second, whatever it ticks in.
const TICK: Duration = Duration::from_millis(10);

/// `utime` and `stime`, the 14th and 15th field, and those of children that have ended, which
/// follow; the 2nd may hold blanks, in parentheses.
fn process_time(stat: &str) -> Option<Duration> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields = rest.split_whitespace().skip(11).take(4);
    let ticks: Vec<u32> = fields.map(str::parse).collect::<Result<_, _>>().ok()?;
    Some(TICK * ticks.iter().sum::<u32>())
}

/// Processor time of everything on the machine at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Everything(Duration);

impl Everything {
    pub fn now() -> Self {
        let stat = read("/proc/stat");
        // user nice system idle iowait irq softirq steal; guest time is in user already.
        let fields: Vec<u32> = stat
            .lines()
            .next()
            .map(|it| it.split_whitespace().skip(1).filter_map(|it| it.parse().ok()).collect())
            .unwrap_or_default();
        let busy: u32 = [0, 1, 2, 5, 6, 7].iter().filter_map(|it| fields.get(*it)).sum();
        Self(TICK * busy)
    }

    /// The share of the machine since then that went to others, given what `ours` have used.
    pub fn others_share(self, ours: &[CpuTime], elapsed: Duration) -> f64 {
        let busy = Self::now().0.saturating_sub(self.0).as_secs_f64();
        let used: f64 = ours.iter().map(|it| it.0.as_secs_f64()).sum();
        ((busy - used) / (elapsed.as_secs_f64() * n_cores())).max(0.0)
    }
}

/// How many cores the machine grants, for arithmetic.
pub fn n_cores() -> f64 {
    u32::try_from(Host::detect().cores(None).get()).map_or(f64::NAN, f64::from)
}
