//! The types and constants of the kernel's `<linux/videodev2.h>`, as `bindgen` writes them.
//!
//! The `v4l` crate expects a package `v4l2-sys-mit` that runs bindgen when it is built, for which every machine would need libclang. This
//! one holds bindings made in advance, by `generate.sh`, from the header of Linux 6.1 (Debian's linux-libc-dev 6.1.192). The kernel
//! never changes this interface, only adds to it. The header is licensed
//! `(GPL-2.0+ WITH Linux-syscall-note) OR BSD-3-Clause`; the bindings take the latter.
//!
//! Sizes and offsets of every struct are asserted at compile time.
#![allow(missing_docs, non_camel_case_types, non_snake_case, non_upper_case_globals)]
#![allow(clippy::all, clippy::undocumented_unsafe_blocks, unsafe_op_in_unsafe_fn)]

#[cfg(not(all(target_os = "linux", target_pointer_width = "64", target_endian = "little")))]
compile_error!("these bindings are for 64-bit little-endian Linux; run generate.sh for another target");

include!("bindings.rs");
