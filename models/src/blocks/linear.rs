//! Linear layers: floats while training, packed for running.

use burn::module::{Module, Param};
use burn::nn::{Initializer, LinearConfig};
use burn::tensor::activation::{gelu, relu};
use burn::tensor::{Device, Tensor, module};
use ocelli_ops::{Activation, After, Before, DepthwiseWeight, Packed, Window, convolution};

use super::LayerNorm;

/// y = x W + b.
///
/// While it is trained its weight is a parameter. A bundle's packed weight ([`crate::weights::open`]) takes the parameter's place: then the
/// parameter stays uninitialised, and no float copy of the weight exists.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[in, out]`; uninitialised where the weight is packed.
    pub weight: Param<Tensor<2>>,
    /// `[out]`
    pub bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    packed: Option<Packed>,
}

impl Linear {
    /// From `input` to `output` channels, with random weights and a bias.
    pub fn init(input: usize, output: usize, device: &Device) -> Self {
        Self::from(LinearConfig::new(input, output).init(device))
    }

    /// [`Linear::init`] with weights and bias from `initializer`.
    pub fn init_with(input: usize, output: usize, initializer: Initializer, device: &Device) -> Self {
        Self::from(LinearConfig::new(input, output).with_initializer(initializer).init(device))
    }

    /// A layer that has only a packed weight, and its bias.
    pub fn packed(weight: Packed, bias: Option<Tensor<1>>, device: &Device) -> Self {
        let (n, k) = (weight.n(), weight.k());
        let layer = Self::from(LinearConfig::new(k, n).with_bias(false).init(device));
        Self { bias: bias.map(Param::from_tensor), packed: Some(weight), ..layer }
    }

    /// `[in, out]`
    pub fn shape(&self) -> [usize; 2] {
        let shape = self.weight.lazy_shape();
        [shape[0], shape[1]]
    }

    /// Whether the weight is of integers.
    pub fn is_quantized(&self) -> bool {
        self.packed.as_ref().is_some_and(|packed| packed.kind().starts_with("int"))
    }

    /// Whether the weight is packed.
    pub fn is_packed(&self) -> bool {
        self.packed.is_some()
    }

    /// `[..., in]` → `[..., out]`
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.apply(x, Before::Nothing, Activation::None, None)
    }

    /// The layer over windows of pictures: `[batch, C, H, W]` → `[batch, windows, out]`, where `in` is C · k · k. `None` where the weight is
    /// not packed.
    pub fn windows(&self, pictures: &Tensor<4>, window: Window) -> Option<Tensor<3>> {
        let weight = self.packed.as_ref()?;
        Some(convolution(pictures.clone(), window, weight, self.bias.as_ref().map(Param::val), Activation::None))
    }

    /// [`Linear::forward`] after a layer norm of the input.
    pub fn normed<const D: usize>(&self, norm: &LayerNorm, x: Tensor<D>) -> Tensor<D> {
        self.normed_then(norm, x, Activation::None)
    }

    /// activation([`Linear::normed`])
    pub fn normed_then<const D: usize>(&self, norm: &LayerNorm, x: Tensor<D>, activation: Activation) -> Tensor<D> {
        if self.is_packed() {
            self.apply(x, norm.before(), activation, None)
        } else {
            self.apply(norm.forward(x), Before::Nothing, activation, None)
        }
    }

    /// activation(x W + b)
    pub fn then<const D: usize>(&self, x: Tensor<D>, activation: Activation) -> Tensor<D> {
        self.apply(x, Before::Nothing, activation, None)
    }

    /// x W + b + residual
    pub fn plus<const D: usize>(&self, x: Tensor<D>, residual: Tensor<D>) -> Tensor<D> {
        self.apply(x, Before::Nothing, Activation::None, Some(residual))
    }

    /// activation(before(x) W + b) + residual; a float weight takes no `before`.
    pub fn apply<const D: usize>(&self, x: Tensor<D>, before: Before, activation: Activation, residual: Option<Tensor<D>>) -> Tensor<D> {
        let bias = self.bias.as_ref().map(Param::val);
        if let Some(weight) = &self.packed {
            return ocelli_ops::linear(x, before, weight, After { bias, activation, residual });
        }
        debug_assert!(matches!(before, Before::Nothing), "a float weight takes activations as they are");
        let y = activate(module::linear(x, self.weight.val(), bias), activation);
        match residual {
            Some(residual) => y + residual,
            None => y,
        }
    }
}

