#!/bin/sh
# Writes src/bindings.rs from the kernel's userspace header <linux/videodev2.h>.
#
# Needs, only here and never in a build: bindgen-cli 0.73 (`cargo install bindgen-cli`), libclang, rustfmt, and the C library's headers
# for both architectures (Debian 12: libclang1-14 linux-libc-dev linux-libc-dev-arm64-cross libc6-dev-arm64-cross). The bindings are made
# for x86-64 and for arm64; the script fails if they differ, because one file serves both.
set -eu
cd "$(dirname "$0")"
scratch=$(mktemp -d)
trap 'rm -r "$scratch"' EXIT

# <linux/*.h> is the same for every architecture; taking it from one package keeps versions from mixing.
ln -s /usr/include/linux "$scratch/linux"

bindings_for() {
    bindgen wrapper.h \
        --allowlist-file '.*/linux/(videodev2|v4l2-common)\.h' --allowlist-type time_t \
        --rust-edition 2024 --rust-target 1.85 --no-doc-comments --formatter rustfmt \
        -- "--target=$1" -isystem "$scratch" -isystem "$2" -isystem /usr/include
}
bindings_for x86_64-linux-gnu /usr/include/x86_64-linux-gnu >"$scratch/x86_64.rs"
bindings_for aarch64-linux-gnu /usr/aarch64-linux-gnu/include >"$scratch/aarch64.rs"
cmp "$scratch/x86_64.rs" "$scratch/aarch64.rs"
cp "$scratch/x86_64.rs" src/bindings.rs
