//! The admin listener: probes, metrics, what is served; on a thread and a runtime of its own.
//!
//! Of its own, because a probe that waits behind a thousand uploads fails a healthy server, and then
//! an orchestrator restarts what was merely busy. It shares nothing with the data plane but atomics
//! and the catalog's snapshot. Lifecycle writes come here later; until then there is nothing to
//! authenticate.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    thread::JoinHandle,
    time::Duration,
};

use axum::Router;

use crate::http::{self, HttpState, Listener, ListenerConfig};

/// A running admin listener.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    thread: JoinHandle<()>,
}

/// The router of the admin listener.
pub fn router(state: HttpState) -> Router {
    http::finish(http::reads(), "admin", state)
}

/// The bounds of the admin listener: few connections, as its clients are known.
#[must_use]
pub fn limits() -> ListenerConfig {
    let grace = Duration::from_secs(1);
    // Few slots, so none is kept for a client that may never ask again.
    let idle_timeout = Duration::from_secs(10);
    ListenerConfig { connections: 64, grace, idle_timeout, ..ListenerConfig::default() }
}

/// Binds, then serves on a thread of its own until `shutdown` is done.
///
/// # Errors
/// When the address cannot be bound or the thread not be started.
pub fn serve(
    address: SocketAddr,
    state: HttpState,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<Admin> {
    let socket = TcpListener::bind(address)?;
    let address = socket.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let router = router(state);
    let run = move || {
        runtime.block_on(async {
            match Listener::adopt(socket, limits(), None) {
                Ok(listener) => {
                    listener.serve(router, shutdown).await;
                }
                // The caller has its address already, so only the log can say it.
                Err(error) => tracing::error!(%error, "the admin listener cannot serve"),
            }
        });
    };
    let thread = std::thread::Builder::new().name("admin".to_owned()).spawn(run)?;
    Ok(Admin { address, thread })
}

impl Admin {
    /// The address it is reached at.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until it has stopped; to be called once its `shutdown` is done. Blocks.
    pub fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("the admin listener panicked");
        }
    }
}
