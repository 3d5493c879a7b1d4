//! How pictures are made ready, as the bundle keeps it.

use ocelli_models::plan::{Format, OPEN_CLIP};
use ocelli_preprocess::{Recipe, Size};
use serde_json::{Value, json};

use crate::ImportError;
use crate::source::Source;

/// Where transformers keeps it, the preferred first.
const FILES: [&str; 2] = ["preprocessor_config.json", "processor_config.json"];

/// The description of a checkpoint's image processor, and the file that it is in.
///
/// # Errors
/// Where a file cannot be read.
pub fn processor(source: &Source) -> Result<Option<(&'static str, Value)>, ImportError> {
    for name in FILES {
        let Some(config) = source.json(name)? else { continue };
        if name == FILES[0] || config.get("image_processor").is_some_and(Value::is_object) {
            return Ok(Some((name, config)));
        }
    }
    Ok(None)
}

/// The recipe of a checkpoint, for the manifest.
///
/// # Errors
/// Where there is none, or it cannot be followed.
pub fn recipe(source: &Source) -> Result<Value, ImportError> {
    let path = |name: &str| source.folder.join(name);
    if source.format == Format::OpenClip {
        let side = &source.config["model_cfg"]["vision_cfg"]["image_size"];
        let sides = |value: &Value| value.as_u64().and_then(|side| u32::try_from(side).ok());
        let size = match (sides(side), sides(&side[0]), sides(&side[1])) {
            (Some(side), ..) => Size::square(side),
            (None, Some(height), Some(width)) => Size { height, width },
            _ => Size::square(224),
        };
        let recipe = Recipe::open_clip(&source.config["preprocess_cfg"], size);
        return recipe
            .map(|recipe| json!(recipe))
            .map_err(|error| ImportError::Pictures { path: source.config_file.clone(), source: error });
    }
    if let Some((name, config)) = processor(source)? {
        let recipe = Recipe::from_processor(&config);
        return recipe.map(|recipe| json!(recipe)).map_err(|error| ImportError::Pictures { path: path(name), source: error });
    }
    let class = source.config["architectures"][0].as_str().unwrap_or(OPEN_CLIP);
    Err(ImportError::absent(&path(FILES[0]), format!("missing, and {class} reads pictures by it; download it, too")))
}
