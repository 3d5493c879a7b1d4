//! Writing parameters: from a module's tensors, or from a checkpoint's rows.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Tensor};
use half::f16;
use ocelli_bundle::{BundleError, BundleWriter};
use ocelli_ops::pack::{PANEL, PackError, pack_float, padded};
use ocelli_ops::quant::{GROUP, nibbles, quantize_int4, quantize_int8, quantize_int8_groups};
use ocelli_ops::{GroupBits, OwnedGroups, OwnedInt8};

use super::{Recipe, rows_and_columns};

/// Writes every parameter of `module` under `prefix`, each by the recipe that `choose` gives for its name and shape.
pub fn store<M: Module>(
    module: &M,
    prefix: &str,
    writer: &mut BundleWriter,
    choose: &dyn Fn(&str, &[usize]) -> Recipe,
) -> Result<(), BundleError> {
    let mut storer = Storer { path: vec![prefix.to_owned()], writer, choose, error: None };
    module.visit(&mut storer);
    storer.error.map_or(Ok(()), Err)
}

struct Storer<'a> {
    path: Vec<String>,
    writer: &'a mut BundleWriter,
    choose: &'a dyn Fn(&str, &[usize]) -> Recipe,
    error: Option<BundleError>,
}

impl ModuleVisitor for Storer<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.error.is_none() {
            let name = self.path.join(".");
            let recipe = (self.choose)(&name, &param.lazy_shape());
            self.error = write(self.writer, &name, param.val(), recipe).err();
        }
    }
}

fn write<const D: usize>(writer: &mut BundleWriter, name: &str, tensor: Tensor<D>, recipe: Recipe) -> Result<(), BundleError> {
    let tensor = if recipe.transposed() { tensor.swap_dims(0, 1) } else { tensor };
    let shape = tensor.dims();
    let values: Vec<f32> = tensor.into_data().iter::<f32>().collect();
    let rejected = |error: PackError| BundleError::Rejected { entry: name.to_owned(), reason: error.to_string() };
    for part in encode(name, &shape, &values, recipe).map_err(rejected)? {
        writer.tensor(&part.name, part.dtype, &part.shape, part.bytes)?;
    }
    if let Some(recipe) = recipe.name() {
        writer.manifest_mut().quantization.insert(name.to_owned(), recipe.to_owned());
    }
    Ok(())
}

/// A tensor of a bundle: a parameter, its scales, or its sums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its name in the bundle.
    pub name: String,
    /// Its type there.
    pub dtype: DType,
    /// Its shape there.
    pub shape: Vec<usize>,
    /// Its values, little-endian; empty in a [`layout`].
    pub bytes: Vec<u8>,
}

/// The tensors that hold a parameter, without their values. `shape` is that of the matrix that is stored: the transposed one where the
/// recipe says so.
pub fn layout(name: &str, shape: &[usize], recipe: Recipe) -> Vec<Part> {
    let (rows, columns) = rows_and_columns(shape, false);
    let part = |suffix: &str, dtype, shape: Vec<usize>| Part { name: format!("{name}{suffix}"), dtype, shape, bytes: Vec::new() };
    let main = |dtype, shape: Vec<usize>| part("", dtype, shape);
    match recipe {
        Recipe::F32 => vec![main(DType::F32, shape.to_vec())],
        Recipe::F16 => vec![main(DType::F16, shape.to_vec())],
        Recipe::F32Packed { .. } | Recipe::F16Packed { .. } => vec![main(recipe.float(), vec![padded(rows) / PANEL, columns, PANEL])],
        Recipe::Int8 { .. } => vec![main(DType::I8, shape.to_vec()), part(".scale", DType::F32, vec![rows])],
        Recipe::Int4 { .. } => {
            vec![main(DType::U8, vec![rows, columns / 2]), part(".scale", DType::F16, vec![rows, columns / GROUP])]
        }
        Recipe::Int8Packed { .. } => vec![
            main(DType::I8, vec![padded(rows) / PANEL, columns.div_ceil(4), PANEL, 4]),
            part(".scale", DType::F32, vec![padded(rows)]),
            part(".sum", DType::I32, vec![padded(rows)]),
        ],
        Recipe::Int8GroupsPacked { .. } => vec![
            main(DType::U8, vec![padded(rows) / PANEL, columns / 4, PANEL, 4]),
            part(".scale", DType::F16, vec![padded(rows) / PANEL, columns / GROUP, PANEL]),
        ],
        Recipe::Int4Packed { .. } => vec![
            main(DType::U8, vec![padded(rows) / PANEL, columns / GROUP, GROUP / 8, PANEL, 4]),
            part(".scale", DType::F16, vec![padded(rows) / PANEL, columns / GROUP, PANEL]),
        ],
    }
}

