//! Linear layers: floats while training, packed for running.

use burn::module::{Module, Param};
use burn::nn::{Initializer, LinearConfig};
use burn::tensor::activation::{gelu, relu};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor, module};
use ocelli_ops::{Activation, After, Before, DepthwiseWeight, Packed, Window, convolution};

use super::{LayerNorm, LowRank};

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
    #[module(skip)]
    low_rank: Option<LowRank>,
}

impl Linear {
    /// From `input` to `output` channels, with random weights and a bias.
    pub fn init(input: usize, output: usize, device: &Device) -> Self {
        Self::from(LinearConfig::new(input, output).init(device))
    }

    /// [`Linear::init`], with a bias or without.
    pub fn init_as(input: usize, output: usize, bias: bool, device: &Device) -> Self {
        Self::from(LinearConfig::new(input, output).with_bias(bias).init(device))
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

    /// The layer over windows of pictures: `[batch, C, H, W]` → `[batch, windows, out]`, where `in` is C · k · k.
    pub fn windows(&self, pictures: Tensor<4>, window: Window) -> Tensor<3> {
        let bias = self.bias.as_ref().map(Param::val);
        if let Some(low_rank) = &self.low_rank {
            return self.product_of_windows(pictures.clone(), window, bias) + low_rank.windows(pictures, window);
        }
        self.product_of_windows(pictures, window, bias)
    }

    fn product_of_windows(&self, pictures: Tensor<4>, window: Window, bias: Option<Tensor<1>>) -> Tensor<3> {
        if let Some(weight) = &self.packed {
            return convolution(pictures, window, weight, After { bias, ..After::default() });
        }
        let [_, channels, ..] = pictures.dims();
        let [_, out] = self.shape();
        let kernels = self.weight.val().transpose().reshape([out, channels, window.kernel, window.kernel]);
        let padding = [window.padding(window.height), window.padding(window.width)];
        let options = ConvOptions { stride: [window.stride; 2], padding, dilation: [1, 1], groups: 1 };
        module::conv2d(pictures, kernels, bias, options).flatten::<3>(2, 3).swap_dims(1, 2)
    }

    /// [`Linear::forward`] after a layer norm of the input.
    pub fn normed<const D: usize>(&self, norm: &LayerNorm, x: Tensor<D>) -> Tensor<D> {
        self.normed_then(norm, x, Activation::None)
    }

    /// activation([`Linear::normed`])
    pub fn normed_then<const D: usize>(&self, norm: &LayerNorm, x: Tensor<D>, activation: Activation) -> Tensor<D> {
        self.apply(x, norm.before(), activation, None)
    }

    /// activation(x W + b)
    pub fn then<const D: usize>(&self, x: Tensor<D>, activation: Activation) -> Tensor<D> {
        self.apply(x, Before::Nothing, activation, None)
    }

    /// x W + b + residual
    pub fn plus<const D: usize>(&self, x: Tensor<D>, residual: Tensor<D>) -> Tensor<D> {
        self.apply(x, Before::Nothing, Activation::None, Some(residual))
    }

    /// activation(before(x) W + b) + residual; with what an adapter adds, activation(before(x) W + b + before(x) A B) + residual
    pub fn apply<const D: usize>(&self, x: Tensor<D>, before: Before, activation: Activation, residual: Option<Tensor<D>>) -> Tensor<D> {
        let Some(low_rank) = &self.low_rank else { return self.product(x, before, activation, residual) };
        let added = low_rank.forward(prepare(x.clone(), before.clone()));
        if activation == Activation::None {
            let residual = match residual {
                Some(residual) => residual + added,
                None => added,
            };
            return self.product(x, before, activation, Some(residual));
        }
        let y = activate(self.product(x, before, Activation::None, Some(added)), activation);
        match residual {
            Some(residual) => y + residual,
            None => y,
        }
    }

    /// What the weight makes of it.
    fn product<const D: usize>(&self, x: Tensor<D>, before: Before, activation: Activation, residual: Option<Tensor<D>>) -> Tensor<D> {
        let bias = self.bias.as_ref().map(Param::val);
        if let Some(weight) = &self.packed {
            return ocelli_ops::linear(x, before, weight, After { bias, activation, residual, fraction_bits: None });
        }
        let y = activate(module::linear(prepare(x, before), self.weight.val(), bias), activation);
        match residual {
            Some(residual) => y + residual,
            None => y,
        }
    }
}

fn prepare<const D: usize>(x: Tensor<D>, before: Before) -> Tensor<D> {
    match before {
        Before::Nothing => x,
        Before::LayerNorm { weight, bias, epsilon } => module::layer_norm(x, weight, Some(bias), f64::from(epsilon)),
        Before::RmsNorm { weight, epsilon } => {
            let root = x.clone().powi_scalar(2).mean_dim(D - 1).add_scalar(epsilon).sqrt();
            x / root * weight.unsqueeze()
        }
        Before::SiluMul => {
            let k = x.dims()[D - 1] / 2;
            activate(x.clone().narrow(D - 1, 0, k), Activation::Silu) * x.narrow(D - 1, k, k)
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
        Self { weight: linear.weight, bias: linear.bias, packed: None, low_rank: None }
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
    /// A linear layer's, `[in, out]`, and what an adapter adds to it.
    Linear(&'a mut Option<Packed>, &'a mut Option<LowRank>),
    /// A table's or a pointwise convolution's: a row for each output, whatever the other axes.
    Rows(&'a mut Option<Packed>),
    /// The same, where it is only of use as int8: any other is left to the parameter.
    Int8Rows(&'a mut Option<Packed>),
    /// The same, as floats with so few bits that sums of their products with whole numbers up to this one have no error
    /// ([`ocelli_ops::quant::exact_rows`]).
    ExactRows(&'a mut Option<Packed>, u32),
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
        visit(Slot { name, shape, target: Target::Linear(&mut self.packed, &mut self.low_rank) });
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

#[cfg(test)]
mod tests {
    use burn::tensor::Distribution;

    use super::*;
    use crate::blocks::{LayerNorm, RmsNorm};

    fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
        Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
    }

    /// A layer with its weight as a parameter, and the same packed as floats.
    fn both(input: usize, output: usize, device: &Device) -> [Linear; 2] {
        let layer = Linear::init(input, output, device);
        let rows: Vec<f32> = layer.weight.val().transpose().into_data().iter::<f32>().collect();
        let packed = Packed::from_floats(output, input, &rows, device).unwrap();
        let bias = layer.bias.as_ref().map(Param::val);
        [layer, Linear::packed(packed, bias, device)]
    }

    fn close<const D: usize>(a: Tensor<D>, b: Tensor<D>, what: &str) {
        let difference = (a - b).abs().max().into_scalar::<f32>();
        assert!(difference < 1e-5, "{what}: {difference}");
    }

    #[test]
    fn what_stands_before_and_after_is_the_same_for_parameters() {
        let device = Device::flex();
        let layers = both(24, 10, &device);
        let norm = LayerNorm::init(24, &device);
        let rms = RmsNorm::new(random([24], &device), 1e-6);
        for (what, before, width) in [
            ("nothing", Before::Nothing, 24),
            ("layer norm", norm.before(), 24),
            ("RMS norm", rms.before(), 24),
            ("gate", Before::SiluMul, 48),
        ] {
            let (x, residual) = (random([2, 5, width], &device), random([2, 5, 10], &device));
            for activation in Activation::ALL {
                let [a, b] = layers.each_ref().map(|layer| layer.apply(x.clone(), before.clone(), activation, Some(residual.clone())));
                close(a, b, &format!("{what}, {activation:?}"));
            }
        }
    }

    #[test]
    fn windows_are_the_rows_that_are_cut_by_hand() {
        let device = Device::flex();
        let layers = both(3 * 8 * 8, 10, &device);
        let pictures = random([2, 3, 24, 24], &device);
        let cut = pictures.clone().reshape([2, 3, 3, 8, 3, 8]).permute([0, 2, 4, 1, 3, 5]).reshape([2, 9, 192]);
        let window = Window { height: 24, width: 24, kernel: 8, stride: 8, same: false };
        for layer in &layers {
            close(layer.windows(pictures.clone(), window), layer.forward(cut.clone()), "patches");
        }
    }
}
