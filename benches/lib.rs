//! Holds nothing: the benchmarks are in `benches/`, and cargo wants a target beside them.
