//! `preprocessor_config.json` of Hugging Face's `transformers`.

use serde_json::{Map, Value};

use super::{Centre, Normalise, Recipe, RecipeError, Resize, Size};
use crate::filter::Filter;

pub(super) const CLIP_MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
pub(super) const CLIP_STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];
const HALVES: [f32; 3] = [0.5; 3];

/// What a class does where its configuration does not say: the class attributes of `transformers` 5.23.
struct Class {
    name: &'static str,
    filter: Filter,
    mean: [f32; 3],
    std: [f32; 3],
    size: Option<Resize>,
    /// A size given as one number is a square, rather than the shorter edge.
    to_square: bool,
    crop: Option<u32>,
    does_crop: bool,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Resize, crop, rescale, normalise.
    Plain,
    /// SigLIP 2's patches.
    Patches,
    /// OWLv2's square.
    PadSquare,
    /// Idefics3's tiles.
    Tiles,
}

const fn squash(side: u32) -> Option<Resize> {
    Some(Resize::Squash(Size { height: side, width: side }))
}

const fn tiles(name: &'static str) -> Class {
    Class {
        name,
        filter: Filter::Lanczos,
        mean: HALVES,
        std: HALVES,
        size: None,
        to_square: false,
        crop: None,
        does_crop: false,
        kind: Kind::Tiles,
    }
}

const CLASSES: [Class; 10] = [
    Class {
        name: "CLIPImageProcessor",
        filter: Filter::Bicubic,
        mean: CLIP_MEAN,
        std: CLIP_STD,
        size: Some(Resize::ShortestEdge { edge: 224, longest: None }),
        to_square: false,
        crop: Some(224),
        does_crop: true,
        kind: Kind::Plain,
    },
    Class {
        name: "SiglipImageProcessor",
        filter: Filter::Bicubic,
        mean: HALVES,
        std: HALVES,
        size: squash(224),
        to_square: false,
        crop: None,
        does_crop: false,
        kind: Kind::Plain,
    },
    Class {
        name: "Siglip2ImageProcessor",
        filter: Filter::Bilinear,
        mean: HALVES,
        std: HALVES,
        size: None,
        to_square: true,
        crop: None,
        does_crop: false,
        kind: Kind::Patches,
    },
    Class {
        name: "OwlViTImageProcessor",
        filter: Filter::Bicubic,
        mean: CLIP_MEAN,
        std: CLIP_STD,
        size: squash(768),
        to_square: true,
        crop: Some(768),
        does_crop: false,
        kind: Kind::Plain,
    },
    Class {
        name: "Owlv2ImageProcessor",
        filter: Filter::Bilinear,
        mean: CLIP_MEAN,
        std: CLIP_STD,
        size: squash(960),
        to_square: true,
        crop: None,
        does_crop: false,
        kind: Kind::PadSquare,
    },
    Class {
        name: "ViTImageProcessor",
        filter: Filter::Bilinear,
        mean: HALVES,
        std: HALVES,
        size: squash(224),
        to_square: true,
        crop: None,
        does_crop: false,
        kind: Kind::Plain,
    },
    Class {
        name: "DeiTImageProcessor",
        filter: Filter::Bicubic,
        mean: HALVES,
        std: HALVES,
        size: squash(256),
        to_square: true,
        crop: Some(224),
        does_crop: true,
        kind: Kind::Plain,
    },
    Class {
        name: "BlipImageProcessor",
        filter: Filter::Bicubic,
        mean: CLIP_MEAN,
        std: CLIP_STD,
        size: squash(384),
        to_square: true,
        crop: None,
        does_crop: false,
        kind: Kind::Plain,
    },
    tiles("Idefics3ImageProcessor"),
    tiles("SmolVLMImageProcessor"),
];

