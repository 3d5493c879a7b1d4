//! The last 64 bytes of a bundle, and what is checked before anything is parsed.
//!
//! The seal holds a digest of the head (header and metadata), the head holds the digests of the tensors: so every byte is
//! covered, and the parsers of CBOR and JSON see only what the writer wrote. It lies at the end because it cannot be part of
//! what it is a digest of, and because a file cut short then shows at once.
//!
//! ```text
//!  0  8  b"OCELSEAL"
//!  8  8  zero
//! 16 32  SHA-256 of the head, padding up to the first tensor included
//! 48 16  the first 16 bytes of the SHA-256 of the 48 bytes above
//! ```

use sha2::{Digest, Sha256};

use crate::{BundleError, Part};

/// Length of the seal in bytes.
pub const LEN: usize = 64;

/// The tensor that holds it.
pub const NAME: &str = "ocelli.seal";

const MAGIC: &[u8; 8] = b"OCELSEAL";

/// The seal of a head.
pub fn of(head: &[u8]) -> [u8; LEN] {
    let mut seal = [0; LEN];
    seal[..8].copy_from_slice(MAGIC);
    seal[16..48].copy_from_slice(&Sha256::digest(head));
    let own = Sha256::digest(&seal[..48]);
    seal[48..].copy_from_slice(&own[..16]);
    seal
}

/// What the first ten bytes say.
pub struct Header {
    /// Offset of the first tensor: the length of the head.
    pub head_len: usize,
}

/// Reads the header of the container that starts with `bytes`. `len` is the length of the whole file.
pub fn header(bundle: &str, bytes: &[u8], len: usize) -> Result<Header, BundleError> {
    let not = |reason: &str| BundleError::NotABundle { bundle: bundle.into(), reason: reason.into() };
    if len == 0 {
        return Err(not("the file is empty"));
    }
    let Ok(header) = burn_pack::Header::from_bytes(bytes) else {
        return Err(not("it does not start with burnpack's magic number"));
    };
    if header.version != burn_pack::FORMAT_VERSION {
        return Err(BundleError::UnsupportedVersion {
            bundle: bundle.into(),
            what: "container",
            found: header.version.into(),
            supported: burn_pack::FORMAT_VERSION.into(),
        });
    }
    if header.metadata_size > burn_pack::MAX_METADATA_SIZE {
        return Err(not("the metadata is longer than burnpack allows"));
    }
    let head_len = burn_pack::aligned_data_section_start(header.metadata_size as usize);
    if head_len + LEN > len {
        return Err(BundleError::Truncated {
            bundle: bundle.into(),
            reason: format!("{len} bytes, and header and manifest alone need {}", head_len + LEN),
        });
    }
    Ok(Header { head_len })
}

/// Whether the file ends in an intact seal; `None` if it does not.
pub fn find(bytes: &[u8]) -> Option<&[u8; LEN]> {
    let seal = bytes.last_chunk::<LEN>()?;
    let own = Sha256::digest(&seal[..48]);
    (seal[..16] == *b"OCELSEAL\0\0\0\0\0\0\0\0" && seal[48..] == own[..16]).then_some(seal)
}

/// Compares the head with its digest.
pub fn check_head(bundle: &str, head: &[u8], seal: &[u8; LEN]) -> Result<(), BundleError> {
    if Sha256::digest(head)[..] == seal[16..48] {
        return Ok(());
    }
    Err(BundleError::Damaged { bundle: bundle.into(), part: Part::Head, offset: 0, end: head.len() as u64 })
}
