//! What several tests need: Python, models, the library put together without HTTP, the real server.

pub mod engines;
pub mod models;
