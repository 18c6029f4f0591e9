//! What is meant: [`RawConfig`] to [`Config`], with every complaint and not just the first.

use std::{
    cell::RefCell,
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    path::PathBuf,
    time::Duration,
};

use super::{
    CacheChoice, Config, ConfigErrors, HttpConfig, ModelsConfig, RuntimeConfig, ServerConfig, keys,
    raw::{Complaint, Origin, RawConfig},
    units,
};
use crate::{onnx::LibraryChoice, telemetry::TelemetryConfig};

/// Checks everything that was typed and fills in the rest.
pub(super) fn validate(raw: RawConfig) -> Result<Config, ConfigErrors> {
    let read = Reader { complaints: RefCell::new(raw.complaints.clone()), raw };
    let config = Config {
        server: server(&read),
        http: http(&read),
        models: ModelsConfig {
            path: read.get("models.path", path),
            max_model_bytes: read.get("models.max_model_bytes", positive_size),
            cache: read.get("models.cache", cache),
        },
        runtime: RuntimeConfig {
            library: read.library(),
            cores: read.get("runtime.cores", cores),
            memory: read.get("runtime.memory", memory),
            spin: read.get("runtime.spin", units::switch),
        },
        log: TelemetryConfig {
            level: read.get("log.level", str::parse),
            format: read.get("log.format", str::parse),
        },
    };
    read.compare(&config);
    let mut complaints = read.complaints.into_inner();
    complaints.sort();
    if complaints.is_empty() { Ok(config) } else { Err(ConfigErrors(complaints)) }
}

fn server(read: &Reader) -> ServerConfig {
    ServerConfig {
        data: read.get("server.data", address),
        admin: read.get("server.admin", address),
        drain_delay: read.get("server.drain_delay", units::duration),
        shutdown_grace: read.get("server.shutdown_grace", units::duration),
    }
}

fn http(read: &Reader) -> HttpConfig {
    HttpConfig {
        max_connections: read.get("http.max_connections", count),
        max_connections_per_address: read.get("http.max_connections_per_address", count_or_zero),
        first_byte_timeout: read.get("http.first_byte_timeout", positive_duration),
        header_timeout: read.get("http.header_timeout", positive_duration),
        body_timeout: read.get("http.body_timeout", positive_duration),
        idle_timeout: read.get("http.idle_timeout", positive_duration),
        max_body: read.get("http.max_body", positive_size),
        max_images: read.get("http.max_images", count),
        max_bytes_in_flight: read.get("http.max_bytes_in_flight", positive_size),
        max_pixels: read.get("http.max_pixels", positive),
        pace_retries: read.get("http.pace_retries", auto_or_off),
    }
}

fn auto_or_off(text: &str) -> Result<bool, String> {
    match text {
        "auto" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("{text:?} is not one of \"auto\", \"off\"")),
    }
}

/// Takes values out of what was typed; complains and goes on with the default where one is wrong,
/// so that the rest is checked too.
struct Reader {
    raw: RawConfig,
    complaints: RefCell<Vec<Complaint>>,
}

