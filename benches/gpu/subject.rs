//! The model as the server loads it, on the device asked for, and its golden pictures as rows.

use std::{fs, path::Path, sync::Arc};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use linesight::{
    app,
    batch::Batcher,
    config::Config,
    host::Host,
    imaging::{self, Header, Workspace},
    metrics::Metrics,
    onnx::{Accelerator, Environment, Graph, Provider, SessionConfig},
    repository::{Catalog, Limits, Provision, SealedPackage, ServingModel, Sharing, VersionState},
    types::{ModelRef, ModelVersion, NamedTensor, Tensor},
};

/// What is checked.
pub struct Subject {
    pub serving: Arc<ServingModel>,
    pub n_golden: usize,
    /// To open sessions in process from, where the lanes have theirs.
    pub graph: Graph,
    /// The golden pictures, decoded: one row each.
    pub rows: Vec<NamedTensor>,
    /// And as they came, those that are plain JPEGs.
    pub jpegs: Vec<(Bytes, Header)>,
    _batcher: Arc<Batcher>,
}

impl Subject {
    /// Loads it as `linesight serve` would, with another `[runtime]`: whatever keeps it from serving,
    /// golden samples too, is an error.
    pub fn load(
        environment: &Environment,
        config: &Config,
        (models, name, device): (&Path, &str, &str),
        runtime: &tokio::runtime::Runtime,
    ) -> Result<Self> {
        let version = served(&models.join(name))?;
        let repository = tempfile::tempdir()?;
        let folder = repository.path().join(name).join(&version);
        copy(&models.join(name).join(&version), &folder)?;
        // Deadlines are not what is checked.
        let settings = format!(
            "[budget]\ntarget = \"60s\"\nlimit = \"60s\"\n[runtime]\ndevice = \"{device}\"\n"
        );
        fs::write(repository.path().join(name).join("model.toml"), settings)?;
        let (serving, batcher) = serve(environment, config, (repository.path(), name), runtime)?;

        let (name, parsed): (_, ModelVersion) = (name.parse()?, version.parse()?);
        let package = SealedPackage::read(&folder, &name, parsed, &Limits::default())?;
        if package.golden.is_empty() {
            bail!("{name} has no golden samples: there is nothing to check it by");
        }
        let graph = graph(environment, &package.model, &serving)?;
        let (rows, jpegs) = pictures(&serving, &package)?;
        let n_golden = package.golden.len();
        Ok(Self { serving, n_golden, graph, rows, jpegs, _batcher: batcher })
    }

    /// Whether the load found that items may share a run.
    pub fn sharing(&self) -> Sharing {
        let plan = &self.serving.plan;
        match plan.why_max_batch.strip_prefix("items may not share a run: ") {
            Some(why) => Sharing::Refused(why.to_owned()),
            None => Sharing::Proven,
        }
    }
}

/// The lanes and the repository, put together as `serve` does, without HTTP.
fn serve(
    environment: &Environment,
    config: &Config,
    (root, name): (&Path, &str),
    runtime: &tokio::runtime::Runtime,
) -> Result<(Arc<ServingModel>, Arc<Batcher>)> {
    let metrics = Metrics::new();
    let cores = Host::detect().cores(None);
    let batcher = Arc::new(Batcher::start(cores, Arc::clone(&metrics))?);
    let catalog = Arc::new(Catalog::default());
    let mut load = app::load_config(config);
    load.cache = None;
    let provision = Provision {
        root: root.to_path_buf(),
        only: None,
        config: load,
        environment: environment.clone(),
        batcher: Arc::clone(&batcher),
        metrics,
        catalog: Arc::clone(&catalog),
    };
    provision.run(runtime.handle())?;
    let model = ModelRef { name: name.parse()?, version: None };
    if let Ok(serving) = catalog.resolve(&model) {
        return Ok((serving, batcher));
    }
    let snapshot = catalog.snapshot();
    let states = snapshot.models.get(&model.name).into_iter().flat_map(|it| it.versions.values());
    for state in states {
        if let VersionState::Failed(why) = state {
            bail!("{name} is not served: {why}");
        }
    }
    bail!("{name} is not served")
}

fn graph(environment: &Environment, model: &Arc<[u8]>, serving: &ServingModel) -> Result<Graph> {
    let (provider, devices) = (serving.plan.compute.provider, serving.plan.devices.clone());
    let sessions = SessionConfig::default();
    if provider == Provider::Cpu {
        return Ok(Graph::optimise(environment, model, sessions)?);
    }
    let accelerator = Accelerator { provider, devices, memory: None };
    Graph::on_devices(environment, model, sessions, accelerator)
        .map_err(|(device, error)| anyhow::anyhow!("device {device}: {error}"))
}

/// The golden pictures as rows, and those of them that are plain JPEGs.
#[expect(clippy::type_complexity, reason = "two lists of the same pictures")]
fn pictures(
    serving: &ServingModel,
    package: &SealedPackage,
) -> Result<(Vec<NamedTensor>, Vec<(Bytes, Header)>)> {
    let preprocess = serving.manifest.preprocess.as_ref().context("it takes no pictures")?;
    let input = serving.signature.inputs.first().context("it has no input")?;
    let limits = imaging::Limits::default();
    let shape: Vec<usize> = std::iter::once(1).chain(preprocess.output_shape()).collect();
    let mut workspace = Workspace::new();
    let (mut rows, mut jpegs) = (Vec::new(), Vec::new());
    for sample in &package.golden {
        let pixels = workspace.prepare(&sample.image, preprocess, &limits)?;
        let mut row = vec![0.0_f32; preprocess.row_len()];
        preprocess.write_row(&pixels, &mut row);
        let tensor = Tensor::new(shape.clone(), row)?;
        rows.push(NamedTensor { name: Arc::clone(&input.name), tensor });
        if sample.name.ends_with(".jpg") && !sample.name.starts_with("format-") {
            let header = imaging::inspect(&sample.image, &limits)?;
            jpegs.push((Bytes::copy_from_slice(&sample.image), header));
        }
    }
    Ok((rows, jpegs))
}

/// The version that `model.toml` names first, or the only one.
fn served(model: &Path) -> Result<String> {
    let settings: toml::Table =
        fs::read_to_string(model.join("model.toml")).unwrap_or_default().parse()?;
    let first = match settings.get("serve") {
        Some(toml::Value::Array(all)) => all.first(),
        one => one,
    };
    if let Some(version) = first.and_then(toml::Value::as_str) {
        return Ok(version.to_owned());
    }
    let entries = fs::read_dir(model).with_context(|| format!("{}", model.display()))?;
    let folders = entries.flatten().filter(|it| it.path().is_dir());
    let mut names = folders.filter_map(|it| it.file_name().into_string().ok());
    match (names.next(), names.next()) {
        (Some(only), None) => Ok(only),
        _ => bail!("{}: model.toml does not say which version is served", model.display()),
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("{}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
