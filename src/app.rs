//! Builds the engines from the settings, starts them in order, stops them in order.
//!
//! Start: ONNX Runtime, lanes, listeners (so that probes are answered), then the models in the
//! background. Stop: readiness off, a short delay in which requests are still taken, no more
//! connections, what is in flight, admin, lanes.

use std::{
    convert::Infallible, io, net::SocketAddr, num::NonZeroUsize, path::Path, sync::Arc,
    time::Duration,
};

use crate::{
    admin,
    batch::Batcher,
    config::Config,
    host::{self, Host},
    http::{self, HttpConfig, HttpState, Listener, ListenerConfig},
    imaging,
    metrics::Metrics,
    onnx::{Environment, EnvironmentError, SessionConfig},
    predict::{PredictConfig, Predictor},
    repository::{self, Catalog, LoadConfig, Provision, RepositoryError},
    shutdown::{self, Shutdown},
    types::{ModelName, ModelVersion},
};

/// Why the server, or an offline tool, did not start or ended early.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// ONNX Runtime is not there, or not as it should be.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// The model repository cannot be read.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// An address is taken, or not this machine's.
    #[error("cannot listen on {address} for {what}")]
    Bind {
        /// Which listener.
        what: &'static str,
        /// The address as configured.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The system gave no thread or no signal handler.
    #[error("cannot start")]
    System(#[from] io::Error),
}

/// The engines below every edge: what `serve` and the offline tools have in common.
#[derive(Debug)]
pub struct Engines {
    /// ONNX Runtime.
    pub environment: Environment,
    /// Everything counted.
    pub metrics: Arc<Metrics>,
    /// The path of a request.
    pub predictor: Predictor,
    provision: Provision,
}

impl Engines {
    /// Starts ONNX Runtime and the lanes; no model is loaded yet. `only` leaves out every other
    /// model, and serves the version named whether the operator does or not.
    ///
    /// # Errors
    /// When ONNX Runtime or the system refuses.
    pub fn start(
        config: &Config,
        only: Option<(ModelName, Option<ModelVersion>)>,
    ) -> Result<Self, AppError> {
        let environment = Environment::load(&config.runtime.library)?;
        let host = Host::detect();
        let cores = host.cores(config.runtime.cores);
        let metrics = Metrics::new();
        metrics.process.set_build(env!("CARGO_PKG_VERSION"));
        metrics.process.set_capacity(cores);
        tracing::info!(
            cores, lanes = cores, threads_per_lane = 1, decoding = "on the lanes",
            edge_threads = edge_threads(cores), spin = config.runtime.spin,
            allowed_cpus = host.allowed_cpus, quota_cores = ?host.quota_cores,
            memory_bytes = host.memory(config.runtime.memory),
            onnxruntime = environment.version(),
            library = %environment.library_path().display(), "plan"
        );
        let batcher = Arc::new(Batcher::start(cores, Arc::clone(&metrics))?);
        let catalog = Arc::new(Catalog::default());
        let images = imaging::Limits { max_pixels: config.http.max_pixels };
        let limits = PredictConfig { max_bytes_in_flight: config.http.max_bytes_in_flight, images };
        let predictor = Predictor::new(
            Arc::clone(&catalog),
            Arc::clone(&batcher),
            Arc::clone(&metrics),
            limits,
        );
        let provision = Provision {
            root: config.models.path.clone(),
            only,
            config: load_config(config),
            environment: environment.clone(),
            batcher,
            metrics: Arc::clone(&metrics),
            catalog,
        };
        Ok(Self { environment, metrics, predictor, provision })
    }

    /// Loads the models; returns when every one has ended its loading.
    ///
    /// # Errors
    /// When the repository cannot be listed; what is wrong with one model is in the catalog.
    pub fn load(&self, runtime: &tokio::runtime::Handle) -> Result<(), AppError> {
        Ok(self.provision.run(runtime)?)
    }
}

/// How packages are read and sessions opened, from the settings.
#[must_use]
pub fn load_config(config: &Config) -> LoadConfig {
    LoadConfig {
        files: repository::Limits {
            model: config.models.max_model_bytes,
            ..repository::Limits::default()
        },
        images: imaging::Limits { max_pixels: config.http.max_pixels },
        sessions: SessionConfig { spin: config.runtime.spin },
        cache: config.models.cache.folder().map(Path::to_path_buf),
        cpu: host::cpu(),
        gpus: host::gpus(),
        memory: Host::detect().memory(config.runtime.memory),
        memory_taken: host::anonymous_bytes,
        settings: format!("{}\n", config.to_toml().trim_end()),
    }
}

/// A runtime for the edges. Reading and writing sockets needs little; the lanes have the cores.
///
/// # Errors
/// When the system gives no threads.
pub fn edge_runtime(config: &Config) -> io::Result<tokio::runtime::Runtime> {
    let cores = Host::detect().cores(config.runtime.cores);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(edge_threads(cores))
        .thread_name("edge")
        .enable_all()
        .build()
}

/// Threads that read and write sockets: one for every two cores. They share the cores with the lanes
/// and need little; and a second one to wake takes more from the lanes than it gives: on two cores at
/// twice the load a third more context switches.
#[must_use]
pub fn edge_threads(cores: NonZeroUsize) -> usize {
    (cores.get() / 2).clamp(1, MAX_EDGE_THREADS)
}

const MAX_EDGE_THREADS: usize = 4;

/// Serves until a signal asks it to stop; everything in flight is answered first. Then ends the
/// process, successfully: a model that is still loading is not waited for.
///
/// # Errors
/// What kept it from starting.
pub fn serve(config: &Config) -> Result<Infallible, AppError> {
    let runtime = edge_runtime(config)?;
    let result = runtime.block_on(run(config));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result?;
    shutdown::end_process(shutdown::EXIT_STOPPED)
}

async fn run(config: &Config) -> Result<(), AppError> {
    let shutdown = Shutdown::new();
    let signals = tokio::spawn(shutdown::watch_signals(shutdown.clone())?);
    let engines = Arc::new(Engines::start(config, None)?);
    let state =
        HttpState::new(engines.predictor.clone(), Arc::clone(&engines.metrics), limits(config));

    let metrics = Some(Arc::clone(&engines.metrics));
    let (data, admin) = (config.server.data, config.server.admin);
    let listener = Listener::bind(data, connection_limits(config), metrics)
        .await
        .map_err(|source| AppError::Bind { what: "data", address: data, source })?;
    let admin_stop = Shutdown::new();
    let stop = admin_stop.clone();
    let admin = admin::serve(admin, state.clone(), async move { stop.requested().await })
        .map_err(|source| AppError::Bind { what: "admin", address: admin, source })?;
    tracing::info!(data = %listener.address(), admin = %admin.address(), "listening");

    let loading = start_loading(&engines, &shutdown);
    let (asked, draining) = (shutdown.clone(), state.clone());
    let until_drained = async {
        asked.requested().await;
        draining.start_draining();
        let at_once = asked.is_at_once();
        let drain_delay = if at_once { Duration::ZERO } else { config.server.drain_delay };
        tracing::info!(delay_seconds = drain_delay.as_secs_f64(), "stopping: no longer ready");
        tokio::time::sleep(drain_delay).await;
    };
    let drained = listener.serve(http::router(state), until_drained).await;
    tracing::info!(connections_cut = drained.n_cut, "stopped taking requests");
    admin_stop.request();
    let joined = tokio::task::spawn_blocking(move || admin.join());
    let _admin_logs_its_own_panic = joined.await;
    signals.abort();
    if loading.is_finished() { loading.await.unwrap_or(Ok(())) } else { Ok(()) }
}

/// Loads the models beside the listeners; a repository that cannot be read ends the process.
fn start_loading(
    engines: &Arc<Engines>,
    shutdown: &Shutdown,
) -> tokio::task::JoinHandle<Result<(), AppError>> {
    let (engines, shutdown) = (Arc::clone(engines), shutdown.clone());
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        let result = engines.load(&runtime);
        host::settle_allocator();
        if result.is_err() {
            shutdown.request_at_once();
        }
        let digest = engines.environment.library_digest();
        let digest = digest.map_or_else(|| "unknown".to_owned(), |it| it.to_string());
        engines.metrics.process.set_onnxruntime(engines.environment.version(), &digest);
        result
    })
}

fn limits(config: &Config) -> HttpConfig {
    let defaults = HttpConfig::default();
    // Pieces of 256 bytes are small enough for anyone, however large the bodies allowed.
    let small_pieces = usize::try_from(config.http.max_body / 256).unwrap_or(usize::MAX);
    HttpConfig {
        body_limit: config.http.max_body,
        body_frames: defaults.body_frames.max(small_pieces),
        body_timeout: config.http.body_timeout,
        images: config.http.max_images.get(),
        pace_retries: config.http.pace_retries,
        ..defaults
    }
}

fn connection_limits(config: &Config) -> ListenerConfig {
    ListenerConfig {
        connections: config.http.max_connections.get(),
        connections_per_address: config
            .http
            .max_connections_per_address
            .map_or(0, NonZeroUsize::get),
        first_byte_timeout: config.http.first_byte_timeout,
        header_timeout: config.http.header_timeout,
        idle_timeout: config.http.idle_timeout,
        grace: config.server.shutdown_grace,
        ..ListenerConfig::default()
    }
}