impl Recipe {
    /// The recipe of an image processor of Hugging Face's `transformers`: `config` is its `preprocessor_config.json`, or a
    /// `processor_config.json` with an `image_processor` in it.
    ///
    /// `CLIP`, `Siglip`, `Siglip2`, `OwlViT`, `Owlv2`, `ViT`, `DeiT`, `Blip`, `Idefics3` and `SmolVLM`, each as `…ImageProcessor`, `…ImageProcessorFast` or `…FeatureExtractor`, named by
    /// `image_processor_type` or, in older files, `feature_extractor_type`. What a file does not say is as the class has it; sizes may
    /// have any of their historical forms. The recipe does what the default (torchvision) backend does.
    ///
    /// # Errors
    /// An unknown class, or a field whose value cannot be followed.
    pub fn from_processor(config: &Value) -> Result<Self, RecipeError> {
        let config = config.get("image_processor").filter(|inner| inner.is_object()).unwrap_or(config);
        let fields = Fields(config.as_object().ok_or_else(|| unknown(""))?);
        let name =
            fields.get("image_processor_type").or_else(|| fields.get("feature_extractor_type")).and_then(Value::as_str).unwrap_or("");
        let base = name.strip_suffix("Fast").unwrap_or(name).replace("FeatureExtractor", "ImageProcessor");
        let class = CLASSES.iter().find(|class| class.name == base).ok_or_else(|| unknown(name))?;
        let recipe = class.recipe(&fields)?;
        recipe.validate()?;
        Ok(recipe)
    }
}

fn unknown(name: &str) -> RecipeError {
    let known = CLASSES.map(|class| class.name).join(", ");
    RecipeError::Class { found: name.to_owned(), known: format!("{known} (image_processor_type)") }
}

impl Class {
    fn recipe(&self, fields: &Fields<'_>) -> Result<Recipe, RecipeError> {
        let filter = match fields.get("resample") {
            None => self.filter,
            Some(code) => code
                .as_u64()
                .and_then(Filter::from_code)
                .ok_or_else(|| RecipeError::field("resample", code, "0 (nearest), 1 (Lanczos), 2 (bilinear) and 3 (bicubic) are known"))?,
        };
        // Early files of OWL-ViT call it `rescale`.
        let does_rescale = fields.flag("rescale", fields.flag("do_rescale", true)?)?;
        let factor = fields.number("rescale_factor", 1.0 / 255.0)?;
        let (mean, std) = (fields.channels("image_mean", self.mean)?, fields.channels("image_std", self.std)?);
        let does_normalise = fields.flag("do_normalize", true)?;
        let mut recipe = Recipe {
            resize: None,
            filter,
            crop: None,
            centre: Centre::Down,
            rescale: does_rescale.then_some(factor),
            normalise: does_normalise.then_some(Normalise { mean, std }),
        };
        let does_resize = fields.flag("do_resize", true)?;
        if !does_resize && self.kind != Kind::Plain {
            return Err(RecipeError::field("do_resize", false, format!("{} always resizes here", self.name)));
        }
        match self.kind {
            Kind::Plain => {
                if fields.flag("do_pad", false)? {
                    return Err(RecipeError::field("do_pad", true, format!("{} does not pad here", self.name)));
                }
                recipe.resize = if does_resize { Some(self.size(fields)?) } else { None };
                if fields.flag("do_center_crop", self.does_crop)? {
                    recipe.crop = Some(self.crop(fields)?);
                }
            }
            Kind::Patches => {
                let [patch, max_patches] = [fields.count("patch_size", 16)?, fields.count("max_num_patches", 256)?];
                recipe.resize = Some(Resize::Patches { patch, max_patches });
            }
            Kind::Tiles => {
                let edge = |field: &'static str, default: u32| match fields.get(field) {
                    None => Ok(default),
                    Some(value) => {
                        whole(&value["longest_edge"]).ok_or_else(|| RecipeError::field(field, value, "the longest_edge of tiles is needed"))
                    }
                };
                let (side, longest) = (edge("max_image_size", 364)?, edge("size", 4 * 364)?);
                recipe.resize = Some(Resize::Tiles { side, longest, split: fields.flag("do_image_splitting", true)? });
            }
            Kind::PadSquare => {
                if !fields.flag("do_pad", true)? {
                    return Err(RecipeError::field("do_pad", false, format!("{} always pads here", self.name)));
                }
                let Resize::Squash(size) = self.size(fields)? else {
                    return Err(RecipeError::field("size", fields.text("size"), "a height and a width are needed"));
                };
                recipe.resize = Some(Resize::PadSquare(size));
                // Whatever `resample` says.
                recipe.filter = Filter::Bilinear;
            }
        }
        Ok(recipe)
    }

    fn size(&self, fields: &Fields<'_>) -> Result<Resize, RecipeError> {
        let square = fields.flag("use_square_size", false)? && self.name == "CLIPImageProcessor";
        match fields.get("size").filter(|_| !square) {
            _ if square => Ok(Resize::Squash(Size::square(224))),
            None => self.size.ok_or_else(|| RecipeError::field("size", "missing", "it is needed")),
            Some(value) => {
                let to_square = fields.flag("default_to_square", self.to_square)?;
                let error = || {
                    let expected = "a number, [height, width], height and width, or shortest_edge (with longest_edge) are known";
                    RecipeError::field("size", value, expected)
                };
                read_size(value, to_square).ok_or_else(error)
            }
        }
    }

    fn crop(&self, fields: &Fields<'_>) -> Result<Size, RecipeError> {
        let expected = "a number, [height, width], or height and width are needed";
        match fields.get("crop_size") {
            None => self.crop.map(Size::square).ok_or_else(|| RecipeError::field("crop_size", "missing", expected)),
            Some(value) => match read_size(value, true) {
                Some(Resize::Squash(size)) => Ok(size),
                _ => Err(RecipeError::field("crop_size", value, expected)),
            },
        }
    }
}

