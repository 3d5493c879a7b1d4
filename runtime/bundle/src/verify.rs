//! Checksums against content.
//!
//! The head was checked when the bundle was opened; it is checked again here, so that one call answers for the whole file.
//! About a second for each gigabyte and core where the CPU has SHA instructions.

use sha2::{Digest, Sha256};

use crate::{Bundle, BundleError, Part, seal};

impl Bundle {
    /// SHA-256 of the seal, in hexadecimal. It stands for the whole file: the seal covers the head, and the head covers the
    /// tensors. A key for what was computed with this model.
    pub fn digest(&self) -> String {
        sha256(&self.bytes[self.bytes.len() - seal::LEN..])
    }

    /// Reads the whole file and compares it with its checksums; the error names the first damaged part and its offset.
    ///
    /// One changed bit anywhere is found: in the head and the seal, in a tensor, in the zeros between tensors. What was read is not kept in
    /// this process's memory: of a file's tensors only those count there later that are used.
    pub fn verify(&self) -> Result<(), BundleError> {
        let damaged = |part: Part, offset: usize, end: usize| {
            Err(BundleError::Damaged { bundle: self.origin.clone(), part, offset: offset as u64, end: end as u64 })
        };
        let Some(seal) = seal::find(&self.bytes) else {
            return damaged(Part::Seal, self.bytes.len() - seal::LEN, self.bytes.len());
        };
        let Some(first) = self.entries.first() else { return Ok(()) };
        let mut end = first.range.start;
        seal::check_head(&self.origin, &self.bytes[..end], seal)?;
        for entry in &self.entries {
            let padding = &self.bytes[end..entry.range.start];
            if let Some(at) = padding.iter().position(|&byte| byte != 0) {
                return damaged(Part::PaddingBefore(entry.name.clone()), end + at, end + at + 1);
            }
            // All but the seal have one: checked when the bundle was opened.
            if let Some(expected) = self.checksums.get(&entry.name)
                && sha256(&self.bytes[entry.range.clone()]) != *expected
            {
                return damaged(Part::Tensor(entry.name.clone()), entry.range.start, entry.range.end);
            }
            if let Some(mapping) = &self.mapping {
                mapping.release(entry.range.clone());
            }
            end = entry.range.end;
        }
        Ok(())
    }
}

/// SHA-256 in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// Bytes in hexadecimal.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
        // Writing into a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
