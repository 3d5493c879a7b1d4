//! Has the linker fold functions that compile to the same code, which burn's generics leave many of: half a megabyte of the program.
//!
//! LLD, which rustc links with on x86-64 Linux, and mold have an option for it, GNU's linker has not: a program of one line is linked to see.

use std::path::Path;
use std::process::{Command, Stdio};

const OPTION: &str = "-Wl,--icf=all";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if folds() {
        println!("cargo::rustc-link-arg-bins={OPTION}");
    }
}

/// Whether the linker that will link the program takes the option.
fn folds() -> bool {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let folder = variable("OUT_DIR");
    let source = Path::new(&folder).join("probe.rs");
    if std::fs::write(&source, "fn main() {}").is_err() {
        return false;
    }
    let (flags, linker) = (variable("CARGO_ENCODED_RUSTFLAGS"), variable("RUSTC_LINKER"));
    let mut probe = Command::new(variable("RUSTC"));
    probe.arg(&source).args(["--target", &variable("TARGET"), "--out-dir", &folder, &format!("-Clink-arg={OPTION}")]);
    probe.args(flags.split('\x1f').filter(|flag| !flag.is_empty()));
    if !linker.is_empty() {
        probe.arg(format!("-Clinker={linker}"));
    }
    probe.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
