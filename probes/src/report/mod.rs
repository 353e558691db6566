//! Lines: a failed handshake for people ([`human`]) or for programs ([`ndjson`]), and what was
//! counted.

pub mod human;
pub mod ndjson;
