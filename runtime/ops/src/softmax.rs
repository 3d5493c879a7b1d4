//! Softmax.

/// x − ln Σ eˣ in place, for rows of `width` numbers in memory: on the CPU, whatever device a model runs on.
///
/// # Panics
/// Where `rows` are not whole.
pub fn log_softmax_rows(rows: &mut [f32], width: usize) {
    crate::cpu::with_engine(|engine| engine.log_softmax(rows, width));
}

#[cfg(test)]
mod tests {
    use burn::tensor::activation::log_softmax;
    use burn::tensor::{Device, Distribution, Tensor};

    use super::*;

    #[test]
    fn rows_are_those_of_burn() {
        let x = Tensor::<2>::random([5, 77], Distribution::Normal(0.0, 4.0), &Device::flex());
        let mut rows: Vec<f32> = x.clone().into_data().try_into_vec().unwrap();
        log_softmax_rows(&mut rows, 77);
        for (row, right) in rows.iter().zip(log_softmax(x, 1).into_data().iter::<f32>()) {
            assert!((row - right).abs() <= 1e-5, "{row} {right}");
        }
    }
}
