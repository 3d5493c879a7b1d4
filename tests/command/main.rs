//! The `ocelli` program end to end.
//!
//! A test of the package `ocelli-cli` (see its manifest), so that cargo builds the program before it runs this.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests, helpers included")]
#![allow(missing_docs)]

/// Pictures that are not what they seem, and pictures that look odd and are fine.
mod pictures;
/// Starting the program and reading what it said.
mod program;

/// Checkpoints of every form, and broken ones.
mod checkpoints;

/// Bundles that are cut, damaged, or none.
mod bad_bundle;
/// Commands and single inputs that are wrong: one sentence on standard error, exit code 2.
mod bad_input;

/// `run` over folders: a bad picture does not stop the rest.
#[cfg(feature = "nano")]
mod folder;
/// The GPU's results against the CPU's.
#[cfg(all(feature = "nano", feature = "wgpu"))]
mod gpu;
/// `import`: checkpoints that become bundles, and those that do not.
mod import;
/// What bundles that were imported do: vectors, labels, boxes, prepared pixels.
mod imported;
/// Results on the start photographs: the lines of `--json` against the contract and the goldens.
#[cfg(feature = "nano")]
mod lines;
/// Adapters: `import --lora`, `ask --lora`, `caption --lora`.
mod lora;
/// `pull`: from a Hub on this machine.
mod pull;
/// `quantize`: bundles in fewer bits, and recipes that are wrong.
mod quantize;
/// Ctrl-C, memory, size of the program.
#[cfg(feature = "nano")]
mod resources;