/// The forms that `get_size_dict` reads.
fn read_size(value: &Value, to_square: bool) -> Option<Resize> {
    match value {
        Value::Number(_) if to_square => Some(Resize::Squash(Size::square(whole(value)?))),
        Value::Number(_) => Some(Resize::ShortestEdge { edge: whole(value)?, longest: None }),
        Value::Array(sides) => match sides.as_slice() {
            [height, width] => Some(Resize::Squash(Size { height: whole(height)?, width: whole(width)? })),
            _ => None,
        },
        Value::Object(sides) => {
            // A size that was saved with all its fields has nulls.
            let mut named: Vec<(&str, u32)> = Vec::new();
            for (name, side) in sides.iter().filter(|(_, side)| !side.is_null()) {
                named.push((name, whole(side)?));
            }
            named.sort_unstable();
            match *named.as_slice() {
                [("height", height), ("width", width)] => Some(Resize::Squash(Size { height, width })),
                [("shortest_edge", edge)] => Some(Resize::ShortestEdge { edge, longest: None }),
                [("longest_edge", longest), ("shortest_edge", edge)] => Some(Resize::ShortestEdge { edge, longest: Some(longest) }),
                _ => None,
            }
        }
        _ => None,
    }
}

fn whole(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|number| u32::try_from(number).ok())
}

/// The fields of a configuration; null stands for a missing one.
struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    fn get(&self, field: &str) -> Option<&'a Value> {
        self.0.get(field).filter(|value| !value.is_null())
    }

    fn text(&self, field: &str) -> String {
        self.get(field).map_or_else(|| "missing".to_owned(), Value::to_string)
    }

    fn flag(&self, field: &'static str, default: bool) -> Result<bool, RecipeError> {
        let Some(value) = self.get(field) else { return Ok(default) };
        value.as_bool().ok_or_else(|| RecipeError::field(field, value, "it has to be true or false"))
    }

    fn number(&self, field: &'static str, default: f64) -> Result<f64, RecipeError> {
        let Some(value) = self.get(field) else { return Ok(default) };
        value.as_f64().ok_or_else(|| RecipeError::field(field, value, "it has to be a number"))
    }

    fn count(&self, field: &'static str, default: u32) -> Result<u32, RecipeError> {
        let Some(value) = self.get(field) else { return Ok(default) };
        whole(value).ok_or_else(|| RecipeError::field(field, value, "it has to be a whole number"))
    }

    fn channels(&self, field: &'static str, default: [f32; 3]) -> Result<[f32; 3], RecipeError> {
        self.get(field).map_or(Ok(default), |value| channels(field, value))
    }
}

/// Three numbers, or one for all channels.
pub(super) fn channels(field: &'static str, value: &Value) -> Result<[f32; 3], RecipeError> {
    let number = |value: &Value| value.as_f64().map(|number| number as f32);
    let read = match value {
        Value::Array(values) => match values.as_slice() {
            [r, g, b] => number(r).zip(number(g)).zip(number(b)).map(|((r, g), b)| [r, g, b]),
            _ => None,
        },
        _ => number(value).map(|number| [number; 3]),
    };
    read.ok_or_else(|| RecipeError::field(field, value, "three numbers are needed, for red, green and blue"))
}
