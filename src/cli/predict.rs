//! `linesight predict`

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::bail;
use clap::Args;
use futures_util::{StreamExt as _, stream};
use serde_json::json;

use super::{Settings, model_ref, table};
use crate::{
    app::{self, Engines},
    http,
    predict::{Announced, Image, Input, Outcome, Predictor},
    repository::VersionState,
    types::{Instant, ModelRef, RequestId},
};

/// Ask a model about image files, without a server, through the same path.
#[derive(Debug, Args)]
pub(super) struct Predict {
    #[command(flatten)]
    settings: Settings,
    /// The model: NAME, or NAME/VERSION
    #[arg(value_parser = model_ref)]
    model: ModelRef,
    /// Image files
    #[arg(required = true)]
    images: Vec<PathBuf>,
    /// One JSON object a line: "path", then what the server would answer; or "path" and "error"
    #[arg(long)]
    json: bool,
}

/// How many images are asked about at once, for each core: enough that decoding one overlaps the
/// run of another.
const IN_FLIGHT_PER_CORE: usize = 2;

impl Predict {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let config = self.settings.load_quietly()?;
        crate::telemetry::init(&config.log)?;
        let runtime = app::edge_runtime(&config)?;
        let only = (self.model.name.clone(), self.model.version);
        let engines = Engines::start(&config, Some(only))?;
        engines.load(runtime.handle())?;
        check_served(&engines.predictor, &self.model)?;
        let cores = crate::host::Host::detect().cores(config.runtime.cores).get();
        let all_judged = runtime.block_on(self.ask_all(&engines.predictor, cores))?;
        Ok(if all_judged { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Asks about every image, and prints the answers in the order of the images.
    async fn ask_all(&self, predictor: &Predictor, cores: usize) -> anyhow::Result<bool> {
        let asked = stream::iter(&self.images).map(|path| async move {
            let outcome = ask(predictor, &self.model, path).await;
            (path, outcome)
        });
        let mut answers = asked.buffered(cores * IN_FLIGHT_PER_CORE);
        let mut all_judged = true;
        let mut rows = vec![
            ["image", "verdict", "label", "score", "reason", "detail", "ms"]
                .map(str::to_owned)
                .to_vec(),
        ];
        while let Some((path, outcome)) = answers.next().await {
            let shown = path.display().to_string();
            all_judged &= outcome.as_ref().is_ok_and(Outcome::any_judged);
            match (outcome, self.json) {
                (Ok(outcome), true) => {
                    table::print(&http::answer_line(&shown, &outcome, &RequestId::unique())?);
                }
                (Err(error), true) => {
                    table::print(
                        &json!({ "path": shown, "error": format!("{error:#}") }).to_string(),
                    );
                }
                (Ok(outcome), false) => {
                    rows.extend(outcome.items.iter().map(|it| row(path, &outcome, it)));
                }
                (Err(error), false) => rows.push(unanswered(shown, &error)),
            }
        }
        if !self.json {
            table::print(&table::columns(&rows));
        }
        Ok(all_judged)
    }
}

/// Says why a model does not answer, before every image says it again.
fn check_served(predictor: &Predictor, model: &ModelRef) -> anyhow::Result<()> {
    let snapshot = predictor.snapshot();
    let Some(entry) = snapshot.models.get(&model.name) else {
        bail!("there is no model named {} in the repository", model.name);
    };
    for complaint in &entry.complaints {
        table::complain(&format!("note: {complaint}"));
    }
    let version = model.version.or_else(|| entry.serve.first().copied());
    match version.and_then(|it| entry.versions.get(&it)) {
        Some(VersionState::Failed(why)) => bail!("{model} is not served: {why}"),
        Some(VersionState::Serving(serving)) if serving.manifest.preprocess.is_none() => {
            bail!("{model} takes no images: its package.toml has no [preprocess] table")
        }
        Some(VersionState::Serving(_) | VersionState::Loading | VersionState::Found) | None => {}
    }
    Ok(())
}

async fn ask(predictor: &Predictor, model: &ModelRef, path: &Path) -> anyhow::Result<Outcome> {
    let bytes = tokio::fs::read(path).await?;
    let now = Instant::now();
    let announced = Announced {
        model: model.clone(),
        arrived: now,
        body_bytes: Some(bytes.len() as u64),
        timeout: None,
        is_early: false,
    };
    let ticket = predictor.admit(&announced)?;
    let image = Image { bytes: bytes.into(), ..Image::default() };
    let input = Input { images: vec![image], complete: now, outputs: Vec::new() };
    Ok(predictor.predict(ticket, input).await?)
}

/// The row of an image the model was never asked about.
fn unanswered(path: String, error: &anyhow::Error) -> Vec<String> {
    let mut cells = vec![path];
    cells.extend(["undecided", "-", "-", "request_invalid"].map(str::to_owned));
    cells.extend([format!("{error:#}"), String::new()]);
    cells
}

fn row(path: &Path, outcome: &Outcome, item: &crate::predict::ItemOutcome) -> Vec<String> {
    let mut cells = vec![path.display().to_string()];
    match &item.result {
        Ok(judged) => {
            let ranked = judged.scores.as_ref().map(|it| it.ranked()).unwrap_or_default();
            let best = ranked.first().copied();
            let labels = &outcome.model.manifest.labels;
            let label = best.and_then(|(at, _)| labels.get(at)).map_or("-", |it| it);
            let verdict = judged.verdict.as_ref();
            cells.push(verdict.map_or("-", |it| it.decision.as_str()).to_owned());
            cells.push(label.to_owned());
            cells.push(best.map_or("-".to_owned(), |(_, score)| format!("{score:.4}")));
            cells.push(verdict.map_or("-", |it| it.reason.as_str()).to_owned());
            cells.push(verdict.and_then(|it| it.detail.clone()).unwrap_or_default());
        }
        Err(error) => {
            let reason = error.reason().as_str();
            cells.extend(["undecided", "-", "-", reason].map(str::to_owned));
            cells.push(error.to_string());
        }
    }
    let took: Duration = outcome.total;
    cells.push(format!("{:.1}", took.as_secs_f64() * 1e3));
    cells
}
