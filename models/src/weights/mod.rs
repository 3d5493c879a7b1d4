//! From a bundle's tensors to a module's parameters, and back.
//!
//! A parameter's name is its path in the module (`caption.layers.0.cross.q.weight`). How it is stored is its recipe:
//!
//! | recipe | stored |
//! |---|---|
//! | none | f32 or f16, as it is |
//! | `int8` | i8 of the same shape, a scale for each index of the first axis in `NAME.scale` (f32) |
//! | `int4` | u8 `[rows, columns / 2]`, a scale for 32 columns in `NAME.scale` (f16) |
//! | `int8.t`, `int4.t` | the same of the transposed matrix: a linear layer's `[in, out]` is stored with a row for each output |
//! | `int8.p`, `int4.p`, `int8.t.p`, `int4.t.p` | the same, in the order of [`ocelli_ops::pack`]; int8 has sums of rows in `NAME.sum` (i32) |
//! | `int8g.p`, `int8g.t.p` | eight bits with a scale for 32 columns in `NAME.scale` (f16), in that order |
//! | `f32.p`, `f32.t.p`, `f16.p`, `f16.t.p` | floats of the matrix, or the transposed one, in that order |
//!
//! Both directions walk the module itself, so there is one list of tensors: the definition.

mod recipe;
mod store;

use std::collections::BTreeSet;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Tensor, TensorData};
use half::f16;
use ocelli_bundle::{Bundle, BundleError, TensorView};
use ocelli_ops::pack::{PANEL, PackedGroups, PackedInt8, padded};
use ocelli_ops::quant::{GROUP, dequantize_int4, dequantize_int8, exact_rows, nibbles};
use ocelli_ops::{DepthwiseWeight, GroupBits, OwnedGroups, OwnedInt8, Packed};

pub use recipe::Recipe;
pub use store::{Part, encode, encode_groups, layout, store};

use crate::LoadError;
use crate::blocks::{Linears, Target};

/// Gives every parameter of `module` its value from the bundle, under `prefix` (or as it is named, where that is empty), as floats. What is missing or misshapen is named.
pub fn load<M: Module>(module: M, prefix: &str, bundle: &Bundle, device: &Device) -> Result<M, LoadError> {
    load_but(module, prefix, bundle, device, BTreeSet::new())
}

/// [`load`], for running: the weights of linear layers come packed, and those that the bundle has in the kernels' order are not copied.
pub fn open<M: Module + Linears>(mut module: M, prefix: &str, bundle: &Bundle, device: &Device) -> Result<M, LoadError> {
    let (mut taken, mut failed) = (BTreeSet::new(), None);
    module.linears(prefix, &mut |slot| {
        if failed.is_some() {
            return;
        }
        // Behind no prefix, a path begins with a dot.
        let name = slot.name.trim_start_matches('.');
        match fill(bundle, name, slot.shape, slot.target, device) {
            Ok(true) => drop(taken.insert(name.to_owned())),
            Ok(false) => {}
            Err(error) => failed = Some(error),
        }
    });
    match failed {
        None => load_but(module, prefix, bundle, device, taken),
        Some(error) => Err(error),
    }
}

fn load_but<M: Module>(module: M, prefix: &str, bundle: &Bundle, device: &Device, but: BTreeSet<String>) -> Result<M, LoadError> {
    let path = if prefix.is_empty() { Vec::new() } else { vec![prefix.to_owned()] };
    let mut loader = Loader { path, bundle, device, but, error: None };
    let module = module.map(&mut loader);
    match loader.error {
        None => Ok(module),
        Some(error) => Err(error),
    }
}

struct Loader<'a> {
    path: Vec<String>,
    bundle: &'a Bundle,
    device: &'a Device,
    /// Names of parameters that are left as they are.
    but: BTreeSet<String>,
    error: Option<LoadError>,
}

impl ModuleMapper for Loader<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.join(".");
        if self.error.is_some() || self.but.contains(&name) {
            return param;
        }
        let expected = param.lazy_shape().to_vec();
        match parameter(self.bundle, &name, &expected) {
            Ok((data, transposed)) => {
                let tensor = Tensor::<D>::from_data(data, self.device);
                Param::initialized(param.id, if transposed { tensor.swap_dims(0, 1) } else { tensor })
            }
            Err(error) => {
                self.error = Some(error);
                param
            }
        }
    }
}

fn misshapen(name: &str, reason: String) -> LoadError {
    LoadError::Misshapen { name: name.to_owned(), reason }
}

/// Tensor `name`, which a parameter of shape `expected` needs.
fn find<'a>(bundle: &'a Bundle, name: &str, expected: &[usize]) -> Result<TensorView<'a>, LoadError> {
    match bundle.tensor(name) {
        Ok(view) => Ok(view),
        Err(BundleError::MissingTensor { .. }) => Err(LoadError::Missing { name: name.to_owned(), expected: expected.to_vec() }),
        Err(error) => Err(error.into()),
    }
}

