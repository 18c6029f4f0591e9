//! Whether a model answers on a GPU as it should, and what it answers there: one table. Started by
//! `scripts/gpu-check`, or by `cargo bench --bench gpu -- --device cuda`; with `--device cpu` on any machine.
//!
//! Golden samples and batch invariance decide how it exits; throughput is for reading. Ratios are of turns
//! taken one after the other, so that what else the machine does falls on both sides.
#![expect(unreachable_pub, reason = "modules of a program have no outside")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

mod runs; // a size at a time: is it sound, what does it cost
mod subject; // the model as the server loads it, and its rows
mod throughput; // lanes against sessions in process

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use linesight::{
    config::{Config, ConfigSources, RawConfig},
    host,
    onnx::{Environment, LibraryChoice},
    repository::Sharing,
    telemetry,
};

use self::{runs::Size, subject::Subject};

const USAGE: &str = "usage: gpu-check [--device cuda|tensorrt|cpu] [--model NAME] [--models DIR] \
                     [--onnxruntime-lib PATH]";

/// What was typed.
struct Asked {
    device: String,
    model: String,
    models: PathBuf,
    library: LibraryChoice,
}

impl Asked {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut asked = Self {
            device: "cuda".to_owned(),
            model: "vial-defect".to_owned(),
            models: "models".into(),
            library: match std::env::var_os("ORT_DYLIB_PATH").filter(|it| !it.is_empty()) {
                Some(path) => named(path, "ORT_DYLIB_PATH"),
                None => LibraryChoice::Search,
            },
        };
        while let Some(flag) = words.next() {
            let mut value = || words.next().with_context(|| format!("{flag} needs a value"));
            match flag.as_str() {
                // What cargo adds.
                "--bench" => {}
                "--device" => asked.device = value()?,
                "--model" => asked.model = value()?,
                "--models" => asked.models = value()?.into(),
                "--onnxruntime-lib" => asked.library = named(value()?, "--onnxruntime-lib"),
                _ => bail!("unknown argument {flag:?}\n{USAGE}"),
            }
        }
        if !["cuda", "tensorrt", "cpu"].contains(&asked.device.as_str()) {
            bail!("there is no device {:?}\n{USAGE}", asked.device);
        }
        Ok(asked)
    }
}

fn named(path: impl Into<PathBuf>, by: &str) -> LibraryChoice {
    LibraryChoice::Named { path: path.into(), by: by.to_owned() }
}

fn main() -> ExitCode {
    match check() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("gpu-check: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the table; whether nothing in it is wrong.
fn check() -> Result<bool> {
    let asked = Asked::read(std::env::args().skip(1))?;
    let config = settings()?;
    telemetry::init(&config.log)?;
    let environment = Environment::load(&asked.library)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    eprintln!("gpu-check: loading {} with device = \"{}\"", asked.model, asked.device);
    let place = (&*asked.models, &*asked.model, &*asked.device);
    let subject = Subject::load(&environment, &config, place, &runtime)?;
    eprintln!("gpu-check: running sizes");
    let sizes = runs::measure(&subject)?;
    eprintln!("gpu-check: throughput, in turns");
    let rates = throughput::measure(&subject, &runtime)?;

    let plan = &subject.serving.plan;
    let tolerance = subject.serving.manifest.tolerance.scores;
    let mut rows = vec![
        row("model", format!("{} version {}", asked.model, subject.serving.version)),
        row("provider that serves", plan.compute.provider.as_str().to_owned()),
        row("nodes on the device", plan.compute.share().unwrap_or_else(|| "not used".into())),
        row("GPU", gpus(&plan.devices)),
        row("driver", driver()),
        row("processor", host::cpu()),
        row("ONNX Runtime", environment.version().to_owned()),
        row("golden samples through the lanes", format!("{0} of {0} passed", subject.n_golden)),
        row("lanes; items a run", format!("{}; {}", plan.lanes, plan.max_batch)),
    ];
    if let Sharing::Refused(why) = &subject.sharing() {
        rows.push(row("items may not share a run", why.clone()));
    }
    rows.extend(sizes.iter().map(|it| it.row(tolerance)));
    rows.push(row("rows/s, sessions in process", format!("{:.0}", rates.raw)));
    rows.push(row("rows/s, through the lanes", format!("{:.0}", rates.lanes)));
    rows.push(row("lanes to sessions", format!("{:.2}", rates.ratio)));
    rows.push(row("JPEG/s, through the lanes", format!("{:.0}", rates.jpegs)));
    let sound = sizes.iter().all(|it| it.is_sound(tolerance));
    rows.push(row("result", if sound { "sound" } else { "NOT SOUND" }.to_owned()));
    println!("| what | value |\n|---|---|");
    for [what, value] in rows {
        println!("| {what} | {value} |");
    }
    Ok(sound)
}

/// The defaults, but for a log that leaves the table alone.
fn settings() -> Result<Config> {
    let mut flags = RawConfig::default();
    flags.set("log.level", "gpu-check", "warn");
    Ok(Config::load(ConfigSources { flags, env: Vec::new(), file: None })?)
}

fn row(what: &str, value: String) -> [String; 2] {
    [what.to_owned(), value]
}

impl Size {
    fn row(&self, tolerance: f64) -> [String; 2] {
        let what = format!("rows a run: {}", self.rows);
        let Some(took) = self.took else { return [what, "does not run: no memory?".to_owned()] };
        let ms = took.as_secs_f64() * 1e3;
        let rate = throughput::per_second(self.rows, took);
        let held = if self.is_sound(tolerance) { "within" } else { "BEYOND" };
        let value = format!(
            "{ms:.2} ms, {rate:.0} rows/s, deviation {:.1e}, {held} {tolerance:.0e}",
            self.deviation
        );
        [what, value]
    }
}

/// The names of GPUs, by their numbers.
fn gpus(devices: &[u32]) -> String {
    let all = host::gpus();
    let name = |it: &u32| {
        let known = usize::try_from(*it).ok().and_then(|it| all.get(it));
        format!("{it}: {}", known.map_or("unknown", |it| it))
    };
    if devices.is_empty() {
        return "not used".to_owned();
    }
    devices.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// The version that NVIDIA's kernel module gives.
fn driver() -> String {
    let text = fs::read_to_string("/proc/driver/nvidia/version").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let version = line.split_whitespace().find(|it| it.starts_with(|c: char| c.is_ascii_digit()));
    version.unwrap_or("none").to_owned()
}
