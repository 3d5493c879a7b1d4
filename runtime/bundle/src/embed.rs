//! A bundle inside a binary.

/// Bytes at an address that is a multiple of 256, a bundle's own alignment. Made by [`include_aligned!`](crate::include_aligned).
#[repr(C, align(256))]
pub struct Aligned<T: ?Sized>(
    /// The bytes.
    pub T,
);

/// Embeds a file like [`include_bytes!`], at an address that [`Bundle::from_static`](crate::Bundle::from_static) takes.
///
/// `include_bytes!` alone promises no alignment, and tensors are read in place. Expands to a `&'static [u8]`; the path is
/// relative to the source file, or absolute: `concat!(env!("CARGO_MANIFEST_DIR"), "/…")`.
///
/// ```
/// static TEXT: &[u8] = ocelli_bundle::include_aligned!("../Cargo.toml");
/// assert_eq!(TEXT.as_ptr().addr() % 256, 0);
/// ```
#[macro_export]
macro_rules! include_aligned {
    ($path:expr $(,)?) => {{
        static ALIGNED: &$crate::Aligned<[u8]> = &$crate::Aligned(*include_bytes!($path));
        &ALIGNED.0
    }};
}