/// How the bundle stores tensor `name`.
fn recipe_of(bundle: &Bundle, name: &str) -> Result<Recipe, LoadError> {
    let stored = bundle.manifest().quantization.get(name).map(String::as_str);
    Recipe::parse(stored).ok_or_else(|| misshapen(name, format!("recipe {stored:?} is not known to this build")))
}

/// The shape in which a recipe stores a parameter of shape `expected`.
fn stored_shape(name: &str, recipe: Recipe, expected: &[usize]) -> Result<Vec<usize>, LoadError> {
    let mut shape = expected.to_vec();
    if recipe.transposed() {
        if shape.len() != 2 {
            return Err(misshapen(name, format!("a transposed recipe needs a matrix, the model has {expected:?}")));
        }
        shape.swap(0, 1);
    }
    if recipe.in_groups() {
        let columns: usize = shape.iter().skip(1).product();
        if columns == 0 || !columns.is_multiple_of(GROUP) {
            let recipe = recipe.short_name();
            return Err(misshapen(name, format!("{recipe} needs rows of a multiple of {GROUP} values, the model has {shape:?}")));
        }
        if matches!(recipe, Recipe::Int4 { .. }) {
            shape = vec![shape[0], columns / 2];
        }
    }
    let (rows, columns) = rows_and_columns(&shape, false);
    Ok(match recipe {
        Recipe::Int8Packed { .. } | Recipe::Int8GroupsPacked { .. } => vec![padded(rows) / PANEL, columns.div_ceil(4), PANEL, 4],
        Recipe::Int4Packed { .. } => vec![padded(rows) / PANEL, columns / GROUP, GROUP / 8, PANEL, 4],
        Recipe::F32Packed { .. } | Recipe::F16Packed { .. } => vec![padded(rows) / PANEL, columns, PANEL],
        _ => shape,
    })
}

/// Bits of a recipe in groups.
fn bits_of(recipe: Recipe) -> GroupBits {
    if matches!(recipe, Recipe::Int8GroupsPacked { .. }) { GroupBits::Int8 } else { GroupBits::Int4 }
}

/// Output and input channels of a parameter.
fn rows_and_columns(shape: &[usize], transposed: bool) -> (usize, usize) {
    let (rows, columns) = (shape.first().copied().unwrap_or_default(), shape.iter().skip(1).product());
    if transposed { (columns, rows) } else { (rows, columns) }
}

fn has_shape(view: &TensorView<'_>, name: &str, needs: &[usize]) -> Result<(), LoadError> {
    if view.shape == needs {
        return Ok(());
    }
    Err(misshapen(name, format!("its shape is {:?}, the model needs {needs:?}", view.shape)))
}

fn has_type(view: &TensorView<'_>, name: &str, recipe: Recipe, needs: &[DType]) -> Result<(), LoadError> {
    if needs.contains(&view.dtype) {
        return Ok(());
    }
    Err(misshapen(name, format!("its type is {:?}, which does not fit its recipe {:?}", view.dtype, recipe.name())))
}

/// The floats of tensor `name`, which must have the shape `expected`; whether they are of the transposed matrix.
fn read(bundle: &Bundle, name: &str, expected: &[usize]) -> Result<(Vec<f32>, bool), LoadError> {
    let view = find(bundle, name, expected)?;
    let recipe = recipe_of(bundle, name)?;
    has_shape(&view, name, &stored_shape(name, recipe, expected)?)?;
    let count: usize = expected.iter().product();
    let mut values = vec![0.0; count];
    match recipe {
        Recipe::F32 | Recipe::F16 => {
            has_type(&view, name, recipe, &[DType::F32, DType::F16])?;
            values = floats(&view, name)?;
        }
        Recipe::F32Packed { transposed } | Recipe::F16Packed { transposed } => {
            has_type(&view, name, recipe, &[recipe.float()])?;
            let (n, k) = rows_and_columns(expected, transposed);
            let stored = floats(&view, name)?;
            for (i, value) in values.iter_mut().enumerate() {
                *value = stored[(i / k / PANEL * k + i % k) * PANEL + i / k % PANEL];
            }
            debug_assert_eq!(values.len(), n * k);
        }
        Recipe::Int8 { transposed } => {
            has_type(&view, name, recipe, &[DType::I8])?;
            let rows = if transposed { expected[1] } else { expected[0] };
            dequantize_int8(&signed(view.bytes), &scales(bundle, name, rows)?, &mut values);
        }
        Recipe::Int4 { .. } => {
            has_type(&view, name, recipe, &[DType::U8])?;
            dequantize_int4(view.bytes, &halves(bundle, name, count / GROUP)?, &mut values);
        }
        Recipe::Int8Packed { transposed } => {
            has_type(&view, name, recipe, &[DType::I8])?;
            let (n, k) = rows_and_columns(expected, transposed);
            let (bytes, scales, sums) = (signed(view.bytes), scales(bundle, name, padded(n))?, vec![0; padded(n)]);
            let weight = PackedInt8::new(n, k, &bytes, &scales, &sums).map_err(|error| misshapen(name, error.to_string()))?;
            for (i, value) in values.iter_mut().enumerate() {
                *value = f32::from(weight.value(i / k, i % k)) * scales[i / k];
            }
        }
        Recipe::Int4Packed { transposed } | Recipe::Int8GroupsPacked { transposed } => {
            has_type(&view, name, recipe, &[DType::U8])?;
            let (n, k) = rows_and_columns(expected, transposed);
            let scales = halves(bundle, name, padded(n) * (k / GROUP))?;
            let weight =
                PackedGroups::new(n, k, bits_of(recipe), view.bytes, &scales).map_err(|error| misshapen(name, error.to_string()))?;
            for (i, value) in values.iter_mut().enumerate() {
                *value = f32::from(weight.value(i / k, i % k)) * weight.scale(i / k, i % k).to_f32();
            }
        }
    }
    Ok((values, recipe.transposed()))
}

