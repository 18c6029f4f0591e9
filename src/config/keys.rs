//! Every key there is: the one table behind the file, the environment and the documentation.

/// One setting.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    /// Table and key: `http.max_body`.
    pub(super) name: &'static str,
    /// How it is written in the file.
    pub(super) form: Form,
    /// The value without any setting, as text; a string in TOML unless `form` says otherwise.
    pub(super) default: &'static str,
    /// For `docs/config.md`, which a test holds equal.
    pub(super) meaning: &'static str,
}

/// Which TOML values a key takes. From the environment and from flags everything is text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A string only: addresses, durations, paths, words.
    Text,
    /// A whole number only.
    Number,
    /// A size: `"16MiB"`, or a whole number of bytes.
    Size,
    /// A whole number, or a word in its place.
    NumberOrWord,
    /// `true` or `false`.
    Switch,
}

impl Form {
    /// What a reader is told to write.
    pub(super) fn expected(self) -> &'static str {
        match self {
            Self::Text => "a string",
            Self::Number => "a whole number",
            Self::Size => "a size as a string, or a whole number of bytes",
            Self::NumberOrWord => "a whole number or a string",
            Self::Switch => "true or false",
        }
    }
}

impl Key {
    /// The variable that sets it: `LINESIGHT_HTTP__MAX_BODY`.
    pub(super) fn variable(&self) -> String {
        format!("LINESIGHT_{}", self.name.replace('.', "__").to_ascii_uppercase())
    }

    /// The table it is in.
    pub(super) fn table(&self) -> &'static str {
        self.name.split_once('.').map_or("", |(table, _)| table)
    }

    /// Its name inside the table.
    pub(super) fn key(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_, key)| key)
    }
}

/// Looks a key up by its full name.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|it| it.name == name)
}

const fn key(name: &'static str, form: Form, default: &'static str, meaning: &'static str) -> Key {
    Key { name, form, default, meaning }
}

/// In the order in which they are printed. Keys of a table stand together.
#[rustfmt::skip]
pub(super) const KEYS: &[Key] = &[
    key("server.data", Form::Text, "127.0.0.1:8080",
        "Address of the data listener: predictions, model information, probes. Port 0 takes a free one."),
    key("server.admin", Form::Text, "127.0.0.1:8082",
        "Address of the admin listener: metrics and probes. Never the data listener's."),
    key("server.drain_delay", Form::Text, "5s",
        "After SIGTERM, how long new requests are still taken while readiness is off, as whoever balances load follows late. SIGINT (Ctrl-C) does not wait for it."),
    key("server.shutdown_grace", Form::Text, "30s",
        "After the drain delay, how long what is in flight may take before it is cut off."),
    key("http.max_connections", Form::Number, "1024",
        "Open connections on the data listener; one more is closed at once."),
    key("http.max_connections_per_address", Form::Number, "0",
        "Of these, how many one client address may hold; 0: no limit (behind a proxy all have one address)."),
    key("http.first_byte_timeout", Form::Text, "5s",
        "From accepting a connection to its first byte."),
    key("http.header_timeout", Form::Text, "5s",
        "From the first byte of a request to the end of its head."),
    key("http.body_timeout", Form::Text, "30s",
        "From the end of the head to the last byte of the body; after it 408."),
    key("http.idle_timeout", Form::Text, "60s",
        "How long a connection may wait between two requests."),
    key("http.max_body", Form::Size, "16MiB",
        "The largest request body; beyond it 413."),
    key("http.max_images", Form::Number, "64",
        "Images in one request; beyond it 400."),
    key("http.max_bytes_in_flight", Form::Size, "128MiB",
        "Bytes of all bodies being read or waiting; beyond it a request is refused (`overloaded`)."),
    key("http.max_pixels", Form::Number, "24000000",
        "Pixels of one image by its header, before anything is decoded; beyond it `image_too_large`."),
    key("http.pace_retries", Form::Text, "auto",
        "`auto`: a connection that asks again before its `Retry-After` has its refusals held for 250 ms, unless it ever carried a forwarding header, as a proxy's does. `off`: never."),
    key("models.path", Form::Text, "models",
        "The model repository: one folder a model. Relative to the current directory."),
    key("models.max_model_bytes", Form::Size, "2GiB",
        "The largest model file that is read."),
    key("models.cache", Form::Text, "auto",
        "Folder that remembers how long runs take, so that the next start need not measure. `auto`: `$XDG_CACHE_HOME/linesight`, else `$HOME/.cache/linesight`, else none. `off`: none."),
    key("runtime.library", Form::Text, "",
        "ONNX Runtime's shared library, or the folder that holds it. Empty: `ORT_DYLIB_PATH`, then beside the executable, `.runtime/`, `/usr/lib/linesight/`, the loader's path."),
    key("runtime.cores", Form::NumberOrWord, "auto",
        "Threads that compute at once. `auto`: what affinity mask and cgroup quota grant, rounded down, at least 1."),
    key("runtime.memory", Form::Size, "auto",
        "What the process may take; a version that surely does not fit is refused instead of the process being killed. `auto`: the memory limit of the cgroup."),
    key("runtime.spin", Form::Switch, "false",
        "Whether ONNX Runtime's threads spin while they wait. It burns the quota of everything else, and changes nothing while a lane's session has one thread, as all have."),
    key("log.level", Form::Text, "info",
        "`off`, `error`, `warn`, `info`, `debug` or `trace`; by module: `info,linesight::batch=debug`."),
    key("log.format", Form::Text, "auto",
        "`text`, `json`, or `auto`: text on a terminal, JSON elsewhere."),
];
