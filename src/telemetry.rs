//! Log lines: one event, one line, on standard error, as text or JSON.
//!
//! A name or an id that a client chose may stand in any field, so nothing in an event can begin a
//! new line or drive a terminal: whatever the formatter wrote, control characters leave escaped.
//! No colours, for the same reason.

use std::{
    fmt,
    io::{self, IsTerminal as _, Write},
    str::FromStr,
};

use tracing_subscriber::{EnvFilter, fmt::MakeWriter, util::SubscriberInitExt as _};

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TelemetryConfig {
    /// Which events are logged.
    pub level: Level,
    /// How a line looks.
    pub format: Format,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// For machines: one object a line.
    Json,
}

impl Format {
    /// The word used in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(given: &str) -> Result<Self, String> {
        [Self::Auto, Self::Text, Self::Json]
            .into_iter()
            .find(|it| it.as_str() == given)
            .ok_or_else(|| format!("{given:?} is not a format (auto, text or json)"))
    }
}

/// A level, or levels by target: `info`, `info,linesight::batch=debug`.
///
/// Stricter than the filter it becomes, which takes a misspelt level for the name of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level(String);

impl Level {
    /// As it stands in the configuration.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(given: &str) -> Result<Self, String> {
        let is_level =
            |word: &str| matches!(word, "off" | "error" | "warn" | "info" | "debug" | "trace");
        for part in given.split(',') {
            let (target, level) = part.split_once('=').unwrap_or(("_", part));
            let named = !target.is_empty()
                && target.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':'));
            if !named || !is_level(level) {
                return Err(format!(
                    "{part:?} is not a level (off, error, warn, info, debug, trace, or target=level)"
                ));
            }
        }
        Ok(Self(given.to_owned()))
    }
}

/// A second subscriber was asked for; a process has one.
#[derive(Debug, thiserror::Error)]
#[error("logging is already set up")]
pub struct AlreadySetUp;

/// Sends every event of this process to standard error.
///
/// # Errors
/// If something in the process has done so before.
pub fn init(config: &TelemetryConfig) -> Result<(), AlreadySetUp> {
    let set_up = match format_for(config.format, io::stderr().is_terminal()) {
        Format::Json => json(&config.level, OneLine(io::stderr)).try_init(),
        Format::Text | Format::Auto => text(&config.level, OneLine(io::stderr)).try_init(),
    };
    set_up.or(Err(AlreadySetUp))
}

fn format_for(format: Format, terminal: bool) -> Format {
    match format {
        Format::Auto if terminal => Format::Text,
        Format::Auto => Format::Json,
        Format::Text | Format::Json => format,
    }
}

fn text<W>(level: &Level, writer: OneLine<W>) -> impl tracing::Subscriber + use<W>
where
    OneLine<W>: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(level.as_str()))
        .with_ansi(false)
        .with_writer(writer)
        .finish()
}

fn json<W>(level: &Level, writer: OneLine<W>) -> impl tracing::Subscriber + use<W>
where
    OneLine<W>: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_env_filter(EnvFilter::new(level.as_str()))
        .with_writer(writer)
        .finish()
}

/// Makes writers that let one line through for each event. The formatter hands over an event in one
/// `write_all`, so the last byte of a buffer is the only line end that belongs there.
#[derive(Debug)]
struct OneLine<W>(W);

impl<'a, M: Fn() -> W, W: Write> MakeWriter<'a> for OneLine<M> {
    type Writer = OneLineWriter<W>;

    fn make_writer(&'a self) -> Self::Writer {
        OneLineWriter((self.0)())
    }
}

struct OneLineWriter<W>(W);

impl<W: Write> Write for OneLineWriter<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        self.0.write_all(format!("{}\n", Escaped(line)).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Prints control characters as JSON would, so that the result is right in both formats: inside a
/// JSON string C0 characters are escaped already, and the rest are legal there in this form.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        for c in self.0.chars() {
            match c {
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                // Unicode's own line and paragraph ends, and what reorders the text shown.
                '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                    write!(f, "\\u{:04x}", u32::from(c))?;
                }
                c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Captured {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    const HOSTILE: &str = "a\nINFO forged\r\u{1b}[2Jb\u{7f}\u{85}\u{2028}c\"\\";

    fn log_hostile() {
        tracing::info!(id = HOSTILE, shown = %HOSTILE, debugged = ?HOSTILE, "{HOSTILE}");
        tracing::debug!("below the level");
    }

    #[test]
    fn an_id_cannot_forge_a_line_of_text() {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = text(&"info".parse().unwrap(), OneLine(move || writer.clone()));
        tracing::subscriber::with_default(subscriber, log_hostile);
        let text = captured.text();
        let line = text.strip_suffix('\n').unwrap();
        assert!(!line.chars().any(|c| c.is_control() || c == '\u{2028}'), "{line:?}");
        assert!(line.contains("INFO") && line.contains(r"a\nINFO forged"), "{line}");
    }

    #[test]
    fn an_id_cannot_forge_a_line_of_json() {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = json(&"info".parse().unwrap(), OneLine(move || writer.clone()));
        tracing::subscriber::with_default(subscriber, log_hostile);
        let text = captured.text();
        let line = text.strip_suffix('\n').unwrap();
        assert!(!line.chars().any(|c| c.is_control() || c == '\u{2028}'), "{line:?}");
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["id"], HOSTILE);
        assert_eq!(event["level"], "INFO");
    }

    #[test]
    fn a_misspelt_level_is_refused() {
        for good in ["info", "off", "warn,linesight::batch=debug", "linesight=trace"] {
            assert_eq!(good.parse::<Level>().unwrap().as_str(), good);
        }
        for bad in ["", "inof", "INFO", "info,", "=debug", "a b=info", "linesight=loud"] {
            assert!(bad.parse::<Level>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_format_follows_the_terminal_unless_it_is_named() {
        assert_eq!(format_for(Format::Auto, true), Format::Text);
        assert_eq!(format_for(Format::Auto, false), Format::Json);
        assert_eq!(format_for(Format::Text, false), Format::Text);
        assert_eq!(
            "yaml".parse::<Format>().unwrap_err(),
            "\"yaml\" is not a format (auto, text or json)"
        );
    }
}
