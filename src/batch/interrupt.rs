//! Ending a run from outside.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Ends the run that an executor is at, from another thread.
pub trait Interrupter: Send + Sync + std::fmt::Debug {
    /// Forgets an earlier [`Self::interrupt`]; called before a run begins.
    fn reset(&self);

    /// Ends the run under way, soon; it fails.
    fn interrupt(&self);
}

/// The way to end one assignment's runs: asked for by the timer, heeded by the lane.
#[derive(Debug, Default)]
pub(super) struct Interrupt(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    requested: bool,
    /// Of the run under way.
    interrupter: Option<Arc<dyn Interrupter>>,
}

impl Interrupt {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the run under way, and lets none begin.
    pub(super) fn request(&self) {
        let mut inner = self.lock();
        inner.requested = true;
        // Under the lock, so that it cannot hit the run of whoever comes next.
        if let Some(it) = inner.interrupter.take() {
            it.interrupt();
        }
    }

    pub(super) fn is_requested(&self) -> bool {
        self.lock().requested
    }

    /// Calls `run` unless it is too late to begin.
    pub(super) fn guard<T>(
        &self,
        interrupter: Option<Arc<dyn Interrupter>>,
        run: impl FnOnce() -> T,
    ) -> Option<T> {
        {
            let mut inner = self.lock();
            if inner.requested {
                return None;
            }
            if let Some(it) = &interrupter {
                it.reset();
            }
            inner.interrupter = interrupter;
        }
        let _disarmed_even_by_a_panic = Disarm(self);
        Some(run())
    }
}

struct Disarm<'a>(&'a Interrupt);

impl Drop for Disarm<'_> {
    fn drop(&mut self) {
        self.0.lock().interrupter = None;
    }
}
