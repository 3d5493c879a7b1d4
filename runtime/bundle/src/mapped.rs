//! Files in memory without reading them.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use memmap2::Mmap;

/// A mapping that bytes were made of.
pub(crate) struct Mapping(Arc<Mmap>);

/// What holds the mapping while there are bytes.
struct Owner(Arc<Mmap>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Mapping {
    /// Takes pages out of this process's memory; whoever looks at them again gets them from the system's, or from the file.
    pub(crate) fn release(&self, range: Range<usize>) {
        // SAFETY: nobody writes to the mapping, and the file is there: a page that was released reads as before.
        #[cfg(unix)]
        let _ = unsafe { self.0.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len()) };
        #[cfg(not(unix))]
        let _ = (range, &self.0);
    }
}

/// Maps the file at `path`. Its pages are read when they are looked at, and are the system's to drop again.
///
/// The file must not be changed while the bytes are in use: on Unix, reading a page that has been cut off ends the process (`SIGBUS`).
///
/// # Errors
/// What the system says; a folder is an error, too.
pub fn map(path: &Path) -> io::Result<Bytes> {
    Ok(map_released(path)?.0)
}

/// [`map`], and the mapping, where there is one.
pub(crate) fn map_released(path: &Path) -> io::Result<(Bytes, Option<Mapping>)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder"));
    }
    // A length of zero cannot be mapped everywhere.
    if metadata.len() == 0 {
        return Ok((Bytes::new(), None));
    }
    // SAFETY: a mapping is sound as long as nobody changes the file under it, which no program can enforce; like every reader of mapped
    // files this asks it of the caller, above. This process maps it read-only, and this crate's writer replaces files and never changes
    // them. Should someone do it all the same: a bundle's lengths and addresses were copied out of the mapping when it was opened and are
    // not read again, so that only the numbers in tensors can change; `verify` sees that.
    let map = Arc::new(unsafe { Mmap::map(&file) }?);
    Ok((Bytes::from_owner(Owner(map.clone())), Some(Mapping(map))))
}
