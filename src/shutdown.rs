//! Signals to one token: the first asks for an orderly end, the second does not ask.
//!
//! SIGTERM or SIGINT cancels the token; whoever holds a clone winds down, and the process exits 0.
//! A second signal ends the process at once with [`EXIT_FORCED`], leaving work unanswered: it is
//! for the operator who has waited long enough.

use std::{
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The exit code after an orderly end.
pub const EXIT_STOPPED: i32 = 0;

/// The exit code after a second signal: what a shell reports for a process ended by SIGINT.
pub const EXIT_FORCED: i32 = 130;

/// A cheap clone of "has the end been asked for?".
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    asked: CancellationToken,
    at_once: Arc<AtomicBool>,
}

impl Shutdown {
    /// A token that only [`Shutdown::request`] cancels.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for the end. Asking again changes nothing.
    pub fn request(&self) {
        self.asked.cancel();
    }

    /// Asks for the end where no load balancer has to look away first.
    pub fn request_at_once(&self) {
        self.at_once.store(true, Ordering::Release);
        self.request();
    }

    /// Whether the end has been asked for.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.asked.is_cancelled()
    }

    /// Whether no load balancer has to look away first.
    #[must_use]
    pub fn is_at_once(&self) -> bool {
        self.at_once.load(Ordering::Acquire)
    }

    /// Waits until the end is asked for; immediate if it has been. Cancel-safe.
    pub async fn requested(&self) {
        self.asked.cancelled().await;
    }
}

/// Takes over SIGTERM and SIGINT and returns the future that turns them into `shutdown`'s end. It
/// never completes: spawn it on a runtime that stays responsive, and abort it when all is done.
///
/// # Errors
/// Where the handlers cannot be installed; without them an orderly end cannot be promised.
///
/// # Panics
/// Outside a Tokio runtime with I/O.
pub fn watch_signals(shutdown: Shutdown) -> io::Result<impl Future<Output = ()> + Send> {
    let mut signals = Signals::install()?;
    Ok(async move {
        let name = signals.next().await;
        tracing::info!(signal = name, "shutting down; a second signal ends the process at once");
        // Somebody at a terminal.
        if name == SIGINT {
            shutdown.request_at_once();
        } else {
            shutdown.request();
        }
        let name = signals.next().await;
        tracing::error!(signal = name, code = EXIT_FORCED, "second signal; ending at once");
        end_process(EXIT_FORCED);
    })
}

const SIGINT: &str = "SIGINT";

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => SIGINT,
        }
    }
}

/// Ends the process at once. Returning from `main`, or `process::exit`, would run C++ destructors
/// under the threads that are still inside ONNX Runtime (a model that loads, a run that hangs), which
/// then fail or crash. Log lines are written when they are said; nothing else waits to be flushed.
#[expect(unsafe_code, reason = "_exit has no safe wrapper")]
pub fn end_process(code: i32) -> ! {
    // SAFETY: `_exit` takes an integer and never returns; no state of ours outlives the process.
    unsafe { libc::_exit(code) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_clone_hears_of_the_end() {
        let shutdown = Shutdown::new();
        let clone = shutdown.clone();
        assert!(!clone.is_requested());
        shutdown.request();
        shutdown.request();
        clone.requested().await;
        assert!(clone.is_requested());
    }

    const CHILD: &str = "LINESIGHT_TEST_SIGNALS";

    /// Signals are the whole process's, so they are tried in one of its own: this test program,
    /// started again with a variable set.
    #[tokio::test]
    #[expect(unsafe_code, reason = "a process can send itself a signal by no safe call")]
    async fn child() {
        if std::env::var_os(CHILD).is_none() {
            return;
        }
        let shutdown = Shutdown::new();
        let _watcher = tokio::spawn(watch_signals(shutdown.clone()).unwrap());
        // SAFETY: the handlers are installed, so the signal reaches them and ends nothing.
        let send = |signal| assert_eq!(unsafe { libc::kill(libc::getpid(), signal) }, 0);
        send(libc::SIGTERM);
        shutdown.requested().await;
        println!("ORDERLY");
        send(libc::SIGINT);
        std::future::pending::<()>().await;
    }

    #[test]
    fn the_first_signal_asks_for_the_end_and_the_second_does_not() {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "shutdown::tests::child", "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("ORDERLY"), "{output:?}");
        assert_eq!(output.status.code(), Some(EXIT_FORCED));
    }
}
