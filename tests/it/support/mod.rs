//! What several tests need: Python, models, the library put together without HTTP, the real server.

pub mod client;
pub mod colours;
pub mod engines;
pub mod models;
pub mod python;
pub mod server;
