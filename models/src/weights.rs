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
//!
//! Both directions walk the module itself, so there is one list of tensors: the definition.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, Device, Tensor, TensorData};
use half::f16;
use ocelli_bundle::{Bundle, BundleError, BundleWriter, TensorView};
use ocelli_ops::quant::{GROUP, dequantize_int4, dequantize_int8, quantize_int4, quantize_int8};

use crate::LoadError;

/// How a parameter is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recipe {
    /// f32.
    F32,
    /// f16.
    F16,
    /// One scale a row.
    Int8 {
        /// Of the transposed matrix.
        transposed: bool,
    },
    /// One scale for 32 columns of a row.
    Int4 {
        /// Of the transposed matrix.
        transposed: bool,
    },
}

impl Recipe {
    fn parse(name: Option<&str>) -> Option<Self> {
        Some(match name {
            None => Self::F32,
            Some("f16") => Self::F16,
            Some("int8") => Self::Int8 { transposed: false },
            Some("int8.t") => Self::Int8 { transposed: true },
            Some("int4") => Self::Int4 { transposed: false },
            Some("int4.t") => Self::Int4 { transposed: true },
            Some(_) => return None,
        })
    }

    fn name(self) -> Option<&'static str> {
        match self {
            Self::F32 => None,
            Self::F16 => Some("f16"),
            Self::Int8 { transposed: false } => Some("int8"),
            Self::Int8 { transposed: true } => Some("int8.t"),
            Self::Int4 { transposed: false } => Some("int4"),
            Self::Int4 { transposed: true } => Some("int4.t"),
        }
    }

    fn transposed(self) -> bool {
        matches!(self, Self::Int8 { transposed: true } | Self::Int4 { transposed: true })
    }
}

/// Gives every parameter of `module` its value from the bundle, under `prefix`. What is missing or misshapen is named.
pub fn load<M: Module>(module: M, prefix: &str, bundle: &Bundle, device: &Device) -> Result<M, LoadError> {
    let mut loader = Loader { path: vec![prefix.to_owned()], bundle, device, error: None };
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
        if self.error.is_some() {
            return param;
        }
        let expected = param.lazy_shape().to_vec();
        match read(self.bundle, &self.path.join("."), &expected) {
            Ok((values, transposed)) => {
                let tensor = if transposed {
                    let data = TensorData::new(values, [expected[1], expected[0]]);
                    Tensor::<D>::from_data(data, self.device).swap_dims(0, 1)
                } else {
                    Tensor::<D>::from_data(TensorData::new(values, expected), self.device)
                };
                Param::initialized(param.id, tensor)
            }
            Err(error) => {
                self.error = Some(error);
                param
            }
        }
    }
}

/// The floats of tensor `name`, which must have the shape `expected`; whether they are of the transposed matrix.
fn read(bundle: &Bundle, name: &str, expected: &[usize]) -> Result<(Vec<f32>, bool), LoadError> {
    let view = match bundle.tensor(name) {
        Ok(view) => view,
        Err(BundleError::MissingTensor { .. }) => {
            return Err(LoadError::Missing { name: name.to_owned(), expected: expected.to_vec() });
        }
        Err(error) => return Err(error.into()),
    };
    let misshapen = |reason: String| LoadError::Misshapen { name: name.to_owned(), reason };
    let stored = bundle.manifest().quantization.get(name).map(String::as_str);
    let recipe = Recipe::parse(stored).ok_or_else(|| misshapen(format!("recipe {stored:?} is not known to this build")))?;
    let mut wanted = expected.to_vec();
    if recipe.transposed() {
        if wanted.len() != 2 {
            return Err(misshapen(format!("a transposed recipe needs a matrix, the model has {expected:?}")));
        }
        wanted.swap(0, 1);
    }
    if matches!(recipe, Recipe::Int4 { .. }) {
        let columns: usize = wanted.iter().skip(1).product();
        if columns == 0 || !columns.is_multiple_of(GROUP) {
            return Err(misshapen(format!("int4 needs rows of a multiple of {GROUP} values, the model has {wanted:?}")));
        }
        wanted = vec![wanted[0], columns / 2];
    }
    if view.shape != wanted {
        return Err(misshapen(format!("its shape is {:?}, the model needs {wanted:?}", view.shape)));
    }
    let count: usize = expected.iter().product();
    let mut values = vec![0.0; count];
    match (recipe, view.dtype) {
        (Recipe::F32 | Recipe::F16, DType::F32 | DType::F16) => values = floats(&view, name)?,
        (Recipe::Int8 { .. }, DType::I8) => {
            let scales = scales(bundle, name, wanted[0])?;
            let integers: Vec<i8> = view.bytes.iter().map(|&byte| byte as i8).collect();
            dequantize_int8(&integers, &scales, &mut values);
        }
        (Recipe::Int4 { .. }, DType::U8) => {
            let scales: Vec<f16> = scales(bundle, name, count / GROUP)?.into_iter().map(f16::from_f32).collect();
            dequantize_int4(view.bytes, &scales, &mut values);
        }
        (_, dtype) => return Err(misshapen(format!("its type is {dtype:?}, which does not fit its recipe {stored:?}"))),
    }
    Ok((values, recipe.transposed()))
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
    let rows = shape[0].max(1);
    let scale = format!("{name}.scale");
    match recipe {
        Recipe::F32 => writer.f32(name, &shape, &values)?,
        Recipe::F16 => writer.f16(name, &shape, &values.iter().map(|&x| f16::from_f32(x)).collect::<Vec<_>>())?,
        Recipe::Int8 { .. } => {
            let q = quantize_int8(&values, values.len() / rows);
            writer.i8(name, &shape, &q.values)?;
            writer.f32(&scale, &[rows], &q.scales)?;
        }
        Recipe::Int4 { .. } => {
            let q = quantize_int4(&values);
            writer.u8(name, &[rows, values.len() / rows / 2], q.values)?;
            writer.f16(&scale, &[rows, values.len() / rows / GROUP], &q.scales)?;
        }
    }
    if let Some(recipe) = recipe.name() {
        writer.manifest_mut().quantization.insert(name.to_owned(), recipe.to_owned());
    }
    Ok(())
}
