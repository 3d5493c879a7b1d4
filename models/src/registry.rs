//! From a bundle to a model, and from a checkpoint's configuration to a bundle's plan: the one place that knows all families.

use burn::tensor::Device;
use ocelli_bundle::{Bundle, Manifest};
use ocelli_flow::Model;
use serde_json::Value;

use crate::plan::{Declared, OPEN_CLIP, Plan, PlanError};
use crate::table::Row;
use crate::{LoadError, blip, clip, encoder_decoder, florence, nano, owl, siglip, smolvlm};

/// Makes the model of one family.
type Loader = fn(&Bundle, &Device) -> Result<Box<dyn Model>, LoadError>;

/// Makes the plan of a checkpoint.
type Planner = fn(&Declared<'_>) -> Result<Plan, PlanError>;

/// Lists a family's tensors by the configuration in a manifest.
type Table = fn(&Value) -> Result<Vec<Row>, LoadError>;

/// Every family: its name in the manifest, who loads it, and its table of tensors, as transformers names them; nano is no checkpoint of
/// others and has none. A new family is one line here.
const FAMILIES: &[(&str, Loader, Option<Table>)] = &[
    (nano::FAMILY, |bundle, device| Ok(Box::new(nano::Nano::load(bundle, device)?)), None),
    (clip::FAMILY, |bundle, device| Ok(Box::new(clip::forward::load(bundle, device)?)), Some(clip::forward::table)),
    (siglip::FAMILY, |bundle, device| Ok(Box::new(siglip::forward::load(bundle, device)?)), Some(siglip::forward::table)),
    (smolvlm::FAMILY, |bundle, device| Ok(Box::new(smolvlm::SmolVlm::load(bundle, device)?)), Some(smolvlm::table)),
    (owl::FAMILY, |bundle, device| Ok(Box::new(owl::Owl::load(bundle, device)?)), Some(owl::table)),
    (blip::FAMILY, |bundle, device| Ok(Box::new(blip::Blip::load(bundle, device)?)), Some(blip::table)),
    (
        encoder_decoder::FAMILY,
        |bundle, device| Ok(Box::new(encoder_decoder::PictureReader::load(bundle, device)?)),
        Some(encoder_decoder::table),
    ),
    (florence::FAMILY, |bundle, device| Ok(Box::new(florence::Florence2::load(bundle, device)?)), Some(florence::table)),
];

/// Every class of checkpoint that can be imported, and who reads its configuration.
const CLASSES: &[(&str, Planner)] = &[
    ("CLIPModel", clip::plan),
    ("CLIPVisionModelWithProjection", clip::plan_vision),
    ("CLIPTextModelWithProjection", clip::plan_text),
    (OPEN_CLIP, clip::plan_open_clip),
    ("SiglipModel", siglip::plan),
    ("Siglip2Model", siglip::plan),
    ("Idefics3ForConditionalGeneration", smolvlm::plan),
    ("SmolVLMForConditionalGeneration", smolvlm::plan),
    ("LlamaForCausalLM", smolvlm::plan_text),
    ("OwlViTForObjectDetection", owl::plan),
    ("Owlv2ForObjectDetection", owl::plan),
    ("BlipForConditionalGeneration", blip::plan_caption),
    ("BlipForImageTextRetrieval", blip::plan_match),
    ("BlipForQuestionAnswering", blip::plan_answer),
    ("VisionEncoderDecoderModel", encoder_decoder::plan),
    ("Florence2ForConditionalGeneration", florence::plan),
];

/// Loads the model of a bundle onto a device.
pub fn load(bundle: &Bundle, device: &Device) -> Result<Box<dyn Model>, LoadError> {
    let family = &bundle.manifest().family;
    match FAMILIES.iter().find(|(name, ..)| name == family) {
        Some((_, loader, _)) => loader(bundle, device),
        None => Err(unknown(family)),
    }
}

/// The tensors of a bundle's model, as its family's table lists them: names, shapes, kinds, and what transformers calls them. `None` where the
/// family has no table.
///
/// # Errors
/// Where the family is not known, or the configuration is not its.
pub fn rows(manifest: &Manifest) -> Result<Option<Vec<Row>>, LoadError> {
    match FAMILIES.iter().find(|(name, ..)| *name == manifest.family) {
        Some((.., table)) => table.map(|table| table(&manifest.config)).transpose(),
        None => Err(unknown(&manifest.family)),
    }
}

fn unknown(family: &str) -> LoadError {
    let known = FAMILIES.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(", ");
    LoadError::Family { family: family.to_owned(), known }
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
