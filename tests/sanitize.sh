#!/usr/bin/env bash
# The kernels' tests under the address sanitizer: tests/sanitize.sh [--required]
#
# Kernels reach memory through pointers, and a read beyond a slice's end shows in no result. On every instruction set of this CPU; with
# overflow checks and debug assertions, those of the standard library's unsafe functions among them.
#
# Where the compiler comes without the sanitizer it says so and passes; with --required it fails.
#
# Miri sees more, but has neither inline assembly nor most vector instructions: it is for the portable path, on x86-64, with a nightly
# toolchain that has it. It is not part of CI, which has none.
#   PROPTEST_CASES=4 cargo +nightly miri test -p ocelli-kernels
set -euo pipefail
cd "$(dirname "$0")/.."

required=false
for argument in "$@"; do
    case "$argument" in
        --required) required=true ;;
        *) echo "usage: tests/sanitize.sh [--required]" >&2; exit 2 ;;
    esac
done

missing() {
    echo "skipped: tests under the address sanitizer: $1"
    echo "    Toolchains from https://rustup.rs have it on Linux."
    if $required; then exit 1; fi
    exit 0
}

command -v cargo > /dev/null || missing "no cargo"
host=$(rustc --version --verbose | sed -n 's/^host: //p')
compgen -G "$(rustc --print target-libdir)/librustc-*_rt.asan.a" > /dev/null || missing "$(rustc --version) for $host is without it"

# The sanitizer's flag is unstable, and RUSTC_BOOTSTRAP lets a stable compiler take it. --target keeps it from build scripts and macros.
export RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address" CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/sanitize"
export CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=true
# So that a report names lines.
export CARGO_PROFILE_RELEASE_DEBUG=line-tables-only CARGO_PROFILE_RELEASE_STRIP=none
cargo test -p ocelli-kernels --release --locked --target "$host" --lib --tests
