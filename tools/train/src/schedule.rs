//! The learning rate over a training.

/// Linear warm-up, then half a cosine down to `floor` (Loshchilov and Hutter 2016, <https://arxiv.org/abs/1608.03983>).
#[derive(Debug, Clone, Copy)]
pub struct Cosine {
    /// Highest rate.
    pub peak: f64,
    /// Rate at the last step.
    pub floor: f64,
    /// Steps of warm-up.
    pub warmup: usize,
    /// Steps in all.
    pub steps: usize,
}

impl Cosine {
    /// The rate of step `step`, counted from 0.
    pub fn at(&self, step: usize) -> f64 {
        if step < self.warmup {
            return self.peak * (step + 1) as f64 / self.warmup as f64;
        }
        let done = (step - self.warmup) as f64 / (self.steps.saturating_sub(self.warmup)).max(1) as f64;
        self.floor + (self.peak - self.floor) * 0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos())
    }
}

#[cfg(test)]
mod tests {
    use super::Cosine;

    #[test]
    fn rises_then_falls_to_the_floor() {
        let rate = Cosine { peak: 1.0, floor: 0.1, warmup: 10, steps: 110 };
        assert!((rate.at(0) - 0.1).abs() < 1e-12);
        assert!((rate.at(10) - 1.0).abs() < 1e-12);
        assert!((rate.at(60) - 0.55).abs() < 1e-12);
        assert!((rate.at(110) - 0.1).abs() < 1e-12);
        assert!((rate.at(500) - 0.1).abs() < 1e-12);
    }
}
