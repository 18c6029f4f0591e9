//! The integration tests: one crate, one link; what each module tests is said beside it.
#![expect(clippy::unwrap_used, reason = "a test says what is wrong by failing")]
#![expect(clippy::panic, reason = "a test says what is wrong by failing")]
#![expect(unreachable_pub, reason = "modules of a test crate have no outside")]

mod abuse; // what no client would send, byte by byte
mod api; // requests and their answers: forms of bodies, ids, queries, what is served
mod batching; // which items share a run, and that each gets its own answer
mod concurrency; // many clients at once, each with its own answer
mod devices; // what a model runs on: asked for, tried, and said
mod docs; // the documents say what the code does: metrics, codes, files, links
mod http_listener; // the accept loop over real sockets
mod http_two; // HTTP/2: idle, stalled and draining connections
mod lanes; // expiry, abandonment, poison and refusal, with an executor the test controls
mod loading; // from a folder to readiness: what must not serve does not, and three places say why
mod manifests; // what deploy/ has for Kubernetes, KServe and Compose: valid, wired, and true of the binary
mod mutations; // damaged images and bombs: refused, or decoded as Pillow does; memory stays bounded
mod overload; // more than can be done: refused at once, forgotten when it is over
mod package; // packages and repositories on a real disk
mod parity; // our pixels against those Pillow makes of the same bytes
mod profile; // what runs cost: the command, what is remembered, the plan
mod prometheus; // a real Prometheus scrapes a real server
mod refusals; // requests that are refused: status, code, and nothing approved
mod shutdown; // SIGTERM under load: who was let in is answered
mod support;
mod tidy; // layering, file sizes, module docs, one crate one home
mod tools; // the commands: what they print, and how they exit
mod verdicts; // what is approved, and everything that is not
