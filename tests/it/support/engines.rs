//! The library put together without HTTP: lanes, a loaded repository, handles to its models.

use std::{
    num::NonZeroUsize,
    path::Path,
    sync::{Arc, LazyLock},
};

use linesight::{
    app,
    batch::Batcher,
    config::{Config, ConfigSources, RawConfig},
    metrics::Metrics,
    onnx::{Environment, LibraryChoice},
    repository::{Catalog, Provision, ServingModel},
    types::ModelRef,
};

/// ONNX Runtime: one environment for the whole process, for ever, as it cannot be made twice.
pub static ENVIRONMENT: LazyLock<Environment> =
    LazyLock::new(|| Environment::load(&LibraryChoice::Search).unwrap());

/// Engines with a loaded repository.
pub struct Engines {
    pub catalog: Arc<Catalog>,
    /// Held so that the lanes live as long as the test.
    _batcher: Arc<Batcher>,
}

impl Engines {
    /// Starts lanes and loads everything in the repository.
    pub fn start(root: &Path, n_lanes: usize, runtime: &tokio::runtime::Runtime) -> Self {
        let metrics = Metrics::new();
        let n_lanes = NonZeroUsize::new(n_lanes).unwrap();
        let batcher = Arc::new(Batcher::start(n_lanes, Arc::clone(&metrics)).unwrap());
        let catalog = Arc::new(Catalog::default());
        let flags = RawConfig::default();
        let config = Config::load(ConfigSources { flags, env: Vec::new(), file: None }).unwrap();
        let provision = Provision {
            root: root.to_path_buf(),
            only: None,
            config: app::load_config(&config),
            environment: ENVIRONMENT.clone(),
            batcher: Arc::clone(&batcher),
            metrics,
            catalog: Arc::clone(&catalog),
        };
        provision.run(runtime.handle()).unwrap();
        Self { catalog, _batcher: batcher }
    }

    /// The serving version of a model.
    pub fn model(&self, name: &str) -> Arc<ServingModel> {
        let model = ModelRef { name: name.parse().unwrap(), version: None };
        self.catalog.resolve(&model).unwrap()
    }
}