/// The tensors that hold a parameter: [`layout`] with values.
///
/// # Errors
/// Where the values do not fill the shape, or rows of int4 or int8g are no multiple of their groups.
pub fn encode(name: &str, shape: &[usize], values: &[f32], recipe: Recipe) -> Result<Vec<Part>, PackError> {
    let (rows, columns) = rows_and_columns(shape, false);
    let halves = |values: &[f32]| values.iter().map(|&x| f16::from_f32(x)).collect::<Vec<_>>();
    let bytes = match recipe {
        Recipe::F32 => vec![f32_bytes(values)],
        Recipe::F16 => vec![f16_bytes(&halves(values))],
        Recipe::F32Packed { .. } => vec![f32_bytes(&pack_float(rows, columns, values)?)],
        Recipe::F16Packed { .. } => vec![f16_bytes(&pack_float(rows, columns, &halves(values))?)],
        Recipe::Int8 { .. } => {
            let q = quantize_int8(values, columns);
            vec![i8_bytes(&q.values), f32_bytes(&q.scales)]
        }
        Recipe::Int4 { .. } => {
            let q = quantize_int4(values);
            vec![q.values, f16_bytes(&q.scales)]
        }
        Recipe::Int8Packed { .. } => {
            let q = quantize_int8(values, columns);
            let packed = OwnedInt8::pack(rows, columns, &q.values, &q.scales)?;
            let sums = packed.sums.iter().flat_map(|sum| sum.to_le_bytes()).collect();
            vec![i8_bytes(&packed.values), f32_bytes(&packed.scales), sums]
        }
        Recipe::Int8GroupsPacked { .. } => {
            let (values, scales) = quantize_int8_groups(values);
            return encode_groups(name, shape, &values, &scales, GroupBits::Int8);
        }
        Recipe::Int4Packed { .. } => {
            let q = quantize_int4(values);
            return encode_groups(name, shape, &nibbles(&q.values), &q.scales, GroupBits::Int4);
        }
    };
    Ok(filled(layout(name, shape, recipe), bytes))
}

/// The tensors that hold a parameter of which there are integers already, with a scale for 32 columns of a row: `values` `[rows][columns]`, −8…7
/// or −127…127 (what is beyond is clamped), and `scales` `[rows][columns / 32]`. `shape` as in [`layout`].
///
/// They are of the recipe [`Recipe::groups`], whose name the manifest needs.
///
/// # Errors
/// Where values or scales do not fill the shape, or rows are no multiple of the groups.
pub fn encode_groups(name: &str, shape: &[usize], values: &[i8], scales: &[f16], bits: GroupBits) -> Result<Vec<Part>, PackError> {
    let (rows, columns) = rows_and_columns(shape, false);
    let packed = OwnedGroups::pack(rows, columns, bits, values, scales)?;
    Ok(filled(layout(name, shape, Recipe::groups(bits, false)), vec![packed.values, f16_bytes(&packed.scales)]))
}

fn filled(layout: Vec<Part>, bytes: Vec<Vec<u8>>) -> Vec<Part> {
    layout.into_iter().zip(bytes).map(|(part, bytes)| Part { bytes, ..part }).collect()
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn f16_bytes(values: &[f16]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn i8_bytes(values: &[i8]) -> Vec<u8> {
    values.iter().map(|value| value.cast_unsigned()).collect()
}
