//! Exponential moving average of a module's weights (Polyak averaging).

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;

/// Averages of every float parameter, flat, by parameter id.
#[derive(Debug, Clone)]
pub struct Ema {
    decay: f64,
    updates: usize,
    values: HashMap<ParamId, Tensor<1>>,
}

impl Ema {
    /// Starts at the weights of `module`.
    pub fn new<M: Module>(module: &M, decay: f64) -> Self {
        let mut ema = Self { decay, updates: 0, values: HashMap::new() };
        ema.visit_module(module, 0.0);
        ema
    }

    /// One step towards the weights of `module`. Early steps move faster, so that the start is soon forgotten.
    pub fn update<M: Module>(&mut self, module: &M) {
        self.updates += 1;
        let n = self.updates as f64;
        self.visit_module(module, self.decay.min((1.0 + n) / (10.0 + n)));
    }

    /// A copy of `module`, off the autodiff device, with the averages as weights.
    pub fn module<M: Module>(&self, module: &M) -> M {
        module.valid().map(&mut Replace { values: &self.values })
    }

    fn visit_module<M: Module>(&mut self, module: &M, decay: f64) {
        module.visit(&mut Average { values: &mut self.values, decay });
    }
}

/// A parameter's values in one row, off the autodiff device.
pub fn flat<const D: usize>(param: &Param<Tensor<D>>) -> Tensor<1> {
    let value = param.val();
    let value = if value.device().is_autodiff() { value.inner() } else { value };
    let count = value.shape().num_elements();
    value.reshape([count])
}

struct Average<'a> {
    values: &'a mut HashMap<ParamId, Tensor<1>>,
    decay: f64,
}

impl ModuleVisitor for Average<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = flat(param);
        let next = match self.values.remove(&param.id) {
            Some(average) => average.mul_scalar(self.decay) + value.mul_scalar(1.0 - self.decay),
            None => value,
        };
        self.values.insert(param.id, next);
    }
}

struct Replace<'a> {
    values: &'a HashMap<ParamId, Tensor<1>>,
}

impl ModuleMapper for Replace<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.values.get(&param.id) {
            Some(average) => param.map(|value| average.clone().reshape(value.shape())),
            None => param,
        }
    }
}
