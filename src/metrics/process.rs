//! Metrics of the process: connections, lanes, builds.

use prometheus::{
    Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, core::Collector,
    process_collector::ProcessCollector,
};

/// Everything that is not about one model.
#[derive(Debug)]
pub struct ProcessMetrics {
    /// `connections{state="open"}`: connections of the data listener now.
    pub connections_open: IntGauge,
    /// `connections_refused_total`: connections closed at once, at the limit.
    pub connections_refused: IntCounter,
    /// `connections_timed_out_total{phase}`: closed by one of the listener's timers.
    connections_timed_out: IntCounterVec,
    /// `connections_malformed_total`: closed because what came was no HTTP, or a head too large.
    pub connections_malformed: IntCounter,
    /// `http_responses_total{listener,code}`.
    responses: IntCounterVec,
    /// `handler_panics_total`: must stay 0.
    pub handler_panics: IntCounter,
    /// `bytes_in_flight`: request bytes held.
    pub bytes_in_flight: IntGauge,
    /// `lanes_abandoned_total`: lanes given up.
    pub lanes_abandoned: IntCounter,
    capacity_cores: Gauge,
    load_ratio: Gauge,
    lanes: IntGaugeVec,
    build_info: IntGaugeVec,
    onnxruntime_info: IntGaugeVec,
}

/// Registers a collector whose name is a constant of this module.
pub(super) fn add<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: Result<C, prometheus::Error>,
) -> C {
    let collector = collector.expect("names and labels of the catalogue are well-formed constants");
    registry
        .register(Box::new(collector.clone()))
        .expect("every name of the catalogue is registered once");
    collector
}

/// Name and help with the prefix every metric carries.
pub(super) fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("linesight_{name}"), help)
}

impl ProcessMetrics {
    #[expect(clippy::too_many_lines, reason = "a table: name, help and labels of each metric")]
    pub(super) fn register(registry: &Registry) -> Self {
        // Fails only when /proc cannot be read; then those few metrics are missing, nothing else.
        let _unavailable = registry.register(Box::new(ProcessCollector::for_self()));
        let connections = add(
            registry,
            IntGaugeVec::new(opts("connections", "Connections of the data listener."), &["state"]),
        );
        Self {
            connections_open: connections.with_label_values(&["open"]),
            connections_refused: add(
                registry,
                IntCounter::with_opts(opts(
                    "connections_refused_total",
                    "Connections closed at once because the limit was reached.",
                )),
            ),
            connections_timed_out: add(
                registry,
                IntCounterVec::new(
                    opts("connections_timed_out_total", "Connections closed by a timer."),
                    &["phase"],
                ),
            ),
            connections_malformed: add(
                registry,
                IntCounter::with_opts(opts(
                    "connections_malformed_total",
                    "Connections closed because no request could be read from them.",
                )),
            ),
            responses: add(
                registry,
                IntCounterVec::new(
                    opts("http_responses_total", "Answers by listener and status code."),
                    &["listener", "code"],
                ),
            ),
            handler_panics: add(
                registry,
                IntCounter::with_opts(opts(
                    "handler_panics_total",
                    "Panics caught at the HTTP edge; each is a bug.",
                )),
            ),
            bytes_in_flight: add(
                registry,
                IntGauge::with_opts(opts("bytes_in_flight", "Request bytes held in memory.")),
            ),
            lanes_abandoned: add(
                registry,
                IntCounter::with_opts(opts(
                    "lanes_abandoned_total",
                    "Lanes that did not come back from a run and were given up.",
                )),
            ),
            load_ratio: add(
                registry,
                Gauge::with_opts(opts(
                    "load_ratio",
                    "Demand over capacity, the average of 10 s; above 1 work is refused.",
                )),
            ),
            capacity_cores: add(
                registry,
                Gauge::with_opts(opts("capacity_cores", "Core tokens the scheduler hands out.")),
            ),
            lanes: add(registry, IntGaugeVec::new(opts("lanes", "Lanes by state."), &["state"])),
            build_info: add(
                registry,
                IntGaugeVec::new(opts("build_info", "Always 1."), &["version"]),
            ),
            onnxruntime_info: add(
                registry,
                IntGaugeVec::new(opts("onnxruntime_info", "Always 1."), &["version", "digest"]),
            ),
        }
    }

    /// Counts an answer by status code.
    pub fn answered(&self, listener: &'static str, code: u16) {
        self.responses.with_label_values(&[listener, &code.to_string()]).inc();
    }

    /// Counts a connection closed by a timer: `first_byte`, `header`, `idle`, ….
    pub fn timed_out(&self, phase: &'static str) {
        self.connections_timed_out.with_label_values(&[phase]).inc();
    }

    /// States how many core tokens there are.
    pub fn set_capacity(&self, cores: std::num::NonZeroUsize) {
        let cores = u32::try_from(cores.get()).unwrap_or(u32::MAX);
        self.capacity_cores.set(f64::from(cores));
    }

    /// States how much is asked for of how many cores.
    pub fn set_load(&self, ratio: f64) {
        self.load_ratio.set(ratio);
    }

    /// States how many lanes are idle, busy and lost.
    pub fn set_lanes(&self, [idle, busy, lost]: [usize; 3]) {
        for (state, n) in [("idle", idle), ("busy", busy), ("lost", lost)] {
            self.lanes.with_label_values(&[state]).set(i64::try_from(n).unwrap_or(i64::MAX));
        }
    }

    /// States which build this is.
    pub fn set_build(&self, version: &str) {
        self.build_info.with_label_values(&[version]).set(1);
    }

    /// States which ONNX Runtime serves: its version and the digest of its file.
    pub fn set_onnxruntime(&self, version: &str, digest: &str) {
        self.onnxruntime_info.with_label_values(&[version, digest]).set(1);
    }
}