fn activate<const D: usize>(x: Tensor<D>, activation: Activation) -> Tensor<D> {
    let gate = |x: Tensor<D>, z: Tensor<D>| x * burn::tensor::activation::sigmoid(z);
    match activation {
        Activation::None => x,
        Activation::Relu => relu(x),
        Activation::Relu6 => x.clamp(0.0, 6.0),
        Activation::Gelu => gelu(x),
        Activation::QuickGelu => gate(x.clone(), x.mul_scalar(1.702)),
        Activation::GeluTanh => {
            let inner = x.clone().powi_scalar(3).mul_scalar(0.044_715) + x.clone();
            gate(x, inner.mul_scalar(2.0 * (2.0 / std::f64::consts::PI).sqrt()))
        }
        Activation::Silu => gate(x.clone(), x),
    }
}

impl From<burn::nn::Linear> for Linear {
    fn from(linear: burn::nn::Linear) -> Self {
        Self { weight: linear.weight, bias: linear.bias, packed: None }
    }
}

/// A weight that may be packed for running.
pub struct Slot<'a> {
    /// Its parameter's name.
    pub name: &'a str,
    /// Its parameter's shape.
    pub shape: &'a [usize],
    /// Where the packed weight goes, and of what kind it is.
    pub target: Target<'a>,
}

/// The kinds of weights that may be packed.
pub enum Target<'a> {
    /// A linear layer's, `[in, out]`.
    Linear(&'a mut Option<Packed>),
    /// A table's or a pointwise convolution's: a row for each output, whatever the other axes.
    Rows(&'a mut Option<Packed>),
    /// The same, where it is only of use as int8: any other is left to the parameter.
    Int8Rows(&'a mut Option<Packed>),
    /// The same, as floats.
    FloatRows(&'a mut Option<Packed>),
    /// `[C, 1, k, k]`, where it is stored as int8: any other is left to the parameter.
    Depthwise(&'a mut Option<DepthwiseWeight>),
}

/// Every weight of a module that may be packed: of linear layers, tables of tokens, convolutions.
pub trait Linears {
    /// Calls `visit` with each; `path` is the module's.
    fn linears(&mut self, path: &str, visit: &mut dyn FnMut(Slot<'_>));
}

impl Linears for Linear {
    fn linears(&mut self, path: &str, visit: &mut dyn FnMut(Slot<'_>)) {
        let (name, shape) = (&format!("{path}.weight"), &self.shape());
        visit(Slot { name, shape, target: Target::Linear(&mut self.packed) });
    }
}

impl<T: Linears> Linears for Vec<T> {
    fn linears(&mut self, path: &str, visit: &mut dyn FnMut(Slot<'_>)) {
        for (i, item) in self.iter_mut().enumerate() {
            item.linears(&format!("{path}.{i}"), visit);
        }
    }
}

impl<T: Linears> Linears for Option<T> {
    fn linears(&mut self, path: &str, visit: &mut dyn FnMut(Slot<'_>)) {
        if let Some(item) = self {
            item.linears(path, visit);
        }
    }
}

/// Says which fields of a module are linear layers or have some, and which parameters are tables, with the field for the packed one.
#[macro_export]
macro_rules! linears {
    ($module:ty { $($field:ident),+ $(,)? } $(tables { $($table:ident $(.$part:ident)? => $packed:ident),+ $(,)? })?) => {
        impl $crate::blocks::Linears for $module {
            fn linears(&mut self, path: &str, visit: &mut dyn FnMut($crate::blocks::Slot<'_>)) {
                $($crate::blocks::Linears::linears(&mut self.$field, &format!("{path}.{}", stringify!($field)), visit);)+
                $($(
                    let name = concat!(stringify!($table) $(, ".", stringify!($part))?);
                    let shape = &self.$table$(.$part)?.lazy_shape();
                    let name = &format!("{path}.{name}");
                    visit($crate::blocks::Slot { name, shape, target: $crate::blocks::Target::Rows(&mut self.$packed) });
                )+)?
            }
        }
    };
}
