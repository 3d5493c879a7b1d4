//! nano, the default model, inside the program (cargo feature `nano`).

/// nano's bundle, at an address its tensors can be read from in place; `None` in a build without it.
#[cfg(feature = "nano")]
pub fn nano() -> Option<&'static [u8]> {
    static NANO: &[u8] = ocelli_bundle::include_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/nano/nano.ocelli"));
    Some(NANO)
}

/// Nothing: this build has no model inside.
#[cfg(not(feature = "nano"))]
pub fn nano() -> Option<&'static [u8]> {
    None
}