/// The data of parameter `name`, of shape `expected`; whether it is that of the transposed matrix. What is stored as f32 is not copied.
fn parameter(bundle: &Bundle, name: &str, expected: &[usize]) -> Result<(TensorData, bool), LoadError> {
    let view = find(bundle, name, expected)?;
    if recipe_of(bundle, name)? == Recipe::F32 && view.dtype == DType::F32 && view.shape == expected && aligned(view.bytes) {
        return Ok((as_stored(&view), false));
    }
    let (values, transposed) = read(bundle, name, expected)?;
    let shape = if transposed { vec![expected[1], expected[0]] } else { expected.to_vec() };
    Ok((TensorData::new(values, shape), transposed))
}

/// Whether they can be read as floats where they are.
fn aligned(bytes: &[u8]) -> bool {
    bytes.as_ptr().addr().is_multiple_of(align_of::<f32>())
}

/// Puts a packed weight in its place; false where it is left to its parameter.
fn fill(bundle: &Bundle, name: &str, shape: &[usize], target: Target<'_>, device: &Device) -> Result<bool, LoadError> {
    let (rows, columns) = rows_and_columns(shape, false);
    let int8 = matches!(recipe_of(bundle, name)?, Recipe::Int8 { transposed: false } | Recipe::Int8Packed { transposed: false });
    let unfit = |error: ocelli_ops::PackedError| misshapen(name, error.to_string());
    match target {
        Target::Linear(place, _) => *place = Some(packed(bundle, name, shape, (columns, rows), true, device)?),
        Target::Rows(place) => *place = Some(packed(bundle, name, shape, (rows, columns), false, device)?),
        Target::Int8Rows(place) if int8 => *place = Some(packed(bundle, name, shape, (rows, columns), false, device)?),
        Target::ExactRows(place, greatest) => {
            let (mut values, _) = read(bundle, name, shape)?;
            exact_rows(&mut values, columns, greatest);
            *place = Some(Packed::from_floats(rows, columns, &values, device).map_err(unfit)?);
        }
        Target::Depthwise(place) if int8 && shape.len() == 4 => {
            let view = find(bundle, name, shape)?;
            let recipe = recipe_of(bundle, name)?;
            has_shape(&view, name, &stored_shape(name, recipe, shape)?)?;
            has_type(&view, name, recipe, &[DType::I8])?;
            let scales = scales(bundle, name, rows)?;
            *place = Some(DepthwiseWeight::pack(rows, shape[2], &signed(view.bytes), &scales, device).map_err(unfit)?);
        }
        Target::Int8Rows(_) | Target::Depthwise(_) => return Ok(false),
    }
    Ok(true)
}