impl Reader {
    fn get<T>(&self, name: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> T {
        if let Some(entry) = self.raw.entries.get(name) {
            match parse(&entry.text) {
                Ok(value) => return value,
                Err(problem) => self.complain(entry.origin.clone(), format!("{name}: {problem}")),
            }
        }
        let default = keys::find(name).map(|key| parse(key.default));
        match default {
            Some(Ok(value)) => value,
            #[expect(clippy::panic, reason = "only the table of keys can be wrong; tests load it")]
            _ => panic!("{name} is in the table of keys with a default that parses"),
        }
    }

    fn complain(&self, origin: Origin, text: String) {
        self.complaints.borrow_mut().push(Complaint { origin, text });
    }

    fn library(&self) -> LibraryChoice {
        let path: PathBuf = self.get("runtime.library", |text| Ok(text.into()));
        let entry = self.raw.entries.get("runtime.library");
        match entry.filter(|it| !it.text.is_empty()).map(|it| &it.origin) {
            None => LibraryChoice::Search,
            Some(origin) => LibraryChoice::Named {
                path,
                by: match origin {
                    Origin::Variable(name) | Origin::Flag(name) => name.clone(),
                    Origin::File { name, line, .. } => format!("{name}, line {line}"),
                    Origin::WholeFile { name } => name.clone(),
                    Origin::Together => "the configuration".to_owned(),
                },
            },
        }
    }

    /// Settings that are right one by one and wrong together.
    fn compare(&self, config: &Config) {
        let Config { server, http, .. } = config;
        let (data, admin) = (server.data, server.admin);
        if data.port() == admin.port() && data.port() != 0 && overlap(data.ip(), admin.ip()) {
            let text = if data == admin {
                format!(
                    "server.data and server.admin are both {data}; two listeners need two addresses"
                )
            } else {
                format!(
                    "server.data ({data}) and server.admin ({admin}) are one port of one address; \
                     two listeners need two"
                )
            };
            self.complain(Origin::Together, text);
        }
        if http.max_body > http.max_bytes_in_flight {
            let text = format!(
                "http.max_body ({}) is more than http.max_bytes_in_flight ({}); a body that large \
                 could never be read",
                units::print_size(http.max_body),
                units::print_size(http.max_bytes_in_flight)
            );
            self.complain(Origin::Together, text);
        }
    }
}

/// Whether one socket would take what the other is for. `0.0.0.0` is every address of version 4,
/// `[::]` every one of both.
fn overlap(a: IpAddr, b: IpAddr) -> bool {
    let (a, b) = (a.to_canonical(), b.to_canonical());
    let covers =
        |all: IpAddr, one: IpAddr| all.is_unspecified() && (all.is_ipv6() || one.is_ipv4());
    a == b || covers(a, b) || covers(b, a)
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().or(Err(format!("{text:?} is not an address (as in \"127.0.0.1:8080\")")))
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("a path is needed".to_owned()) } else { Ok(text.into()) }
}

fn cache(text: &str) -> Result<CacheChoice, String> {
    match text {
        "" => Err("a folder is needed, or \"auto\" or \"off\"".to_owned()),
        "auto" => Ok(CacheChoice::Auto(None)),
        "off" => Ok(CacheChoice::Off),
        folder => Ok(CacheChoice::Folder(folder.into())),
    }
}

fn positive(text: &str) -> Result<u64, String> {
    units::number(text).and_then(not_zero)
}

fn positive_size(text: &str) -> Result<u64, String> {
    units::size(text).and_then(not_zero)
}

fn not_zero(value: u64) -> Result<u64, String> {
    if value == 0 { Err("0 would refuse everything".to_owned()) } else { Ok(value) }
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    let duration = units::duration(text)?;
    if duration.is_zero() { Err("0 would refuse everything".to_owned()) } else { Ok(duration) }
}

fn count(text: &str) -> Result<NonZeroUsize, String> {
    count_or_zero(text)?.ok_or_else(|| "0 would refuse everything".to_owned())
}

fn count_or_zero(text: &str) -> Result<Option<NonZeroUsize>, String> {
    let number = usize::try_from(units::number(text)?);
    number.map(NonZeroUsize::new).or(Err(format!("{text} is too large")))
}

fn memory(text: &str) -> Result<Option<u64>, String> {
    if text == "auto" {
        return Ok(None);
    }
    let bytes = positive_size(text).map(Some);
    bytes.map_err(|problem| format!("{problem}; nor is it \"auto\""))
}

fn cores(text: &str) -> Result<Option<NonZeroUsize>, String> {
    if text == "auto" {
        return Ok(None);
    }
    let cores = units::number(text).ok().and_then(|it| usize::try_from(it).ok());
    match cores.and_then(NonZeroUsize::new) {
        // Far above any machine: a slip, and as many threads would be made.
        Some(cores) if cores.get() <= 1024 => Ok(Some(cores)),
        _ => Err(format!("{text:?} is neither \"auto\" nor a number from 1 to 1024")),
    }
}
