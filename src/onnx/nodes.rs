//! Which provider really runs a graph: counted in the trace of a run.
//!
//! A provider that is registered may still be given nothing: ONNX Runtime hands out a graph node by
//! node, and what no other provider takes, the processor runs.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::provider::Provider;

/// How many nodes of a graph each provider ran.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeCount(BTreeMap<String, usize>);

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    cat: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    args: Args,
}

#[derive(Deserialize, Default)]
struct Args {
    #[serde(default)]
    provider: Option<String>,
    #[serde(default)]
    op_name: Option<String>,
    #[serde(default)]
    node_index: Option<String>,
}

impl NodeCount {
    /// Counts the nodes in a trace as ONNX Runtime writes it. A node that ran more than once, as in a
    /// loop, counts once; copies between memories, which it adds by itself, do not count.
    pub(super) fn of_trace(trace: &[u8]) -> Result<Self, serde_json::Error> {
        let events: Vec<Event> = serde_json::from_slice(trace)?;
        let mut nodes = BTreeSet::new();
        for Event { cat, name, args } in events {
            let Args { provider: Some(provider), op_name, node_index } = args else { continue };
            let is_copy = op_name.is_some_and(|it| it.starts_with("Memcpy"));
            if cat == "Node" && name.ends_with("_kernel_time") && !is_copy {
                nodes.insert((provider, name, node_index));
            }
        }
        let mut count = Self::default();
        for (provider, _, _) in nodes {
            *count.0.entry(provider).or_default() += 1;
        }
        Ok(count)
    }

    /// Nodes that a provider ran.
    #[must_use]
    pub fn of(&self, provider: Provider) -> usize {
        self.0.get(provider.onnx_name()).copied().unwrap_or(0)
    }

    /// Nodes that ran anywhere but on the processor.
    #[must_use]
    pub fn on_device(&self) -> usize {
        self.all() - self.of(Provider::Cpu)
    }

    /// All nodes.
    #[must_use]
    pub fn all(&self) -> usize {
        self.0.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(cat: &str, name: &str, args: &str) -> String {
        format!(
            r#"{{"cat":"{cat}","pid":1,"tid":2,"dur":3,"ts":4,"ph":"X","name":"{name}","args":{args}}}"#
        )
    }

    #[test]
    fn nodes_are_counted_by_the_provider_that_ran_them() {
        let node = |name: &str, index: u32, op: &str, provider: &str| {
            let args = format!(
                r#"{{"op_name":"{op}","provider":"{provider}","node_index":"{index}","thread_scheduling_stats":""}}"#
            );
            event("Node", name, &args)
        };
        let cuda = Provider::Cuda.onnx_name();
        let trace = format!(
            "[\n{}\n]",
            [
                event("Session", "model_run", "{}"),
                node("conv_kernel_time", 0, "Conv", cuda),
                node("relu_kernel_time", 1, "Relu", cuda),
                node("shape_kernel_time", 2, "Shape", "CPUExecutionProvider"),
                // Twice in a loop, and what is no node.
                node("relu_kernel_time", 1, "Relu", cuda),
                node("Memcpy_kernel_time", 3, "MemcpyFromHost", cuda),
                node("conv_fence_before", 0, "Conv", cuda),
                event("Kernel", "conv_kernel_time", r#"{"provider":"x"}"#),
            ]
            .join(",\n")
        );
        let count = NodeCount::of_trace(trace.as_bytes()).unwrap();
        assert_eq!((count.of(Provider::Cuda), count.of(Provider::Cpu), count.all()), (2, 1, 3));
        assert_eq!((count.on_device(), count.of(Provider::TensorRt)), (2, 0));
        assert_eq!(NodeCount::of_trace(b"[]").unwrap().all(), 0);
        assert!(NodeCount::of_trace(b"[{}").is_err(), "a trace that was cut off");
    }
}
