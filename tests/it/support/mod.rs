//! What several tests need: Python, models, the library put together without HTTP, the real server,
//! manifests as they are rendered.

pub mod client;
pub mod colours;
pub mod engines;
pub mod manifests;
pub mod models;
pub mod programs;
pub mod python;
pub mod server;
