//! Integration tests: what no single crate can test by itself. There is nothing in this library; see:
//!
//! - `tests/main.rs`: the one binary of tests across crates, with a list of its modules
//! - `command/main.rs`: the `ocelli` program end to end. A test of the package `ocelli-cli`, so that cargo builds the program first
//! - `frames/`: photographs, with origin and licence in `frames/README.md`
//! - `goldens/`: what is expected, written by `tools/reference` or by the tests themselves, and how
