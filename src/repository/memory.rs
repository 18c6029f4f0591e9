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

/// What a process may take, and what it had taken before a version was read. Bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    limit: u64,
    taken: u64,
}

impl Memory {
    /// As it is now; `None` without a limit, or where the kernel does not say what is taken.
    pub(super) fn now(config: &LoadConfig) -> Option<Self> {
        Some(Self { limit: config.memory?, taken: (config.memory_taken)()? })
    }

    /// Before a version is read.
    ///
    /// # Errors
    /// Where its file does not fit twice: as it is read, and as the graph that is made of it.
    pub(super) fn can_open(self, model_bytes: u64) -> Result<(), LoadError> {
        self.holds("opening model.onnx takes twice its size", model_bytes.saturating_mul(2))
    }

    /// Before a version is served.
    ///
    /// # Errors
    /// Where its graph and what its lanes took when they were measured do not fit.
    pub(super) fn can_serve(self, model_bytes: u64, lanes_bytes: u64) -> Result<(), LoadError> {
        let needed = model_bytes.saturating_add(lanes_bytes);
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
pub(super) fn model_bytes(found: &FoundVersion) -> u64 {
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
        let memory = Memory { limit: 128 * MIB, taken: 40 * MIB };
        assert!(memory.can_open(44 * MIB).is_ok());
        let refused = memory.can_open(45 * MIB).unwrap_err().to_string();
        assert_eq!(
            refused,
            "opening model.onnx takes twice its size, at least 90 MiB, and 88 MiB are left of the \
             128 MiB that the process may take; raise the container's memory limit"
        );
        assert!(memory.can_serve(28 * MIB, 60 * MIB).is_ok());
        let refused = memory.can_serve(28 * MIB, 60 * MIB + 1).unwrap_err().to_string();
        assert!(
            refused.contains("lanes compute with take, at least 89 MiB, and 88 MiB"),
            "{refused}"
        );
        // More is taken than may be, as the limit was lowered meanwhile.
        assert!(Memory { limit: MIB, taken: 2 * MIB }.can_open(1).is_err());
        assert!(memory.can_open(u64::MAX).is_err());
    }
}
