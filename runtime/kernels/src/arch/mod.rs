//! Instruction sets: each file implements [`crate::simd::Simd`] for one token.

/// Calls intrinsics that need nothing but the features.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! token {
    ($call:expr) => {
        // SAFETY: `self` proves that the CPU has the features.
        unsafe { $call }
    };
}

/// Calls intrinsics that touch memory.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! memory {
    ($call:expr) => {
        // SAFETY: `self` proves that the CPU has the features, the caller that the memory is there.
        unsafe { $call }
    };
}

pub mod portable;

#[cfg(target_arch = "x86_64")]
#[macro_use]
mod ymm;
#[cfg(target_arch = "x86_64")]
#[macro_use]
mod zmm;
#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx512bf16;
#[cfg(target_arch = "x86_64")]
pub mod avx512vnni;
#[cfg(target_arch = "x86_64")]
pub mod avxvnni;

#[cfg(target_arch = "aarch64")]
#[macro_use]
mod quad;
#[cfg(target_arch = "aarch64")]
pub mod neon;
#[cfg(target_arch = "aarch64")]
pub mod neon_dotprod;
#[cfg(target_arch = "aarch64")]
pub mod neon_i8mm;
