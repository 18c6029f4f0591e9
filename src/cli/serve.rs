//! `linesight serve`

use std::process::ExitCode;

use clap::Args;

use super::{Settings, table};
use crate::{
    app,
    config::{Config, ConfigSources},
    telemetry,
};

/// Serve the models of a repository over HTTP.
#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    settings: Settings,
    /// Address of the data listener [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR:PORT")]
    data: Option<String>,
    /// Address of the admin listener: metrics and probes [default: 127.0.0.1:8082]
    #[arg(long, value_name = "ADDR:PORT")]
    admin: Option<String>,
    /// Print the settings in force as TOML, and exit
    #[arg(long)]
    print_config: bool,
    /// Check the settings, and exit
    #[arg(long)]
    check_config: bool,
}

impl Serve {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let mut flags = self.settings.flags();
        for (key, flag, value) in
            [("server.data", "--data", self.data), ("server.admin", "--admin", self.admin)]
        {
            if let Some(value) = value {
                flags.set(key, flag, value);
            }
        }
        let config = Config::load(ConfigSources::of_process(self.settings.config, flags))?;
        if self.print_config {
            table::print(config.to_toml().trim_end());
            return Ok(ExitCode::SUCCESS);
        }
        if self.check_config {
            return Ok(ExitCode::SUCCESS);
        }
        telemetry::init(&config.log)?;
        match app::serve(&config)? {}
    }
}
