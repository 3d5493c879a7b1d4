//! The model file: write it, open it by mmap without copying, verify it.
//!
//! An `.ocelli` file is a [burnpack](burn_pack) container. In file order:
//!
//! ```text
//! header        10 bytes: magic, container version, length of the metadata
//! metadata      CBOR: a descriptor for each tensor; strings: `ocelli.manifest`, `ocelli.checksums`, and the text entries
//! tensors       each on a 256-byte boundary, little-endian, zeros between
//! seal          64 bytes, the last of the file: SHA-256 of everything before the first tensor, and of the seal itself
//! ```
//!
//! [`Bundle::open`] checks the seal, so a damaged manifest is never believed and a file cut short is never opened, and
//! that the tensors lie where they may; it reads no tensor. [`Bundle::verify`] compares each tensor with its SHA-256, and
//! finds one flipped bit anywhere in the file. The checksums find damage; they do not prove who wrote the file.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("tiny.ocelli");
//! use ocelli_bundle::{Bundle, BundleWriter, Manifest};
//!
//! let mut writer = BundleWriter::new(Manifest::new("tiny", "example"));
//! writer.f32("weight", &[2, 2], &[1.0, 2.0, 3.0, 4.0])?;
//! writer.text("labels", "cat\ndog")?;
//! writer.write_to(&path)?;
//!
//! let bundle = Bundle::open(&path)?;
//! bundle.verify()?;
//! assert_eq!(bundle.tensor("weight")?.shape, [2, 2]);
//! assert_eq!(bundle.text("labels"), Some("cat\ndog"));
//! # Ok(())
//! # }
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`manifest`] | what the file says of itself: [`Manifest`], [`Source`], [`Golden`] |
//! | [`reader`] | [`Bundle`]: open, look up; [`TensorView`] |
//! | [`verify`](mod@verify) | checksums against content |
//! | [`writer`] | [`BundleWriter`] |
//! | [`stream`] | [`BundleFile`]: a file whose tensors come in pieces |
//! | `container` | the bytes before the tensors |
//! | [`mapped`] | any file as bytes |
//! | `seal` | the last 64 bytes, and the checks made before anything is parsed |
//! | `layout` | where tensors may lie |
//! | `embed` | [`include_aligned!`]: a bundle inside a binary |
//! | [`error`] | [`BundleError`]: what, where, and what to do |

mod container;
mod embed;
pub mod error;
mod layout;
pub mod manifest;
pub mod mapped;
pub mod reader;
mod seal;
pub mod stream;
pub mod verify;
pub mod writer;

pub use burn_std::DType;
pub use embed::Aligned;
pub use error::{BundleError, Part};
pub use manifest::{FORMAT_VERSION, GOLDEN_PREFIX, Golden, Manifest, Source};
pub use mapped::map;
pub use reader::{Bundle, TensorView};
pub use stream::BundleFile;
pub use writer::BundleWriter;
