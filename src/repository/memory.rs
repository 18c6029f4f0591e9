//! Whether what the process may take is enough for a version.
//!
//! A process that asks for more than its control group grants is killed without a word, and started
//! again to be killed again. So what surely does not fit is refused, with the figures, before it is
//! tried. Only lower bounds are held against the limit: what passes may still be too much.

use std::fs;

use super::{
    load::LoadConfig,
    load_error::LoadError,
    scan::{FoundVersion, Layout},
};

/// What a process may take, what it had taken before a version was read, and what that version's model
/// weighs. Bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    limit: u64,
    taken: u64,
    model: u64,
    /// Whether its graph is optimised here, for the cores.
    is_optimised: bool,
}

impl Memory {
    /// Before a version is read; `None` without a limit, or where the kernel does not say what is taken.
    pub(super) fn before(config: &LoadConfig, found: &FoundVersion) -> Option<Self> {
        let taken = (config.memory_taken)()?;
        let is_optimised = config.gpus.is_empty();
        Some(Self { limit: config.memory?, taken, model: model_bytes(found), is_optimised })
    }

    /// Whether it may be read.
    ///
    /// # Errors
    /// Where its file does not fit twice, as it is read and as the graph that is made of it; or four times,
    /// where the graph is optimised: the weights of that, and what is written of it, are there with both. At
    /// their peak, three models of 8 to 34 MB took 4.5 to 8 times their size, measured or remembered.
    pub(super) fn can_open(self) -> Result<(), LoadError> {
        let (what, times) = if self.is_optimised {
            ("loading model.onnx takes four times its size", 4)
        } else {
            ("loading model.onnx takes twice its size", 2)
        };
        self.holds(what, self.model.saturating_mul(times))
    }

    /// Whether it may be served by lanes that took so much when they were measured.
    ///
    /// # Errors
    /// Where they and its graph do not fit.
    pub(super) fn can_serve(self, lanes_bytes: u64) -> Result<(), LoadError> {
        let needed = self.model.saturating_add(lanes_bytes);
        self.holds("the model and what its lanes compute with take", needed)
    }

    fn holds(self, what: &'static str, needed: u64) -> Result<(), LoadError> {
        let left = self.limit.saturating_sub(self.taken);
        if needed <= left {
            return Ok(());
        }
        Err(LoadError::Memory { what, needed, left, limit: self.limit })
    }
}

/// Bytes of a version's graph and weights; 0 where that cannot be read, of which reading it will say
/// more.
fn model_bytes(found: &FoundVersion) -> u64 {
    let model = match &found.layout {
        Layout::Package { dir } => &dir.join("model.onnx"),
        Layout::Bare { model } | Layout::HuggingFace { model, .. } => model,
    };
    fs::metadata(model).map_or(0, |it| it.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_the_figures() {
        const MIB: u64 = 1 << 20;
        let memory =
            |model| Memory { limit: 128 * MIB, taken: 40 * MIB, model, is_optimised: false };
        assert!(memory(44 * MIB).can_open().is_ok());
        let refused = memory(45 * MIB).can_open().unwrap_err().to_string();
        assert_eq!(
            refused,
            "loading model.onnx takes twice its size, at least 90 MiB, and 88 MiB are left of the \
             128 MiB that the process may take; raise the container's memory limit"
        );
        let optimised = |model| Memory { is_optimised: true, ..memory(model) };
        assert!(optimised(22 * MIB).can_open().is_ok());
        let refused = optimised(23 * MIB).can_open().unwrap_err().to_string();
        assert!(refused.contains("four times its size, at least 92 MiB, and 88 MiB"), "{refused}");
        assert!(memory(28 * MIB).can_serve(60 * MIB).is_ok());
        let refused = memory(28 * MIB).can_serve(60 * MIB + 1).unwrap_err().to_string();
        assert!(
            refused.contains("lanes compute with take, at least 89 MiB, and 88 MiB"),
            "{refused}"
        );
        // More is taken than may be, as the limit was lowered meanwhile.
        assert!(Memory { limit: MIB, taken: 2 * MIB, ..memory(1) }.can_open().is_err());
        assert!(memory(u64::MAX).can_open().is_err());
    }
}
