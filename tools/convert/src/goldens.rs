//! Golden vectors for a bundle that has been written: they are computed by its own model, so the file is there before they are.

use std::path::Path;

use ocelli_bundle::{Bundle, BundleError, BundleWriter};

/// Writes the bundle at `path` again, with what `add` puts in: tensors, and golden vectors in the manifest.
///
/// The weights are copied from the file that is there, not through memory; it is replaced when the new one is complete.
///
/// # Errors
/// Where the bundle cannot be read or written, or `add` fails.
pub fn add<E: From<BundleError>>(path: &Path, add: impl FnOnce(&mut BundleWriter) -> Result<(), E>) -> Result<(), E> {
    let bundle = Bundle::open(path)?;
    let mut writer = BundleWriter::new(bundle.manifest().clone());
    for (key, text) in bundle.texts() {
        writer.text(key, text)?;
    }
    for tensor in bundle.in_file_order() {
        writer.declare(tensor.name, tensor.dtype, tensor.shape)?;
    }
    add(&mut writer)?;
    let mut file = writer.begin(path)?;
    for tensor in bundle.in_file_order() {
        file.append(tensor.name, tensor.bytes)?;
    }
    Ok(file.finish()?)
}
