//! The integration tests: one crate, one link; what each module tests is said beside it.
#![expect(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod mutations; // damaged images and bombs: refused, or decoded as Pillow does; memory stays bounded
mod package; // packages and repositories on a real disk
mod parity; // our pixels against those Pillow makes of the same bytes
mod tidy; // layering, file sizes, module docs, one crate one home
