//! The command line: what was typed, and one file a command.

mod check;
mod doctor;
mod init;
pub mod plot;
mod predict;
mod profile;
mod serve;
mod table;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::{
    app::AppError,
    config::{Config, ConfigErrors, ConfigSources, RawConfig},
    onnx::EnvironmentError,
    types::{ModelName, ModelRef, ModelVersion},
};

/// Serves ONNX models over HTTP and answers every item inside a latency budget.
#[derive(Debug, Parser)]
#[command(name = "linesight", version, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  linesight serve                                  serve ./models on 127.0.0.1:8080
  curl --data-binary @vial.jpg localhost:8080/v1/models/vial-defect/predict
  linesight predict vial-defect vial.jpg           the same answer without a server
  linesight init resnet50.onnx                     make a package to fill in from a bare model
  linesight check models/                          every complaint about a repository
  linesight profile vial-defect                    how long runs take here, and the plan made of it

Exit codes: 0 all well, 1 something failed, 2 wrong usage, 78 wrong configuration, 130 second
signal while stopping.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the models of a repository over HTTP.
    Serve(serve::Serve),
    /// Ask a model about image files, without a server, through the same path.
    Predict(predict::Predict),
    /// Check a repository, a model or a package; say every complaint and where it is.
    Check(check::Check),
    /// Make a package to fill in from a bare ONNX file.
    Init(init::Init),
    /// Measure how long a model's runs take, and show the plan that follows.
    Profile(profile::Profile),
    /// Show versions, digests, cores, and whether the models answer their golden samples.
    Doctor(doctor::Doctor),
    /// Print the OpenAPI document of the HTTP interface.
    Openapi,
}

/// Settings every command takes. Flags win over LINESIGHT_… variables, those over the file.
#[derive(Debug, Args)]
struct Settings {
    /// Settings file [default: $LINESIGHT_CONFIG, else ./linesight.toml if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Model repository [default: models]
    #[arg(long, value_name = "DIR")]
    models: Option<String>,
    /// Folder that remembers how long runs take, or "off" [default: linesight in the user's cache]
    #[arg(long, value_name = "DIR")]
    cache: Option<String>,
    /// ONNX Runtime library, or the folder it is in [default: looked for]
    #[arg(long, value_name = "PATH")]
    onnxruntime_lib: Option<String>,
    /// Cores to use [default: what the cgroup grants]
    #[arg(long, value_name = "N")]
    cores: Option<String>,
    /// Log filter: off, error, warn, info, debug, trace, also by module [default: info]
    #[arg(long, value_name = "FILTER")]
    log_level: Option<String>,
}

impl Settings {
    fn flags(&self) -> RawConfig {
        let mut flags = RawConfig::default();
        let given = [
            ("models.path", "--models", &self.models),
            ("models.cache", "--cache", &self.cache),
            ("runtime.library", "--onnxruntime-lib", &self.onnxruntime_lib),
            ("runtime.cores", "--cores", &self.cores),
            ("log.level", "--log-level", &self.log_level),
        ];
        for (key, flag, value) in given {
            if let Some(value) = value {
                flags.set(key, flag, value.clone());
            }
        }
        flags
    }

    /// The settings of an offline command, whose log must not drown its output.
    fn load_quietly(&self) -> Result<Config, ConfigErrors> {
        let mut flags = self.flags();
        if self.log_level.is_none() {
            flags.set("log.level", "--log-level", "warn");
        }
        Config::load(ConfigSources::of_process(self.config.clone(), flags))
    }
}

/// NAME, or NAME/VERSION.
fn model_ref(text: &str) -> anyhow::Result<ModelRef> {
    let (name, version) = match text.split_once('/') {
        Some((name, version)) => (name, Some(version.parse::<ModelVersion>()?)),
        None => (text, None),
    };
    Ok(ModelRef { name: name.parse::<ModelName>()?, version })
}

/// Wrong configuration, as sysexits.h numbers it.
const EX_CONFIG: u8 = 78;

/// Parses the command line, does what it says, and says how that went.
#[must_use]
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(command) => command.run(),
        Command::Predict(command) => command.run(),
        Command::Check(command) => command.run(),
        Command::Init(command) => command.run(),
        Command::Profile(command) => command.run(),
        Command::Doctor(command) => command.run(),
        Command::Openapi => {
            table::print(crate::http::OPENAPI.trim_end());
            Ok(ExitCode::SUCCESS)
        }
    };
    result.unwrap_or_else(|error| {
        table::complain(&format!("linesight: {error:#}"));
        if is_setup(&error) { ExitCode::from(EX_CONFIG) } else { ExitCode::FAILURE }
    })
}

/// Whether the settings, or the ONNX Runtime they name or leave out, are what is wrong.
fn is_setup(error: &anyhow::Error) -> bool {
    let no_runtime = matches!(error.downcast_ref(), Some(AppError::Environment(_)));
    no_runtime || error.is::<ConfigErrors>() || error.is::<EnvironmentError>()
}
