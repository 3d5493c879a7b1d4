//! Has the linker fold functions that compile to the same code, which burn's generics leave many of: a twentieth of the program.
//!
//! Only where the linker is the LLD that comes with rustc, as it is on x86-64 Linux since 1.90 (unless told otherwise): GNU's has no such option.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let target = variable("TARGET");
    let others = variable("CARGO_ENCODED_RUSTFLAGS").contains("link") || !variable("RUSTC_LINKER").is_empty();
    if target != "x86_64-unknown-linux-gnu" || target != variable("HOST") || others {
        return;
    }
    let Ok(sysroot) = Command::new(variable("RUSTC")).args(["--print", "sysroot"]).output() else { return };
    let sysroot = String::from_utf8_lossy(&sysroot.stdout).trim().to_owned();
    if Path::new(&sysroot).join("lib/rustlib").join(&target).join("bin/gcc-ld/ld.lld").exists() {
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
    }
}
