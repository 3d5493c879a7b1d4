//! The mean of several trainings' weights: of runs from the same start it is often better than any of them (Wortsman et al. 2022,
//! <https://arxiv.org/abs/2203.05482>).

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Tensor;

use crate::ema::flat;

/// A module with the mean of the weights of all; `None` where there is none. They have the same shape.
pub fn mean<M: Module>(modules: Vec<M>) -> Option<M> {
    let share = 1.0 / modules.len() as f64;
    let mut sums: Vec<Tensor<1>> = Vec::new();
    for module in &modules {
        module.visit(&mut Add { sums: &mut sums, at: 0, share });
    }
    let last = modules.into_iter().next_back()?;
    Some(last.map(&mut Replace { sums: sums.into_iter() }))
}

/// Parameters are met in the same order every time.
struct Add<'a> {
    sums: &'a mut Vec<Tensor<1>>,
    at: usize,
    share: f64,
}

impl ModuleVisitor for Add<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let part = flat(param).mul_scalar(self.share);
        match self.sums.get_mut(self.at) {
            Some(sum) => *sum = sum.clone() + part,
            None => self.sums.push(part),
        }
        self.at += 1;
    }
}

struct Replace {
    sums: std::vec::IntoIter<Tensor<1>>,
}

impl ModuleMapper for Replace {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.sums.next() {
            // Through data: a parameter must not remember what it was made of.
            Some(sum) => {
                let value = param.val();
                Param::from_data(sum.reshape::<D, _>(value.shape()).into_data(), &value.device())
            }
            None => param,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Device;

    #[test]
    fn weights_are_the_mean_and_still_learn() {
        let device = Device::flex().autodiff();
        let of = |value: f32| -> Linear {
            let mut linear = LinearConfig::new(2, 3).init(&device);
            linear.weight = Param::from_data(Tensor::<2>::full([2, 3], value, &device).into_data(), &device);
            linear.bias = Some(Param::from_data(Tensor::<1>::full([3], -value, &device).into_data(), &device));
            linear
        };
        let mixed = mean(vec![of(1.0), of(2.0), of(6.0)]).unwrap();
        let values = |x: Tensor<1>| x.into_data().iter::<f32>().collect::<Vec<_>>();
        assert!(values(mixed.weight.val().reshape([6])).iter().all(|x| (x - 3.0).abs() < 1e-6));
        assert!(values(mixed.bias.as_ref().unwrap().val()).iter().all(|x| (x + 3.0).abs() < 1e-6));
        let weight = mixed.weight.val();
        let mut gradients = weight.clone().powi_scalar(2).sum().backward();
        assert!(weight.grad_remove(&mut gradients).is_some());
        assert!(mean(Vec::<Linear>::new()).is_none());
    }
}
