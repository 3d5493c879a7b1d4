//! From a bundle to a model: the one place that knows all families.

use burn::tensor::Device;
use ocelli_bundle::Bundle;
use ocelli_flow::Model;

use crate::{LoadError, nano};

/// Makes the model of one family.
type Loader = fn(&Bundle, &Device) -> Result<Box<dyn Model>, LoadError>;

/// Every family: its name in the manifest, and who loads it. A new one is one line here.
const FAMILIES: &[(&str, Loader)] = &[(nano::FAMILY, |bundle, device| Ok(Box::new(nano::Nano::load(bundle, device)?)))];

/// Loads the model of a bundle onto a device.
pub fn load(bundle: &Bundle, device: &Device) -> Result<Box<dyn Model>, LoadError> {
    let family = &bundle.manifest().family;
    match FAMILIES.iter().find(|(name, _)| name == family) {
        Some((_, loader)) => loader(bundle, device),
        None => {
            Err(LoadError::Family { family: family.clone(), known: FAMILIES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ") })
        }
    }
}
