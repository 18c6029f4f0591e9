//! The settings in force, as a file would say them: a fixed order, one spelling for each value.

use super::{CacheChoice, Config, keys::KEYS, units};
use crate::onnx::LibraryChoice;

/// See [`Config::to_toml`].
pub(super) fn to_toml(config: &Config) -> String {
    let mut out = String::new();
    let mut table = "";
    for key in KEYS {
        if key.table() != table {
            let gap = if table.is_empty() { "" } else { "\n" };
            table = key.table();
            out.push_str(&format!("{gap}[{table}]\n"));
        }
        out.push_str(&format!("{} = {}\n", key.key(), value(config, key.name)));
    }
    out
}

/// See [`Config::reference`].
pub(super) fn reference() -> String {
    let mut out = "| key | variable | default | meaning |\n|---|---|---|---|\n".to_owned();
    for key in KEYS {
        let (name, variable, meaning) = (key.name, key.variable(), key.meaning);
        let default =
            if key.default.is_empty() { String::new() } else { format!("`{}`", key.default) };
        out.push_str(&format!("| `{name}` | `{variable}` | {default} | {meaning} |\n"));
    }
    out
}

/// The value of one key in TOML.
fn value(config: &Config, name: &str) -> String {
    let Config { server, http, models, runtime, log } = config;
    let size = |bytes: u64| quoted(&units::print_size(bytes));
    let span = |span| quoted(&units::print_duration(span));
    match name {
        "server.data" => quoted(&server.data.to_string()),
        "server.admin" => quoted(&server.admin.to_string()),
        "server.drain_delay" => span(server.drain_delay),
        "server.shutdown_grace" => span(server.shutdown_grace),
        "http.max_connections" => http.max_connections.to_string(),
        "http.max_connections_per_address" => {
            http.max_connections_per_address.map_or(0, std::num::NonZeroUsize::get).to_string()
        }
        "http.first_byte_timeout" => span(http.first_byte_timeout),
        "http.header_timeout" => span(http.header_timeout),
        "http.body_timeout" => span(http.body_timeout),
        "http.idle_timeout" => span(http.idle_timeout),
        "http.max_body" => size(http.max_body),
        "http.max_images" => http.max_images.to_string(),
        "http.max_bytes_in_flight" => size(http.max_bytes_in_flight),
        "http.max_pixels" => http.max_pixels.to_string(),
        "http.pace_retries" => quoted(if http.pace_retries { "auto" } else { "off" }),
        "models.path" => quoted(&models.path.to_string_lossy()),
        "models.max_model_bytes" => size(models.max_model_bytes),
        "models.cache" => match &models.cache {
            CacheChoice::Auto(_) => quoted("auto"),
            CacheChoice::Off => quoted("off"),
            CacheChoice::Folder(path) => quoted(&path.to_string_lossy()),
        },
        "runtime.library" => match &runtime.library {
            LibraryChoice::Search => quoted(""),
            LibraryChoice::Named { path, by: _ } => quoted(&path.to_string_lossy()),
        },
        "runtime.cores" => runtime.cores.map_or_else(|| quoted("auto"), |cores| cores.to_string()),
        "runtime.memory" => runtime.memory.map_or_else(|| quoted("auto"), size),
        "runtime.spin" => runtime.spin.to_string(),
        "log.level" => quoted(log.level.as_str()),
        "log.format" => quoted(log.format.as_str()),
        // A test prints every key of the table.
        _ => unreachable!("{name} is in the table of keys but is not printed"),
    }
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}
