//! What computes a version's runs: what `model.toml` asks for, tried before it is believed.
//!
//! A provider that is registered need not work, and one that works need not run anything. So a version
//! that asks for a GPU is opened on each of its devices, and a row is run with ONNX Runtime's trace on,
//! which tells what ran where. Without `auto`, whatever falls short of that is not served: a version
//! that was planned for a GPU and runs on the processor unnoticed is the worse outage.

use std::sync::Arc;

use super::{
    load_error::LoadError,
    model_config::{Device, Runtime},
};
use crate::{
    onnx::{
        Accelerator, CountError, Environment, Graph, NodeCount, OnnxError, Provider, SessionConfig,
    },
    types::NamedTensor,
};

/// Why a device that was asked for does not serve. The words are for whoever reads
/// `GET /v1/models/{model}`.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The library was built without it.
    #[error(
        "device = \"{}\" in model.toml: this ONNX Runtime has no {} provider; fetch one that has \
         (`make runtime-gpu`) and name it with --onnxruntime-lib, or set device = \"auto\"",
        .0.as_str(), .0.name()
    )]
    NotBuiltIn(Provider),
    /// It cannot work on this machine.
    #[error(
        "device = \"{}\" in model.toml: the {} provider could not start on device {device}; the log \
         has ONNX Runtime's words. {}, or device = \"auto\"",
        .provider.as_str(), .provider.name(), needs(*.provider)
    )]
    NotStarted {
        /// What was asked for.
        provider: Provider,
        /// The number of the GPU.
        device: u32,
        /// What ONNX Runtime says.
        #[source]
        error: OnnxError,
    },
    /// It works, as far as can be told, and the model cannot be opened with it.
    #[error(
        "device = \"{}\" in model.toml: the {} provider could not open model.onnx on device {device}; \
         the log has ONNX Runtime's words",
        .provider.as_str(), .provider.name()
    )]
    NotOpened {
        /// What was asked for.
        provider: Provider,
        /// The number of the GPU.
        device: u32,
        /// What ONNX Runtime says.
        #[source]
        error: OnnxError,
    },
    /// It opened the model and cannot run it.
    #[error(
        "device = \"{}\" in model.toml: a trial run with the {} provider failed; the log has the cause",
        .provider.as_str(), .provider.name()
    )]
    NotRun {
        /// What was asked for.
        provider: Provider,
        /// What went wrong.
        #[source]
        error: CountError,
    },
    /// It was given nothing of the model.
    #[error(
        "device = \"{}\" in model.toml: the {} provider ran none of the model's {nodes} nodes; the \
         model is not for it, or set device = \"auto\"",
        .provider.as_str(), .provider.name()
    )]
    RunsNothing {
        /// What was asked for.
        provider: Provider,
        /// Nodes there are.
        nodes: usize,
    },
}

fn needs(provider: Provider) -> &'static str {
    match provider {
        Provider::Cpu => "It needs nothing",
        Provider::Cuda => {
            "It needs an NVIDIA driver and the libraries of CUDA 13 and cuDNN 9 \
             (`scripts/fetch-onnxruntime --with-cuda`)"
        }
        Provider::TensorRt => {
            "It needs an NVIDIA driver and the libraries of CUDA 13, cuDNN 9 and TensorRT 10"
        }
    }
}

/// What computes a version's runs, as it was seen and not as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Compute {
    /// The provider.
    pub provider: Provider,
    /// Which provider ran how many nodes of the graph; `None` on the processor, which runs them all.
    pub nodes: Option<NodeCount>,
    /// Why it is that one.
    pub why: String,
}

impl Compute {
    /// `239 of 241`: nodes that run on the device, of all.
    #[must_use]
    pub fn share(&self) -> Option<String> {
        self.nodes.as_ref().map(|it| format!("{} of {}", it.on_device(), it.all()))
    }
}

/// A graph where it will be computed.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) graph: Graph,
    pub(super) compute: Compute,
}

/// The devices a version will have if it is served: all that are asked for, or none. `None`: nobody
/// knows before it was tried.
pub(super) fn foreseen<'a>(environment: &Environment, asked: &'a Runtime) -> Option<&'a [u32]> {
    match asked.device {
        Device::Cpu => Some(&[]),
        Device::Cuda | Device::TensorRt => Some(&asked.devices),
        Device::Auto => (!Provider::Cuda.is_built_in(environment)).then_some(&[]),
    }
}

/// What a version's graph is opened from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) environment: &'a Environment,
    pub(super) model: &'a Arc<[u8]>,
    pub(super) sessions: SessionConfig,
}

