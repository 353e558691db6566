//! Makes TLS handshakes fail on purpose, and judges a probe by what really happened.
//!
//! Data flows one way, and so may modules know each other:
//!
//! ```text
//! scenario -> run( lab -> peer, witness, probe ) -> verdict -> report
//! ```
//!
//! | module | does |
//! |---|---|
//! | [`scenario`] | files a person can read -> cases with ids |
//! | [`lab`] | two network namespaces and a cable between them |
//! | [`peer`] | the client and the server of a case, and what each experienced |
//! | [`witness`] | what went over the cable, read by parsers that are not ours |
//! | [`probe`] | the probe under test, and what it reported |
//! | [`run`] | the orchestrator: one case after another on each lane |
//! | [`verdict`] | what was meant against what was seen; no I/O |
//! | [`patience`](mod@patience) | how much longer than usual things may take here |
//! | [`recording`] | cases that ran -> capture files that can be replayed anywhere |
//! | [`report`] | verdicts as lines for people, NDJSON and JUnit; decides nothing |
//! | [`recut`] | a captured conversation in other packets |
//! | [`explain`](mod@explain) | what a class, an alert or a case means, and what to do about it |
//!
//! Start at [`verdict::judge`]: it is the point of the rest.

mod built;

pub mod explain;
pub mod lab;
pub mod patience;
pub mod peer;
pub mod probe;
pub mod recording;
pub mod recut;
pub mod report;
pub mod run;
pub mod scenario;
pub mod verdict;
pub mod witness;
