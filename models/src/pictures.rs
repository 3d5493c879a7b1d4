//! Pictures for a tower: the bundle's preprocessing recipe, and tensors that were made ready elsewhere.

use std::cell::RefCell;

use burn::tensor::{Device, Tensor, TensorData};
use ocelli_bundle::Bundle;
use ocelli_flow::{Frame, InputTensor, InputValues, Inputs, ModelError};

use crate::LoadError;
use crate::blocks::VisionConfig;

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

/// A bundle's image processor.
pub struct Pictures {
    processor: RefCell<()>,
}

impl Pictures {
    /// That of a bundle, which must make what the tower reads.
    pub fn of_bundle(_bundle: &Bundle, _config: &VisionConfig) -> Result<Self, LoadError> {
        Ok(Self { processor: RefCell::new(()) })
    }

    /// The tensors of a picture.
    pub fn prepare(&self, _frame: &Frame) -> Result<Inputs, ModelError> {
        self.processor.borrow_mut();
        Err(ModelError::Unsupported { what: "pre" })
    }
}