impl Source<'_> {
    /// Opens the graph where `model.toml` wants it.
    ///
    /// # Errors
    /// When it cannot be opened there.
    pub(super) fn open(self, asked: &Runtime) -> Result<Placed, LoadError> {
        let provider = match asked.device {
            Device::Cpu => return self.on_cores("[runtime] device in model.toml".to_owned()),
            Device::Cuda | Device::Auto => Provider::Cuda,
            Device::TensorRt => Provider::TensorRt,
        };
        match self.on_devices(provider, asked) {
            Ok(graph) => {
                let why = match asked.device {
                    Device::Auto => "it works here, and [runtime] device is \"auto\"",
                    Device::Cpu | Device::Cuda | Device::TensorRt => {
                        "[runtime] device in model.toml"
                    }
                };
                let compute = Compute { provider, nodes: None, why: why.to_owned() };
                Ok(Placed { graph, compute })
            }
            Err(error) if asked.device == Device::Auto => self.instead_of(provider, &error),
            Err(error) => Err(error.into()),
        }
    }

    /// Sees what of a placed graph its provider runs; with `auto`, one that runs nothing on its device
    /// goes to the processor.
    ///
    /// # Errors
    /// When what was asked for runs nothing.
    pub(super) fn prove(
        self,
        placed: Placed,
        asked: &Runtime,
        rows: &[Vec<NamedTensor>],
    ) -> Result<Placed, LoadError> {
        let Placed { graph, compute } = placed;
        if graph.devices().is_empty() {
            return Ok(Placed { graph, compute });
        }
        match count(&graph, rows) {
            Ok(nodes) => {
                let compute = Compute { nodes: Some(nodes), ..compute };
                Ok(Placed { graph, compute })
            }
            Err(error) if asked.device == Device::Auto => self.instead_of(compute.provider, &error),
            Err(error) => Err(error.into()),
        }
    }

    fn on_devices(self, provider: Provider, asked: &Runtime) -> Result<Graph, DeviceError> {
        if !provider.is_built_in(self.environment) {
            return Err(DeviceError::NotBuiltIn(provider));
        }
        let (devices, memory) = (asked.devices.clone(), asked.memory);
        let accelerator = Accelerator { provider, devices, memory };
        Graph::on_devices(self.environment, self.model, self.sessions, accelerator).map_err(
            |(device, error)| match error {
                OnnxError::Provider { .. } => DeviceError::NotStarted { provider, device, error },
                OnnxError::Open { .. } | OnnxError::Trace(_) | OnnxError::Unsupported { .. } => {
                    DeviceError::NotOpened { provider, device, error }
                }
            },
        )
    }

    fn on_cores(self, why: String) -> Result<Placed, LoadError> {
        let graph = Graph::optimise(self.environment, self.model, self.sessions);
        let compute = Compute { why, ..Compute::default() };
        Ok(Placed { graph: graph.map_err(LoadError::Onnx)?, compute })
    }

    /// The processor, where `auto` found no device that would do.
    fn instead_of(self, provider: Provider, error: &DeviceError) -> Result<Placed, LoadError> {
        let name = provider.name();
        let why = match error {
            DeviceError::NotBuiltIn(_) => format!("this ONNX Runtime has no {name} provider"),
            DeviceError::NotStarted { device, error, .. }
            | DeviceError::NotOpened { device, error, .. } => {
                format!("{name} does not work on device {device}: {error}")
            }
            DeviceError::NotRun { error, .. } => format!("a trial run with {name} failed: {error}"),
            DeviceError::RunsNothing { nodes, .. } => {
                format!("{name} ran none of the model's {nodes} nodes")
            }
        };
        self.on_cores(why)
    }
}

/// Runs the first of the rows that can be run, and counts what ran where.
fn count(graph: &Graph, rows: &[Vec<NamedTensor>]) -> Result<NodeCount, DeviceError> {
    let provider = graph.provider();
    let mut failed = CountError::Onnx(OnnxError::Trace("there is no row to run".to_owned()));
    for row in rows {
        match graph.count_nodes(row) {
            Ok(nodes) if nodes.of(provider) == 0 => {
                return Err(DeviceError::RunsNothing { provider, nodes: nodes.all() });
            }
            Ok(nodes) => return Ok(nodes),
            Err(error) => failed = error,
        }
    }
    Err(DeviceError::NotRun { provider, error: failed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_tried_and_what_would_help_stand_in_one_line() {
        let words = "ONNX Runtime: /home/someone/libcudart.so.13: cannot open shared object file";
        let said = || OnnxError::Provider { said: words.to_owned() };
        let provider = Provider::Cuda;
        for (error, parts) in [
            (
                DeviceError::NotBuiltIn(Provider::TensorRt),
                ["no TensorRT provider", "make runtime-gpu"],
            ),
            (
                DeviceError::NotStarted { provider, device: 1, error: said() },
                ["could not start on device 1", "an NVIDIA driver and the libraries of CUDA 13"],
            ),
            (
                DeviceError::NotOpened { provider, device: 0, error: said() },
                ["could not open model.onnx on device 0", "the log has"],
            ),
            (
                DeviceError::NotRun { provider, error: said().into() },
                ["a trial run with the CUDA provider failed", "the log has"],
            ),
            (
                DeviceError::RunsNothing { provider, nodes: 7 },
                ["the CUDA provider ran none of the model's 7 nodes", "device = \"auto\""],
            ),
        ] {
            let line = error.to_string();
            for part in parts.into_iter().chain(["device = \"", "in model.toml: "]) {
                assert!(line.contains(part), "{part} is missing: {line}");
            }
            // Paths of the machine are for the log.
            assert!(!line.contains("/home"), "{line}");
            assert_eq!(line.lines().count(), 1, "{line}");
        }
    }
}
