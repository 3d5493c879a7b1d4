//! `open_clip_config.json` of OpenCLIP.

use serde_json::Value;

use super::hugging_face::{CLIP_MEAN, CLIP_STD, channels};
use super::{Centre, Normalise, Recipe, RecipeError, Resize, Size};
use crate::filter::Filter;

impl Recipe {
    /// The recipe of OpenCLIP's evaluation transform: `preprocess` is the `preprocess_cfg` of an `open_clip_config.json` (null stands for
    /// an empty one), `image_size` what its `model_cfg` gives for the vision tower.
    ///
    /// OpenCLIP resizes with Pillow, recipes as torchvision does. Of photographs 0.4 % of the grey levels differ, by one (Pillow 13); noise
    /// may differ by more where Pillow begins with the rows, since each pass cuts off what leaves the range.
    ///
    /// # Errors
    /// A field whose value cannot be followed: `resize_mode` other than `shortest` (of a square input) and `squash`.
    pub fn open_clip(preprocess: &Value, image_size: Size) -> Result<Self, RecipeError> {
        let get = |field: &str| preprocess.get(field).filter(|value| !value.is_null());
        let size = match get("size") {
            None => image_size,
            Some(value) => size(value).ok_or_else(|| RecipeError::field("size", value, "a number or [height, width] is needed"))?,
        };
        let filter = match get("interpolation").map(|value| value.as_str().unwrap_or("")) {
            None | Some("bicubic" | "random") => Filter::Bicubic,
            Some("bilinear") => Filter::Bilinear,
            Some(other) => return Err(RecipeError::field("interpolation", other, "bicubic and bilinear are known")),
        };
        let (resize, crop) = match get("resize_mode").map(|value| value.as_str().unwrap_or("")) {
            None | Some("shortest") if size.height == size.width => (Resize::ShortestEdge { edge: size.height, longest: None }, Some(size)),
            Some("squash") => (Resize::Squash(size), None),
            mode => {
                let expected = "shortest (with a square input) and squash are known";
                return Err(RecipeError::field("resize_mode", mode.unwrap_or("shortest"), expected));
            }
        };
        if let Some(mode) = get("mode").filter(|mode| mode.as_str() != Some("RGB")) {
            return Err(RecipeError::field("mode", mode, "RGB is known"));
        }
        let mean = get("mean").map_or(Ok(CLIP_MEAN), |value| channels("mean", value))?;
        let std = get("std").map_or(Ok(CLIP_STD), |value| channels("std", value))?;
        let recipe = Self {
            resize: Some(resize),
            filter,
            crop,
            centre: Centre::Even,
            rescale: Some(1.0 / 255.0),
            normalise: Some(Normalise { mean, std }),
        };
        recipe.validate()?;
        Ok(recipe)
    }
}

fn size(value: &Value) -> Option<Size> {
    let whole = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
    match value {
        Value::Array(sides) => match sides.as_slice() {
            [height, width] => Some(Size { height: whole(height)?, width: whole(width)? }),
            _ => None,
        },
        _ => whole(value).map(Size::square),
    }
}
