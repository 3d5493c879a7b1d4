//! Tensors in a safetensors file: what a model's towers read, for `preprocess` and `--pixels`.
//!
//! Names and shapes are the reference processor's. The size of the source picture, in whose pixels boxes are, is in the file's metadata
//! (`width`, `height`), or in a tensor `target_sizes [1, 2]` of height and width; where neither is there, boxes are in pixels of the model's input.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use ocelli_flow::{InputTensor, InputValues, Inputs};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize_to_file};

/// Larger files are refused: 256 MiB, some hundred times what a model reads.
const MAX_FILE_BYTES: u64 = 256 << 20;
/// Tensors that say how large the source picture is, as (height, width).
const SIZES: [&str; 2] = ["target_sizes", "original_sizes"];

/// Reads a file.
pub fn read(path: &Path) -> Result<Inputs> {
    let place = path.display();
    let size = fs::metadata(path).with_context(|| format!("{place}: cannot read it"))?.len();
    ensure!(size <= MAX_FILE_BYTES, "{place}: the file has {} MiB, the limit is {} MiB", size >> 20, MAX_FILE_BYTES >> 20);
    let bytes = fs::read(path).with_context(|| format!("{place}: cannot read it"))?;
    parse(&bytes).with_context(|| format!("{place}: no tensors to look at; write them with `ocelli preprocess`"))
}

fn parse(bytes: &[u8]) -> Result<Inputs> {
    let file = SafeTensors::deserialize(bytes)?;
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    let mut tensors = Vec::new();
    let mut size = None;
    for (name, view) in file.tensors() {
        let tensor = tensor(&name, &view)?;
        if SIZES.contains(&name.as_str()) {
            size = Some(source_size(&tensor)?);
        } else {
            tensors.push(tensor);
        }
    }
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let noted = header.metadata().as_ref().and_then(|notes| {
        let side = |name: &str| notes.get(name)?.parse::<u32>().ok().filter(|&side| side > 0);
        Some((side("width")?, side("height")?))
    });
    let (width, height) = size.or(noted).unwrap_or_else(|| input_size(&tensors));
    Ok(Inputs { width, height, tensors })
}

fn tensor(name: &str, view: &TensorView<'_>) -> Result<InputTensor> {
    let data = view.data();
    let values = match view.dtype() {
        Dtype::F32 => InputValues::F32(data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()),
        Dtype::F64 => InputValues::F32(data.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes) as f32).collect()),
        Dtype::I64 => InputValues::I64(data.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()),
        Dtype::I32 => InputValues::I64(data.as_chunks().0.iter().map(|bytes| i64::from(i32::from_le_bytes(*bytes))).collect()),
        Dtype::BOOL | Dtype::U8 => InputValues::I64(data.iter().map(|&byte| i64::from(byte)).collect()),
        other => bail!("tensor {name} is of type {other:?}; pixels are f32 and sizes i64"),
    };
    if let InputValues::F32(values) = &values {
        ensure!(values.iter().all(|value| value.is_finite()), "tensor {name} has values that are no numbers");
    }
    Ok(InputTensor { name: name.to_owned().into(), shape: view.shape().to_vec(), values })
}

/// Width and height.
fn source_size(tensor: &InputTensor) -> Result<(u32, u32)> {
    let numbers: Vec<i64> = match &tensor.values {
        InputValues::I64(values) => values.clone(),
        InputValues::F32(values) => values.iter().map(|&value| value as i64).collect(),
    };
    let side = |number: i64| u32::try_from(number).ok().filter(|&side| side > 0);
    match numbers[..] {
        [height, width] => side(width).zip(side(height)),
        _ => None,
    }
    .with_context(|| format!("tensor {} is {numbers:?}, not a height and a width", tensor.name))
}

/// Columns and rows of the pixels, where nothing says more.
fn input_size(tensors: &[InputTensor]) -> (u32, u32) {
    let shape = tensors.iter().find(|tensor| tensor.name == "pixel_values").map(|tensor| &tensor.shape[..]);
    match shape {
        Some(&[_, _, rows, columns]) => (u32::try_from(columns).unwrap_or(1).max(1), u32::try_from(rows).unwrap_or(1).max(1)),
        _ => (1, 1),
    }
}

/// Writes a file.
pub fn write(inputs: &Inputs, image: &str, path: &Path) -> Result<()> {
    let bytes: Vec<Vec<u8>> = inputs.tensors.iter().map(|tensor| little_endian(&tensor.values)).collect();
    let mut views = Vec::with_capacity(bytes.len());
    for (tensor, bytes) in inputs.tensors.iter().zip(&bytes) {
        let dtype = if matches!(tensor.values, InputValues::F32(_)) { Dtype::F32 } else { Dtype::I64 };
        views.push((tensor.name.as_ref(), TensorView::new(dtype, tensor.shape.clone(), bytes)?));
    }
    let notes: HashMap<String, String> =
        [("width", inputs.width.to_string()), ("height", inputs.height.to_string()), ("image", image.to_owned())]
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
    serialize_to_file(views, Some(notes), path).with_context(|| format!("{}: cannot write the tensors", path.display()))
}

fn little_endian(values: &InputValues) -> Vec<u8> {
    match values {
        InputValues::F32(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        InputValues::I64(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let mut inputs = Inputs::pixels(640, 480, [1, 3, 2, 2], (0..12).map(|i| i as f32 / 7.0).collect());
        inputs.tensors.push(InputTensor { name: "spatial_shapes".into(), shape: vec![1, 2], values: InputValues::I64(vec![2, 1]) });
        write(&inputs, "a.jpg", &path).unwrap();
        assert_eq!(read(&path).unwrap(), inputs);
    }

    #[test]
    fn the_source_has_the_size_that_a_tensor_says() {
        let pixels = vec![0u8; 3 * 4 * 6 * 4];
        let sizes: Vec<u8> = [480i64, 640].iter().flat_map(|side| side.to_le_bytes()).collect();
        let view = |dtype, shape: &[usize], bytes| TensorView::new(dtype, shape.to_vec(), bytes).unwrap();
        let pixels = view(Dtype::F32, &[1, 3, 4, 6], &pixels);
        let only = safetensors::serialize([("pixel_values", pixels.clone())], None).unwrap();
        let inputs = parse(&only).unwrap();
        assert_eq!((inputs.width, inputs.height), (6, 4));
        let sized = [("pixel_values", pixels), ("target_sizes", view(Dtype::I64, &[1, 2], &sizes))];
        let inputs = parse(&safetensors::serialize(sized, None).unwrap()).unwrap();
        assert_eq!((inputs.width, inputs.height, inputs.tensors.len()), (640, 480, 1));
    }

    #[test]
    fn what_is_no_file_of_tensors_is_refused() {
        assert!(parse(b"").is_err());
        assert!(parse(&[0xff; 64]).is_err());
        let nan = f32::NAN.to_le_bytes();
        let view = TensorView::new(Dtype::F32, vec![1], &nan).unwrap();
        let error = parse(&safetensors::serialize([("pixel_values", view)], None).unwrap()).unwrap_err();
        assert!(error.to_string().contains("pixel_values"), "{error}");
    }
}
