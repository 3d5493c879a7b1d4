//! From a bundle to a model, and from a checkpoint's configuration to a bundle's plan: the one place that knows all families.

use burn::tensor::Device;
use ocelli_bundle::Bundle;
use ocelli_flow::Model;

use crate::plan::{Declared, OPEN_CLIP, Plan, PlanError};
use crate::{LoadError, clip, florence, nano, owl, siglip};

/// Makes the model of one family.
type Loader = fn(&Bundle, &Device) -> Result<Box<dyn Model>, LoadError>;

/// Makes the plan of a checkpoint.
type Planner = fn(&Declared<'_>) -> Result<Plan, PlanError>;

/// Every family: its name in the manifest, and who loads it. A new one is one line here.
const FAMILIES: &[(&str, Loader)] = &[
    (nano::FAMILY, |bundle, device| Ok(Box::new(nano::Nano::load(bundle, device)?))),
    (clip::FAMILY, |bundle, device| Ok(Box::new(clip::forward::load(bundle, device)?))),
    (siglip::FAMILY, |bundle, device| Ok(Box::new(siglip::forward::load(bundle, device)?))),
    (owl::FAMILY, |bundle, device| Ok(Box::new(owl::Owl::load(bundle, device)?))),
    (florence::FAMILY, |bundle, device| Ok(Box::new(florence::Florence2::load(bundle, device)?))),
];

/// Every class of checkpoint that can be imported, and who reads its configuration.
const CLASSES: &[(&str, Planner)] = &[
    ("CLIPModel", clip::plan),
    ("CLIPVisionModelWithProjection", clip::plan_vision),
    ("CLIPTextModelWithProjection", clip::plan_text),
    (OPEN_CLIP, clip::plan_open_clip),
    ("SiglipModel", siglip::plan),
    ("Siglip2Model", siglip::plan),
    ("OwlViTForObjectDetection", owl::plan),
    ("Owlv2ForObjectDetection", owl::plan),
    ("Florence2ForConditionalGeneration", florence::plan),
];

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

/// How to make a bundle of a checkpoint.
///
/// # Errors
/// Where no family reads its class, or its family does not do what the configuration asks for.
pub fn plan(declared: &Declared<'_>) -> Result<Plan, PlanError> {
    let class = declared.class();
    match CLASSES.iter().find(|(name, _)| *name == class) {
        Some((_, planner)) => planner(declared),
        None => Err(PlanError::Class { class, known: CLASSES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ") }),
    }
}
