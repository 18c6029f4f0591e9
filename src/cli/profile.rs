//! `linesight profile`

use std::{num::NonZeroUsize, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};

use super::{Settings, model_ref, plot, table};
use crate::{
    app,
    host::Host,
    onnx::Environment,
    repository::{Cell, Sharing, Sizes, Survey, Surveyor, rows_per_second_of_all},
    types::{ModelRef, ModelVersion},
};

/// Measure how long a model's runs take, and show the plan that follows.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Profile {
    #[command(flatten)]
    settings: Settings,
    /// The model: NAME, or NAME/VERSION
    #[arg(value_parser = model_ref)]
    model: ModelRef,
    /// Version [default: the one that is served]
    #[arg(long, value_name = "N")]
    version: Option<ModelVersion>,
    /// Threads a run, besides 1 [default: 1, 2, 4 … and all cores]
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    threads: Option<Vec<NonZeroUsize>>,
    /// Items a run, besides 1 [default: 1, 2, 4 … 32, as far as items may share a run]
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    batches: Option<Vec<NonZeroUsize>>,
    /// As JSON, for a record
    #[arg(long)]
    json: bool,
    /// Draw it too: milliseconds over items a run, a line for each number of threads
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

const EXAMPLES: &str = "\
It runs the model with 1, 2, 4 … 32 items a run on 1, 2, 4 … threads up to all cores, and throws away
runs that something else on the machine disturbed. A size at which an item would not get what it gets
alone is not used. Measure on the machine that will serve, while it does nothing else. A whole table
from a quiet moment is remembered for the next start (models.cache).

Examples:
  linesight profile vial-defect
  linesight profile vial-defect --version 3 --threads 1,2 --batches 1,8 --json
  linesight profile vial-defect --plot vial-defect.svg

The columns: threads and items of a run; its shortest and its median time; the shortest for each item;
how many lanes of so many threads there is room for, and how many items a second they would answer
side by side; working memory of a lane; runs that count, and runs thrown away. In the plan, lanes and
max_batch can be overridden in model.toml ([runtime] lanes, max_batch, memory).";

impl Profile {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let config = self.settings.load_quietly()?;
        crate::telemetry::init(&config.log)?;
        let mut model = self.model;
        if let Some(version) = self.version {
            if model.version.is_some_and(|it| it != version) {
                bail!("the model is given as {model}, and --version {version} says otherwise");
            }
            model.version = Some(version);
        }
        let environment = Environment::load(&config.runtime.library)?;
        let load = app::load_config(&config);
        let cores = Host::detect().cores(config.runtime.cores);
        let surveyor =
            Surveyor { root: &config.models.path, environment: &environment, config: &load, cores };
        let sizes = Sizes { threads: self.threads, batches: self.batches };
        let survey = surveyor.survey(&model, &sizes)?;
        let found = Found { survey, cores, onnxruntime: environment.version() };
        if let Some(path) = &self.plot {
            std::fs::write(path, found.plot())
                .with_context(|| format!("writing {}", path.display()))?;
        }
        if self.json {
            table::print(&serde_json::to_string_pretty(&found.json())?);
        } else {
            table::print(&found.text());
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What is shown.
struct Found<'a> {
    survey: Survey,
    cores: NonZeroUsize,
    onnxruntime: &'a str,
}

impl Found<'_> {
    /// What was measured, and on what.
    fn title(&self) -> [String; 2] {
        let Survey { name, version, cpu, gpu, plan, .. } = &self.survey;
        let (cores, onnxruntime) = (self.cores, self.onnxruntime);
        let noun = if cores.get() == 1 { "core" } else { "cores" };
        let place = match (gpu, plan.devices.first()) {
            (Some(gpu), Some(device)) => format!("device {device} ({gpu})"),
            _ => format!("{cores} {noun} of {cpu}"),
        };
        let machine = format!("{place}; ONNX Runtime {onnxruntime}");
        [format!("{name} version {version}"), machine]
    }

    /// Lanes that compute side by side: of so many threads on the cores, or one on each device, whose
    /// other lanes gather meanwhile.
    fn lanes(&self, cell: &Cell) -> usize {
        match self.survey.plan.devices.len() {
            0 => self.cores.get() / cell.threads,
            devices => devices,
        }
    }

    fn items_per_second(&self, cell: &Cell) -> f64 {
        let lanes = NonZeroUsize::new(self.lanes(cell)).unwrap_or(NonZeroUsize::MIN);
        rows_per_second_of_all(lanes, 1, cell.batch, cell.timing.least)
    }

