//! Which instruction set computes.

use std::fmt;
use std::sync::OnceLock;

use crate::arch;
use crate::simd::Kernel;

/// An instruction set that this CPU has: a value of this type is the proof.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Isa {
    /// The target's baseline.
    Portable(arch::portable::Portable),
    /// AVX2 with FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2(arch::avx2::Avx2),
    /// AVX-VNNI.
    #[cfg(target_arch = "x86_64")]
    AvxVnni(arch::avxvnni::AvxVnni),
    /// AVX-512 with VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni(arch::avx512vnni::Avx512Vnni),
    /// AVX-512 with VNNI and BF16.
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16(arch::avx512bf16::Avx512Bf16),
    /// NEON.
    #[cfg(target_arch = "aarch64")]
    Neon(arch::neon::Neon),
    /// NEON with the dot product of bytes.
    #[cfg(target_arch = "aarch64")]
    NeonDotprod(arch::neon_dotprod::NeonDotprod),
    /// NEON with the product of byte matrices.
    #[cfg(target_arch = "aarch64")]
    NeonI8mm(arch::neon_i8mm::NeonI8mm),
}

/// An instruction set that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("instruction set {name:?} is not one this CPU has; it has {has}")]
pub struct IsaError {
    /// As asked for.
    pub name: String,
    /// Those there are, slowest first.
    pub has: String,
}

static CHOSEN: OnceLock<Isa> = OnceLock::new();

impl Isa {
    /// Every instruction set of this CPU, slowest first.
    pub fn all() -> Vec<Self> {
        let mut all = vec![Self::Portable(arch::portable::Portable)];
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(arch::avx2::Avx2::new().map(Self::Avx2));
            all.extend(arch::avxvnni::AvxVnni::new().map(Self::AvxVnni));
            all.extend(arch::avx512vnni::Avx512Vnni::new().map(Self::Avx512Vnni));
            all.extend(arch::avx512bf16::Avx512Bf16::new().map(Self::Avx512Bf16));
        }
        #[cfg(target_arch = "aarch64")]
        {
            all.extend(arch::neon::Neon::new().map(Self::Neon));
            all.extend(arch::neon_dotprod::NeonDotprod::new().map(Self::NeonDotprod));
            all.extend(arch::neon_i8mm::NeonI8mm::new().map(Self::NeonI8mm));
        }
        all
    }

    /// The fastest.
    pub fn best() -> Self {
        Self::all().pop().unwrap_or(Self::Portable(arch::portable::Portable))
    }

    /// The one of that name.
    pub fn named(name: &str) -> Result<Self, IsaError> {
        let all = Self::all();
        let found = all.iter().copied().find(|isa| isa.name() == name);
        found.ok_or_else(|| IsaError { name: name.to_owned(), has: all.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", ") })
    }

    /// Fixes the one that this process computes with: the one named, else the one `OCELLI_ISA` names, else the fastest.
    /// The first choice of a process stays.
    pub fn choose(name: Option<&str>) -> Result<Self, IsaError> {
        let from_environment = std::env::var("OCELLI_ISA").ok().filter(|name| !name.is_empty());
        let isa = name.or(from_environment.as_deref()).map_or_else(|| Ok(Self::best()), Self::named)?;
        Ok(*CHOSEN.get_or_init(|| isa))
    }

    /// The one that this process computes with; the fastest where none was chosen.
    pub fn chosen() -> Self {
        *CHOSEN.get_or_init(Self::best)
    }

    /// As `--isa` and `OCELLI_ISA` spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable(_) => "portable",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni(_) => "avxvnni",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni(_) => "avx512vnni",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16(_) => "avx512bf16",
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => "neon",
            #[cfg(target_arch = "aarch64")]
            Self::NeonDotprod(_) => "neon-dotprod",
            #[cfg(target_arch = "aarch64")]
            Self::NeonI8mm(_) => "neon-i8mm",
        }
    }

    /// Runs a kernel compiled for this instruction set.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            Self::Portable(s) => kernel.run(s),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(s) => s.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni(s) => s.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni(s) => s.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16(s) => s.run(kernel),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(s) => s.run(kernel),
            #[cfg(target_arch = "aarch64")]
            Self::NeonDotprod(s) => s.run(kernel),
            #[cfg(target_arch = "aarch64")]
            Self::NeonI8mm(s) => s.run(kernel),
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_finds_its_instruction_set() {
        for isa in Isa::all() {
            assert_eq!(Isa::named(isa.name()).map(Isa::name), Ok(isa.name()));
        }
        let error = Isa::named("mmx").map(Isa::name).unwrap_err();
        assert!(error.to_string().contains("portable"), "{error}");
    }

    /// Under an emulator one knows what there must be, and a test of instructions that are not found would test nothing.
    #[test]
    fn those_expected_are_there() {
        let Ok(expected) = std::env::var("OCELLI_EXPECT_ISAS") else { return };
        let names: Vec<_> = Isa::all().into_iter().map(Isa::name).collect();
        assert_eq!(names.join(" "), expected, "OCELLI_EXPECT_ISAS says which instruction sets there are, slowest first");
    }
}
