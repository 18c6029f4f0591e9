//! The integration tests: one crate, one link; what each module tests is said beside it.
#![expect(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod package; // packages and repositories on a real disk
mod tidy; // layering, file sizes, module docs, one crate one home
