//! A session beside the bytes it reads its weights from, in one value.

#![expect(clippy::mem_forget, reason = "inside the expansion of `self_cell!`, where it is right")]

use std::sync::Arc;

use ort::session::InMemorySession;

self_cell::self_cell! {
    pub(super) struct SharedSession {
        owner: Arc<[u8]>,
        #[covariant]
        dependent: InMemorySession,
    }
}
