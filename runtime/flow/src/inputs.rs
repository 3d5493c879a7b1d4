//! What a model's towers read: a picture made ready, before any network has seen it.

use std::borrow::Cow;

/// A picture as the tensors that a model's towers read, with the names that the reference processor gives them.
///
/// `ocelli preprocess` writes them, and `--pixels` reads them again.
#[derive(Debug, Clone, PartialEq)]
pub struct Inputs {
    /// Width of the source picture in pixels: boxes are in its pixels.
    pub width: u32,
    /// Height of the source picture in pixels.
    pub height: u32,
    /// The tensors.
    pub tensors: Vec<InputTensor>,
}

/// One tensor, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct InputTensor {
    /// `pixel_values`, `spatial_shapes`, …
    pub name: Cow<'static, str>,
    /// Its axes; the first is a batch of one.
    pub shape: Vec<usize>,
    /// As many as the shape says.
    pub values: InputValues,
}

/// The values of an [`InputTensor`].
#[derive(Debug, Clone, PartialEq)]
pub enum InputValues {
    /// Normalised pixels.
    F32(Vec<f32>),
    /// Masks and sizes.
    I64(Vec<i64>),
}

impl Inputs {
    /// A batch of one planar picture, `[1, channels, rows, columns]`, for a model that reads nothing else.
    pub fn pixels(width: u32, height: u32, shape: [usize; 4], values: Vec<f32>) -> Self {
        let tensor = InputTensor { name: "pixel_values".into(), shape: shape.to_vec(), values: InputValues::F32(values) };
        Self { width, height, tensors: vec![tensor] }
    }

    /// The tensor of a name.
    pub fn tensor(&self, name: &str) -> Option<&InputTensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// The values of `pixel_values`, if they have this shape; else what is there.
    ///
    /// # Errors
    /// A sentence that says what is there.
    pub fn into_pixels(self, shape: &[usize]) -> Result<Vec<f32>, String> {
        let found = self.tensors.into_iter().find(|tensor| tensor.name == "pixel_values");
        match found {
            None => Err(format!("there are no pixel_values; the model reads {shape:?}")),
            Some(InputTensor { shape: has, values: InputValues::F32(values), .. })
                if has == shape && values.len() == shape.iter().product::<usize>() =>
            {
                Ok(values)
            }
            Some(InputTensor { shape: has, values, .. }) => {
                let kind = if matches!(values, InputValues::F32(_)) { "" } else { ", integers" };
                Err(format!("pixel_values are {has:?}{kind}; the model reads {shape:?}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_of_another_shape_are_refused() {
        let inputs = Inputs::pixels(4, 4, [1, 3, 2, 2], vec![0.0; 12]);
        assert!(inputs.clone().into_pixels(&[1, 3, 2, 2]).is_ok());
        assert!(inputs.clone().into_pixels(&[1, 3, 4, 4]).unwrap_err().contains("[1, 3, 2, 2]"));
        assert!(Inputs { tensors: vec![], ..inputs }.into_pixels(&[1]).unwrap_err().contains("no pixel_values"));
    }
}
