#!/usr/bin/env bash
# The kernels' tests on 64-bit Arm, under QEMU: tests/arm64.sh [--required]
#
# Twice: on a CPU with every extension that a kernel uses, and on a Cortex-A72, which has none of them. Each time the instruction sets
# found are compared with those expected, so that none is left out in silence.
#
# Where the cross compiler or QEMU is missing it says so and passes; with --required it fails. PROPTEST_CASES sets how many cases a property
# is tried on: few, unless set, for QEMU is slow.
set -euo pipefail
cd "$(dirname "$0")/.."

target=aarch64-unknown-linux-gnu
required=false
for argument in "$@"; do
    case "$argument" in
        --required) required=true ;;
        *) echo "usage: tests/arm64.sh [--required]" >&2; exit 2 ;;
    esac
done

missing() {
    echo "skipped: tests on 64-bit Arm: $1"
    echo "    A compiler for $target: rustup target add $target"
    echo "    or, on Debian, dpkg --add-architecture arm64 && apt-get update && apt-get install rustc-web libstd-rust-web-dev:arm64"
    echo "    Linker and emulator: apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static"
    if $required; then exit 1; fi
    exit 0
}

# Whether a compiler is as new as Cargo.toml asks for and has the target's standard library.
serves() {
    local directory version wanted
    version=$("$1" --version 2> /dev/null | cut -d ' ' -f 2) || return 1
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    printf '%s\n' "$wanted" "$version" | sort --check=quiet --version-sort || return 1
    directory=$("$1" --print target-libdir --target "$target" 2> /dev/null) || return 1
    compgen -G "$directory/libstd-*.rlib" > /dev/null
}

command -v cargo > /dev/null || missing "no cargo"
command -v aarch64-linux-gnu-gcc > /dev/null || missing "no aarch64-linux-gnu-gcc"
command -v qemu-aarch64-static > /dev/null || missing "no qemu-aarch64-static"
# Cargo's own compiler, else Debian's.
compiler=
for candidate in "${RUSTC:-rustc}" /usr/bin/rustc; do
    if serves "$candidate"; then compiler=$candidate; break; fi
done
[ -n "$compiler" ] || missing "no compiler of the version in Cargo.toml has the standard library of $target"

# Two compilers must not share a target directory. Linked statically, a program needs none of the target's libraries to run; told where
# they are (QEMU's -L), programs with threads were seen to hang.
export RUSTC="$compiler" CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/arm64"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-C target-feature=+crt-static"
export PROPTEST_CASES="${PROPTEST_CASES:-16}"

on() {
    local cpu=$1 isas=$2
    echo "on $cpu: $isas"
    # Not --doc: those tests want a rustdoc of the same make.
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64-static -cpu $cpu" OCELLI_EXPECT_ISAS="$isas" \
        cargo test -p ocelli-kernels --release --locked --target "$target" --lib --tests
}

"$compiler" --version
on max "portable neon neon-dotprod neon-i8mm"
on cortex-a72 "portable neon"
