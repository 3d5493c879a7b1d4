//! Files in memory without reading them.

use std::fs::File;
use std::io;
use std::path::Path;

use bytes::Bytes;

/// Maps the file at `path`. Its pages are read when they are looked at, and are the system's to drop again.
///
/// The file must not be changed while the bytes are in use: on Unix, reading a page that has been cut off ends the process (`SIGBUS`).
///
/// # Errors
/// What the system says; a folder is an error, too.
pub fn map(path: &Path) -> io::Result<Bytes> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder"));
    }
    // A length of zero cannot be mapped everywhere.
    if metadata.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: a mapping is sound as long as nobody changes the file under it, which no program can enforce; like every reader of mapped
    // files this asks it of the caller, above. This process maps it read-only, and this crate's writer replaces files and never changes
    // them. Should someone do it all the same: a bundle's lengths and addresses were copied out of the mapping when it was opened and are
    // not read again, so that only the numbers in tensors can change; `verify` sees that.
    let map = unsafe { memmap2::Mmap::map(&file) }?;
    Ok(Bytes::from_owner(map))
}
