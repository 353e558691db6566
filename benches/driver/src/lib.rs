//! Measures the probe against budgets, and against what it is compared with in the same run.
//!
//! | module | does |
//! |---|---|
//! | [`program`] | what the shipped program costs a packet, in empty programs |
//! | [`parser`] | what our parser costs on the host, in other parsers |
//! | [`frames`] | the packets that are measured |
//! | [`statistics`], [`measurement`] | rounds -> a median and its interval |
//! | [`budget`] | measurement and budget -> verdict; no I/O |
//! | [`machine`], [`report`] | on what, and how it is shown |
//!
//! Start at [`budget::Budget::judge`]: it is the point of the rest.

pub mod budget;
pub mod frames;
pub mod machine;
pub mod measurement;
pub mod parser;
pub mod program;
pub mod report;
pub mod statistics;