/// A weight `[n, k]`: as it is where it is stored packed, else packed here. `transposed`: the parameter is `[k, n]`.
fn packed(
    bundle: &Bundle,
    name: &str,
    expected: &[usize],
    (n, k): (usize, usize),
    transposed: bool,
    device: &Device,
) -> Result<Packed, LoadError> {
    let view = find(bundle, name, expected)?;
    let recipe = recipe_of(bundle, name)?;
    has_shape(&view, name, &stored_shape(name, recipe, expected)?)?;
    let pack = |error: ocelli_ops::pack::PackError| misshapen(name, error.to_string());
    let part = |suffix: &str| -> Result<TensorData, LoadError> {
        let name = format!("{name}.{suffix}");
        Ok(as_stored(&find(bundle, &name, &[padded(n)])?))
    };
    match recipe {
        Recipe::F32Packed { transposed: turned } | Recipe::F16Packed { transposed: turned } if turned == transposed => {
            has_type(&view, name, recipe, &[recipe.float()])?;
            Packed::float(n, k, as_stored(&view), device)
        }
        Recipe::Int8Packed { transposed: turned } if turned == transposed => {
            Packed::int8(n, k, as_stored(&view), part("scale")?, part("sum")?, device)
        }
        Recipe::Int4Packed { transposed: turned } | Recipe::Int8GroupsPacked { transposed: turned } if turned == transposed => {
            Packed::groups(n, k, bits_of(recipe), as_stored(&view), part("scale")?, device)
        }
        Recipe::Int8 { transposed: turned } if turned == transposed => {
            has_type(&view, name, recipe, &[DType::I8])?;
            let weight = OwnedInt8::pack(n, k, &signed(view.bytes), &scales(bundle, name, n)?).map_err(pack)?;
            Packed::from_int8(weight, device)
        }
        Recipe::Int4 { transposed: turned } if turned == transposed => {
            has_type(&view, name, recipe, &[DType::U8])?;
            let scales = halves(bundle, name, n * k / GROUP)?;
            let weight = OwnedGroups::pack(n, k, GroupBits::Int4, &nibbles(view.bytes), &scales).map_err(pack)?;
            Packed::from_groups(weight, device)
        }
        _ => {
            let (values, turned) = read(bundle, name, expected)?;
            // `read` gives the matrix as it is stored; its rows are output channels where it is turned as often as the parameter.
            let by_output = turned == transposed;
            let rows = if by_output { values } else { (0..n * k).map(|i| values[i % k * n + i / k]).collect() };
            Packed::from_floats(n, k, &rows, device)
        }
    }
    .map_err(|error| misshapen(name, error.to_string()))
}

/// A tensor's bytes as they lie in the bundle.
fn as_stored(view: &TensorView<'_>) -> TensorData {
    TensorData::from_bytes(view.burn_bytes(), view.shape.to_vec(), view.dtype)
}

fn signed(bytes: &[u8]) -> Vec<i8> {
    bytes.iter().map(|&byte| byte as i8).collect()
}

fn halves(bundle: &Bundle, name: &str, count: usize) -> Result<Vec<f16>, LoadError> {
    Ok(scales(bundle, name, count)?.into_iter().map(f16::from_f32).collect())
}

/// `count` scales of tensor `name`.
fn scales(bundle: &Bundle, name: &str, count: usize) -> Result<Vec<f32>, LoadError> {
    let name = format!("{name}.scale");
    let view = match bundle.tensor(&name) {
        Ok(view) => view,
        Err(BundleError::MissingTensor { .. }) => return Err(LoadError::Missing { name, expected: vec![count] }),
        Err(error) => return Err(error.into()),
    };
    if view.elements() != count {
        return Err(LoadError::Misshapen { name, reason: format!("it has {} values, the model needs {count}", view.elements()) });
    }
    floats(&view, &name)
}

/// The values of a float tensor.
pub(crate) fn floats(view: &TensorView<'_>, name: &str) -> Result<Vec<f32>, LoadError> {
    match view.dtype {
        DType::F32 => Ok(view.bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()),
        DType::F16 => Ok(view.bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()),
        other => Err(LoadError::Misshapen { name: name.to_owned(), reason: format!("its type is {other:?}, not f32 or f16") }),
    }
}

/// How the bundle stores a parameter.
///
/// # Errors
/// Where this build does not know its recipe.
pub fn stored_as(bundle: &Bundle, name: &str) -> Result<Recipe, LoadError> {
    recipe_of(bundle, name)
}

/// The floats of a parameter of shape `expected`, whatever its recipe is: row by row, or those of the transposed matrix where `transposed`.
///
/// # Errors
/// Names it where it is missing or misshapen.
pub fn values(bundle: &Bundle, name: &str, expected: &[usize], transposed: bool) -> Result<Vec<f32>, LoadError> {
    let (values, turned) = read(bundle, name, expected)?;
    match *expected {
        [rows, columns] if turned != transposed => {
            // What was read has `inner` values a row, and the other way round is wanted.
            let (outer, inner) = if turned { (columns, rows) } else { (rows, columns) };
            Ok((0..values.len()).map(|at| values[at % outer * inner + at / outer]).collect())
        }
        _ => Ok(values),
    }
}

/// Whether the bundle has a parameter of this shape, in a form that this build reads.
///
/// # Errors
/// Names it where it is missing or misshapen.
pub fn check(bundle: &Bundle, name: &str, expected: &[usize]) -> Result<(), LoadError> {
    let view = find(bundle, name, expected)?;
    let recipe = recipe_of(bundle, name)?;
    has_shape(&view, name, &stored_shape(name, recipe, expected)?)
}

#[cfg(test)]
mod tests;
