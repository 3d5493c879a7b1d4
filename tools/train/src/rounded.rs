//! Weights as the bundle will hold them, while they are still trained.
//!
//! The losses are computed with rounded weights, and their gradients move the weights that are not rounded (straight through the rounding,
//! Courbariaux et al. 2015, <https://arxiv.org/abs/1511.00363>): what is learned is learned for int8 and int4.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};
use ocelli_models::weights::Recipe;
use ocelli_ops::quant::{dequantize_int4, dequantize_int8, quantize_int4, quantize_int8};

/// A copy of `module`, named `prefix` in the bundle, with each parameter as `recipe` keeps it. Parameters keep their ids.
pub fn rounded<M: Module>(module: &M, prefix: &str, recipe: &dyn Fn(&str, &[usize]) -> Recipe) -> M {
    module.clone().map(&mut Rounder { path: vec![prefix.to_owned()], recipe })
}

struct Rounder<'a> {
    path: Vec<String>,
    recipe: &'a dyn Fn(&str, &[usize]) -> Recipe,
}

impl ModuleMapper for Rounder<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let recipe = (self.recipe)(&self.path.join("."), &param.lazy_shape());
        let (learns, value) = (param.is_require_grad(), param.val());
        let transposed = recipe.transposed();
        let turned = |x: Tensor<D>| if transposed { x.swap_dims(0, 1) } else { x };
        let device = value.device();
        let value = turned(value);
        let shape = value.dims();
        let mut values: Vec<f32> = value.into_data().iter::<f32>().collect();
        match recipe {
            Recipe::Int8 { .. } | Recipe::Int8Packed { .. } => {
                let q = quantize_int8(&values, values.len() / shape[0].max(1));
                dequantize_int8(&q.values, &q.scales, &mut values);
            }
            Recipe::Int4 { .. } | Recipe::Int4Packed { .. } => {
                let q = quantize_int4(&values);
                dequantize_int4(&q.values, &q.scales, &mut values);
            }
            // No part of nano is kept in groups of eight bits.
            Recipe::F32 | Recipe::F16 | Recipe::F32Packed { .. } | Recipe::F16Packed { .. } | Recipe::Int8GroupsPacked { .. } => {
                return param;
            }
        }
        let value = turned(Tensor::from_data(TensorData::new(values, shape), &device));
        let param = Param::initialized(param.id, value);
        if device.is_autodiff() { param.set_require_grad(learns) } else { param }
    }
}

#[cfg(test)]
mod tests {
    use burn::nn::{Linear, LinearConfig};
    use burn::optim::{GradientsParams, SgdConfig};
    use burn::tensor::{Device, Distribution};

    use super::*;

    fn values(x: Tensor<2>) -> Vec<f32> {
        x.into_data().iter::<f32>().collect()
    }

    #[test]
    fn what_is_rounded_stays_and_gradients_reach_what_is_not() {
        let device = Device::flex().autodiff();
        device.seed(1);
        let linear: Linear = LinearConfig::new(64, 32).with_bias(false).init(&device);
        for int4 in [true, false] {
            let recipe = |name: &str, _: &[usize]| {
                assert_eq!(name, "part.weight");
                if int4 { Recipe::Int4 { transposed: true } } else { Recipe::Int8 { transposed: true } }
            };
            let once = rounded(&linear, "part", &recipe);
            let (float, once_values) = (values(linear.weight.val()), values(once.weight.val()));
            let furthest = float.iter().zip(&once_values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            let largest = float.iter().fold(0.0f32, |m, x| m.max(x.abs()));
            assert!(furthest > 0.0 && furthest < largest / if int4 { 6.0 } else { 200.0 }, "{furthest} of {largest}");
            let twice = values(rounded(&once, "part", &recipe).weight.val());
            assert!(once_values.iter().zip(&twice).all(|(a, b)| (a - b).abs() < 1e-3 * largest));

            let x = Tensor::<2>::random([4, 64], Distribution::Default, &device);
            let gradients = GradientsParams::from_grads(once.forward(x).sum().backward(), &once);
            let moved = values(SgdConfig::new().init().step(0.1, linear.clone(), gradients).weight.val());
            assert!(moved.iter().zip(&float).all(|(a, b)| (a - b).abs() > 1e-4));
        }
    }
}
