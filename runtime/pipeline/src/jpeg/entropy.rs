//! Huffman codes (T.81 annexes C and F.2.2).

use super::bits::Bits;

/// Bits that are looked up at once.
const FAST: u32 = 9;

/// Codes and their symbols.
#[derive(Clone)]
pub struct Codes {
    /// By the next [`FAST`] bits: length and symbol; length 0 for longer codes.
    fast: Box<[(u8, u8); 1 << FAST]>,
    /// One more than the largest code of each length, left-aligned to 16 bits.
    limits: [u32; 17],
    /// What is added to a code of each length for its symbol's index.
    offsets: [i32; 17],
    symbols: Vec<u8>,
}

impl Codes {
    /// From how many codes there are of lengths 1 to 16, and their symbols in order.
    pub fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let mut codes = Self { fast: Box::new([(0, 0); 1 << FAST]), limits: [0; 17], offsets: [0; 17], symbols: symbols.to_vec() };
        let (mut code, mut index) = (0u32, 0usize);
        for (length, &count) in (1u32..=16).zip(counts) {
            codes.offsets[length as usize] = index as i32 - code as i32;
            for _ in 0..count {
                let symbol = *symbols.get(index)?;
                // All ones is no code, and more codes than there can be are none.
                if code + 1 > 1 << length {
                    return None;
                }
                if length <= FAST {
                    let first = (code << (FAST - length)) as usize;
                    codes.fast.get_mut(first..first + (1 << (FAST - length)))?.fill((length as u8, symbol));
                }
                code += 1;
                index += 1;
            }
            codes.limits[length as usize] = code << (16 - length);
            code <<= 1;
        }
        (index == symbols.len()).then_some(codes)
    }

    /// The next symbol.
    pub fn next(&self, bits: &mut Bits<'_>) -> Option<u8> {
        let ahead = bits.peek16();
        let (length, symbol) = self.fast[(ahead >> (16 - FAST)) as usize];
        if length > 0 {
            bits.skip(length.into());
            return Some(symbol);
        }
        let length = (FAST + 1..=16).find(|&length| ahead < self.limits[length as usize])?;
        let index = (ahead >> (16 - length)) as i32 + self.offsets[length as usize];
        bits.skip(length);
        self.symbols.get(usize::try_from(index).ok()?).copied()
    }
}
