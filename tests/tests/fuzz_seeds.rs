//! The targets of `fuzz/` on their seeds and on variations of them: what can be had of fuzzing without a nightly compiler.
//!
//! Variations are the same every time: bytes are flipped, set to values that break things, cut off, repeated, or taken from another seed.
//! `OCELLI_FUZZ_ROUNDS` asks for more of each seed, `OCELLI_FUZZ_TARGET` for one target alone.

#[path = "../../fuzz/src/lib.rs"]
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

use targets::TARGETS;

use crate::root;

/// Variations of each seed, unless more are asked for.
const ROUNDS: usize = 150;

/// xorshift64*, Vigna 2016, <https://arxiv.org/abs/1402.6246>.
struct Chance(u64);

impl Chance {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % below.max(1)
    }
}

/// Numbers that lengths and offsets are compared with.
const NUMBERS: [u64; 8] = [0, 1, 0x7f, 0xff, 0x7fff_ffff, 0xffff_ffff, 1 << 60, u64::MAX];

fn vary(seed: &[u8], others: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=chance.next(4) {
        let at = chance.next(bytes.len());
        match chance.next(7) {
            0 => bytes.truncate(at),
            1 => {
                let end = (at + chance.next(64)).min(bytes.len());
                bytes.drain(at..end);
            }
            2 => {
                let end = (at + chance.next(64)).min(bytes.len());
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            3 => {
                let number = NUMBERS[chance.next(NUMBERS.len())].to_le_bytes();
                let width = 1 << chance.next(4);
                for (byte, new) in bytes.iter_mut().skip(at).zip(&number[..width]) {
                    *byte = *new;
                }
            }
            4 => {
                let other = &others[chance.next(others.len())];
                let start = chance.next(other.len());
                let end = (start + chance.next(64)).min(other.len());
                bytes.splice(at..at, other[start..end].iter().copied());
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << chance.next(8);
                }
            }
        }
    }
    bytes
}

#[test]
fn nothing_that_is_read_can_panic() {
    let rounds = std::env::var("OCELLI_FUZZ_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS);
    let mut failed = Vec::new();
    let only = std::env::var("OCELLI_FUZZ_TARGET").ok();
    for (name, target) in TARGETS.into_iter().filter(|(name, _)| only.as_deref().is_none_or(|only| only == *name)) {
        let folder = root().join("fuzz/seeds").join(name);
        let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        files.sort();
        let seeds: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
        assert!(!seeds.is_empty(), "no seeds for {name}");
        let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
        for (file, seed) in files.iter().zip(&seeds) {
            for round in 0..=rounds {
                let bytes = if round == 0 { seed.clone() } else { vary(seed, &seeds, &mut chance) };
                if catch_unwind(AssertUnwindSafe(|| target(&bytes))).is_err() {
                    let kept = std::env::temp_dir().join(format!("ocelli-fuzz-{name}-{round}"));
                    fs::write(&kept, &bytes).unwrap();
                    failed.push(format!("{name}: round {round} of {}: kept as {}", file.display(), kept.display()));
                }
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
