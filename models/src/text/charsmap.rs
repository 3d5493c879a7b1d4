//! sentencepiece's map of characters, checked before the `tokenizers` crate reads it: that allocates what the first four bytes say, and
//! follows offsets wherever they lead.
//!
//! The map is a length in bytes, a double-array trie of 32-bit units (Darts-clone, <https://github.com/s-yata/darts-clone>), and the
//! replacements that its values point to, each up to a zero byte.

use serde_json::Value;

/// Whether a map can be followed for every text.
///
/// # Errors
/// Says what is wrong with it.
pub fn check(map: &[u8]) -> Result<(), String> {
    let Some((length, rest)) = map.split_first_chunk::<4>() else {
        return Err(format!("its map of characters has {} bytes", map.len()));
    };
    let length = u32::from_le_bytes(*length) as usize;
    let Some((trie, texts)) = rest.split_at_checked(length).filter(|_| length.is_multiple_of(4)) else {
        return Err(format!("its map of characters claims a trie of {length} bytes, and {} follow", rest.len()));
    };
    let texts = std::str::from_utf8(texts).map_err(|_| "the replacements of its map of characters are no UTF-8".to_owned())?;
    let (units, _) = trie.as_chunks::<4>();
    let unit = |at: usize| units.get(at).map(|unit| u32::from_le_bytes(*unit) as usize);
    let outside = || "its map of characters leads outside itself".to_owned();

    // Every state that a text can lead to.
    let offset = |unit: usize| (unit >> 10) << ((unit & (1 << 9)) >> 6);
    let first = offset(unit(0).ok_or_else(outside)?);
    let mut seen = vec![false; units.len()];
    let mut states = vec![first];
    while let Some(state) = states.pop() {
        for byte in 1..=255 {
            let here = unit(state ^ byte).ok_or_else(outside)?;
            if here & ((1 << 31) | 0xff) != byte {
                continue;
            }
            let next = state ^ byte ^ offset(here);
            if here >> 8 & 1 == 1 {
                let value = unit(next).ok_or_else(outside)? & ((1 << 31) - 1);
                let rest = texts.get(value..).ok_or_else(outside)?;
                // A replacement ends at a zero byte, which is a character's end, or with the texts.
                debug_assert!(rest.find('\0').unwrap_or(rest.len()) <= rest.len());
            }
            if let Some(seen) = seen.get_mut(next)
                && !*seen
            {
                *seen = true;
                states.push(next);
            } else if next >= units.len() {
                return Err(outside());
            }
        }
    }
    Ok(())
}

/// Whether a map composes letters with their accents, as those of Unicode's forms NFC and NFKC do.
pub fn composes(map: &[u8]) -> bool {
    let (units, _) = map.get(4..).unwrap_or_default().as_chunks::<4>();
    let unit = |at: usize| units.get(at).map(|unit| u32::from_le_bytes(*unit) as usize);
    let offset = |unit: usize| (unit >> 10) << ((unit & (1 << 9)) >> 6);
    let mut state = unit(0).map(offset);
    let mut last = 0;
    for byte in "a\u{300}".bytes().map(usize::from) {
        let here = state.map(|state| state ^ byte);
        last = here.and_then(unit).filter(|unit| unit & ((1 << 31) | 0xff) == byte).unwrap_or(0);
        state = here.filter(|_| last != 0).map(|here| here ^ offset(last));
    }
    last >> 8 & 1 == 1
}

/// [`check`] for every map in the normalizer of a `tokenizer.json`.
pub(super) fn check_steps(normalizer: &Value) -> Result<(), String> {
    match normalizer {
        Value::Array(steps) => steps.iter().try_for_each(check_steps),
        Value::Object(fields) if fields.contains_key("precompiled_charsmap") || normalizer["type"] == "Precompiled" => {
            let map = normalizer["precompiled_charsmap"].as_str().and_then(decode);
            check(&map.ok_or("its map of characters is no base64")?)
        }
        Value::Object(fields) => fields.values().try_for_each(check_steps),
        _ => Ok(()),
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64, as `tokenizer.json` holds bytes.
pub(super) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0, |word, &byte| word << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = char::from(ALPHABET[(word >> (18 - 6 * i) & 63) as usize]);
            text.push(if i <= chunk.len() { digit } else { '=' });
        }
    }
    text
}

/// What [`encode`] makes the same text of again.
fn decode(text: &str) -> Option<Vec<u8>> {
    let letters = text.trim_end_matches('=').as_bytes();
    let mut bytes = Vec::with_capacity(letters.len() / 4 * 3 + 2);
    for chunk in letters.chunks(4) {
        let mut word = 0;
        for &letter in chunk {
            word = word << 6 | ALPHABET.iter().position(|&known| known == letter)? as u32;
        }
        word <<= 6 * (4 - chunk.len());
        bytes.extend_from_slice(&word.to_be_bytes()[1..chunk.len()]);
    }
    (encode(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn base64_there_and_back() {
        for (bytes, text) in
            [(&b""[..], ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (b"foobar", "Zm9vYmFy"), (&[0, 255, 16], "AP8Q")]
        {
            assert_eq!(encode(bytes), text);
            assert_eq!(decode(text).as_deref(), Some(bytes));
        }
        for text in ["a*", "Zg", "Zg=", "Zh==", "Z", "Zg==Zg=="] {
            assert_eq!(decode(text), None, "{text}");
        }
    }

    #[test]
    fn maps_that_lead_outside() {
        let map = |length: u32, units: &[u32], texts: &[u8]| {
            let units = units.iter().flat_map(|unit| unit.to_le_bytes());
            length.to_le_bytes().into_iter().chain(units).chain(texts.iter().copied()).collect::<Vec<u8>>()
        };
        let claims = map(0xffff_fff0, &[0; 4], b"");
        assert!(check(&claims).unwrap_err().contains("4294967280"));
        assert!(check(&[1, 2]).is_err() && check(&map(0, &[], b"")).is_err());
        assert!(check(&map(1024, &[0; 256], b"")).is_ok(), "a trie without a word");
        assert!(check(&map(400, &[0; 100], b"")).is_err(), "a block that is not whole");
        // `a` is a word whose value lies in the unit at 0 ^ 97 ^ 1.
        let mut units = [0u32; 256];
        units[97] = 97 | 1 << 8 | 1 << 10;
        units[96] = 3 | 1 << 31;
        assert!(check(&map(1024, &units, "x\0ü\0".as_bytes())).unwrap_err().contains("outside"), "within a character");
        units[96] = 2 | 1 << 31;
        assert_eq!(check(&map(1024, &units, "x\0ü\0".as_bytes())), Ok(()));
        units[97] = 97 | 1 << 8 | 0x3fff << 10;
        assert!(check(&map(1024, &units, b"x\0")).is_err(), "an offset to nowhere");
        assert!(check_steps(&json!({"precompiled_charsmap": encode(&claims)})).is_err());
        for broken in [json!({"precompiled_charsmap": 7}), json!({"x": 1}), json!({"precompiled_charsmap": "="})] {
            let mut step = broken.clone();
            step["type"] = "Precompiled".into();
            assert!(check_steps(&json!([step])).is_err(), "{broken}");
        }
        assert_eq!(check_steps(&Value::Null), Ok(()));
    }
}
