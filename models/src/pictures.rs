//! Pictures for a tower: the bundle's preprocessing recipe, and tensors that were made ready elsewhere.

use std::cell::RefCell;

use burn::tensor::{Device, Tensor, TensorData};
use ocelli_bundle::Bundle;
use ocelli_flow::{Frame, InputTensor, InputValues, Inputs, ModelError};
use ocelli_preprocess::{Geometry, PrepareError, Processor, Recipe, Resize};

use crate::LoadError;
use crate::blocks::VisionConfig;

/// A bundle's image processor.
#[derive(Debug)]
pub struct Pictures {
    processor: RefCell<Processor>,
}

impl Pictures {
    /// That of a bundle, which must make what the tower reads.
    pub fn of_bundle(bundle: &Bundle, config: &VisionConfig) -> Result<Self, LoadError> {
        Self::new(&bundle.manifest().preprocessing, config).map_err(|reason| LoadError::Preprocessing { reason })
    }

    /// That of a bundle, which must make whole pictures of `side` x `side` pixels.
    pub fn of_square(bundle: &Bundle, side: usize) -> Result<Self, LoadError> {
        // Of a tower's shape only this much is looked at.
        let config = VisionConfig { side, flexible: false, ..VisionConfig::clip_base(1) };
        Self::of_bundle(bundle, &config)
    }

    fn new(recipe: &serde_json::Value, config: &VisionConfig) -> Result<Self, String> {
        let recipe: Recipe = serde_json::from_value(recipe.clone()).map_err(|error| error.to_string())?;
        if let Some(Resize::Patches { patch, .. }) = recipe.resize {
            if !config.flexible || patch as usize != config.patch {
                return Err(format!("it makes patches of {patch} pixels, and the model reads {}", reads(config)));
            }
        } else if config.flexible {
            return Err(format!("it makes whole pictures, and the model reads {}", reads(config)));
        }
        let processor = Processor::new(recipe).map_err(|error| error.to_string())?;
        match processor.input_size() {
            Some((height, width)) if !config.flexible && (height as usize, width as usize) != (config.side, config.side) => {
                Err(format!("it makes {height} x {width} pixels, and the model reads {}", reads(config)))
            }
            _ => Ok(Self { processor: RefCell::new(processor) }),
        }
    }

    /// Where the input made from a picture of this size lies in the picture.
    ///
    /// # Errors
    /// Where the recipe cannot make one of it.
    pub fn geometry(&self, width: u32, height: u32) -> Result<Geometry, ModelError> {
        self.processor.borrow().recipe().geometry(width, height).map_err(refused)
    }

    /// The tensors of a picture.
    pub fn prepare(&self, frame: &Frame) -> Result<Inputs, ModelError> {
        let prepared = self.processor.borrow_mut().prepare(frame).map_err(refused)?;
        let (width, height) = (frame.width(), frame.height());
        let Some(patches) = prepared.patches else {
            return Ok(Inputs::pixels(width, height, [1, 3, prepared.height as usize, prepared.width as usize], prepared.values));
        };
        let pixels = match self.processor.borrow().recipe().resize {
            Some(Resize::Patches { patch, .. }) => 3 * (patch as usize).pow(2),
            _ => 1,
        };
        let most = prepared.values.len() / pixels;
        let mask = (0..most).map(|i| i64::from(i < patches.used())).collect();
        let tensor = |name: &'static str, shape: &[usize], values| InputTensor { name: name.into(), shape: shape.to_vec(), values };
        let tensors = vec![
            tensor("pixel_attention_mask", &[1, most], InputValues::I64(mask)),
            tensor("pixel_values", &[1, most, pixels], InputValues::F32(prepared.values)),
            tensor("spatial_shapes", &[1, 2], InputValues::I64(vec![patches.rows.into(), patches.columns.into()])),
        ];
        Ok(Inputs { width, height, tensors })
    }
}

fn refused(error: PrepareError) -> ModelError {
    ModelError::Compute { stage: "preprocess", reason: error.to_string() }
}

/// What a tower reads, in words.
fn reads(config: &VisionConfig) -> String {
    if config.flexible { format!("patches of {} pixels", config.patch) } else { format!("{0} x {0} pixels", config.side) }
}

/// The picture of `inputs`, `[1, 3, side, side]`.
///
/// # Errors
/// Where its shape is another.
pub fn read_picture(inputs: Inputs, side: usize, device: &Device) -> Result<Tensor<4>, ModelError> {
    let shape = [1, 3, side, side];
    let pixels = inputs.into_pixels(&shape).map_err(|reason| ModelError::Inputs { reason })?;
    Ok(Tensor::from_data(TensorData::new(pixels, shape), device))
}

/// The patches of `inputs` that are no padding, `[rows · columns, patch² · 3]`, and how many rows and columns there are: of tensors
/// `pixel_values [1, patches, patch² · 3]` and `spatial_shapes [1, 2]`.
///
/// # Errors
/// Where their shapes are others or do not fit each other.
pub fn read_patches(inputs: Inputs, config: &VisionConfig) -> Result<(Vec<f32>, [usize; 2]), ModelError> {
    let wrong = |reason: String| ModelError::Inputs { reason };
    let sizes = match inputs.tensor("spatial_shapes").map(|tensor| (&tensor.shape[..], &tensor.values)) {
        Some((_, InputValues::I64(sizes))) if sizes.len() == 2 => [sizes[0], sizes[1]],
        _ => return Err(wrong("there are no spatial_shapes of two integers, the rows and columns of patches".into())),
    };
    let [rows, columns] = sizes.map(|size| usize::try_from(size).unwrap_or(0));
    let used = rows.checked_mul(columns).filter(|&used| used > 0);
    let pixels = 3 * config.patch * config.patch;
    let has = inputs.tensor("pixel_values").map(|tensor| tensor.shape.clone()).unwrap_or_default();
    match (has.as_slice(), used) {
        (&[1, patches, width], Some(used)) if width == pixels && used <= patches => {
            let mut values = inputs.into_pixels(&has).map_err(wrong)?;
            values.truncate(used * pixels);
            Ok((values, [rows, columns]))
        }
        _ => Err(wrong(format!("pixel_values are {has:?} for {rows} x {columns} patches; the model reads [1, patches, {pixels}]"))),
    }
}