    fn text(&self) -> String {
        let heads = [
            "threads",
            "items",
            "ms a run",
            "median",
            "ms an item",
            "lanes",
            "items/s",
            "MiB a lane",
            "runs",
            "thrown away",
        ];
        let mut rows = vec![heads.map(str::to_owned).to_vec()];
        rows.extend(self.survey.cells.iter().map(|it| self.row(it)));
        let Survey { plan, profile, not_cached, .. } = &self.survey;
        let [what, machine] = self.title();
        let mut text = format!("{what} on {machine}\n\n{}\n", table::columns(&rows));
        if let Sharing::Refused(why) = &profile.sharing {
            text.push_str(&format!("\nItems may not share a run: {why}\n"));
        }
        let line =
            |what: &str, value: String, why: &str| vec![what.to_owned(), value, why.to_owned()];
        let edge = app::edge_threads(self.cores).to_string();
        let compute = &plan.compute;
        let provider = match compute.share() {
            Some(share) => format!("{}, {share} nodes", compute.provider.as_str()),
            None => compute.provider.as_str().to_owned(),
        };
        let planned = [
            line("provider", provider, &compute.why),
            line("lanes", plan.lanes.to_string(), &plan.why_lanes),
            line("threads a lane", plan.threads_per_lane.to_string(), &plan.why_threads),
            line("items a run", plan.max_batch.to_string(), &plan.why_max_batch),
            line("wide lane", plan.wide.as_str().to_owned(), &plan.wide.why()),
            line("decoding", "on the lanes".to_owned(), "a lane decodes what it will run next"),
            line(
                "edge threads",
                edge,
                "sockets, bodies and JSON need little; they share the cores",
            ),
        ];
        text.push_str(&format!("\nPlan\n{}\n", table::columns(&planned)));
        match not_cached {
            None => text.push_str("\nRemembered for the next start."),
            Some(why) => text.push_str(&format!("\nNot remembered for the next start: {why}.")),
        }
        text
    }

    fn row(&self, cell: &Cell) -> Vec<String> {
        let Cell { threads, batch, timing, lane_bytes } = cell;
        let mebibytes = lane_bytes.map_or("-".to_owned(), |it| it.div_ceil(1 << 20).to_string());
        vec![
            threads.to_string(),
            batch.to_string(),
            format!("{:.2}", ms(timing.least)),
            format!("{:.2}", ms(timing.median)),
            format!("{:.2}", ms(timing.least) / count(*batch)),
            self.lanes(cell).to_string(),
            format!("{:.1}", self.items_per_second(cell)),
            mebibytes,
            timing.kept.to_string(),
            timing.disturbed.to_string(),
        ]
    }

    /// Documented in docs/operations.md; fields are added, never renamed.
    fn json(&self) -> Value {
        let Survey { name, version, digest, cpu, gpu, cells, profile, plan, not_cached } =
            &self.survey;
        let run = |it: &Cell| {
            json!({
                "threads": it.threads,
                "batch": it.batch,
                "ms": ms(it.timing.least),
                "median_ms": ms(it.timing.median),
                "ms_per_item": ms(it.timing.least) / count(it.batch),
                "lanes": self.lanes(it),
                "items_per_second": self.items_per_second(it),
                "lane_bytes": it.lane_bytes,
                "runs": it.timing.kept,
                "disturbed_runs": it.timing.disturbed,
            })
        };
        let refused = match &profile.sharing {
            Sharing::Proven => None,
            Sharing::Refused(why) => Some(why),
        };
        json!({
            "model": name,
            "version": version,
            "digest": digest,
            "cpu": cpu,
            "gpu": gpu,
            "cores": self.cores,
            "onnxruntime": self.onnxruntime,
            "runs": cells.iter().map(run).collect::<Vec<_>>(),
            "sharing_refused": refused,
            "plan": {
                "provider": plan.compute.provider.as_str(),
                "devices": plan.devices,
                "nodes": plan.compute.share(),
                "lanes": plan.lanes,
                "threads_per_lane": plan.threads_per_lane,
                "max_batch": plan.max_batch,
                "lane_bytes": plan.lane_bytes,
                "wide": { "state": plan.wide.as_str(), "ratio": plan.wide.ratio(), "built": false },
                "edge_threads": app::edge_threads(self.cores),
                "why": {
                    "provider": plan.compute.why,
                    "lanes": plan.why_lanes,
                    "threads_per_lane": plan.why_threads,
                    "max_batch": plan.why_max_batch,
                    "wide": plan.wide.why(),
                },
            },
            "cached": not_cached.is_none(),
            "not_cached": not_cached,
        })
    }

    fn plot(&self) -> String {
        let mut lines: Vec<plot::Line> = Vec::new();
        for Cell { threads, batch, timing, .. } in &self.survey.cells {
            let name = format!("{threads} thread{}", if *threads == 1 { "" } else { "s" });
            let point = (count(*batch), ms(timing.least));
            match lines.last_mut().filter(|it| it.name == name) {
                Some(line) => line.points.push(point),
                None => lines.push(plot::Line { name, points: vec![point] }),
            }
        }
        let [what, machine] = self.title();
        let axis = |label| plot::Axis { label, scale: plot::Scale::Logarithmic };
        let chart = plot::Chart {
            title: [&what, &machine],
            along: axis("items a run"),
            up: axis("ms a run"),
            lines: &lines,
            guides: &[],
            dots: true,
        };
        chart.svg()
    }
}

fn ms(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}

#[expect(clippy::cast_precision_loss, reason = "a batch is far below 2^52 rows")]
fn count(rows: usize) -> f64 {
    rows as f64
}
