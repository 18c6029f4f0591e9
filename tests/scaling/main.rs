//! What an autoscaler and a rolling update rely on, with the flagship under load.
//!
//! A crate of its own: `cargo test` runs it when no other test uses the processor, and its tests take
//! turns, as they measure.
#![expect(clippy::unwrap_used, reason = "a test says what is wrong by failing")]
#![expect(clippy::panic, reason = "a test says what is wrong by failing")]
#![expect(unreachable_pub, reason = "modules of a test crate have no outside")]

mod flagship; // the vial model, its picture, and a server with it
mod load; // requests sent by the clock, and as fast as answers come
mod load_ratio; // what is exported to scale on, against what is offered
mod nginx; // a real proxy in front of replicas
mod replicas; // killed, drained and replaced under load
#[expect(dead_code, reason = "the integration tests use more of it")]
#[path = "../it/support/mod.rs"]
mod support;
