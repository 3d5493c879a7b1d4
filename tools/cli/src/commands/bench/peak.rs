//! What this machine can multiply: the kernels' own tiles on data that lies in the nearest cache.

use ocelli_models::architecture::Precision;
use ocelli_ops::peak::{floats_per_second, integers_per_second};
use serde::Serialize;

/// Multiplications a second of all threads together, in thousands of millions.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Peak {
    /// Bytes by bytes.
    pub int8_gmacs: f64,
    /// Single precision.
    pub f32_gmacs: f64,
}

impl Peak {
    /// The one that bounds models of this precision.
    pub fn of(self, precision: Precision) -> f64 {
        match precision {
            Precision::F32 => self.f32_gmacs,
            Precision::Int8 | Precision::Int4 => self.int8_gmacs,
        }
    }
}

/// Takes some tens of milliseconds.
pub(super) fn measure(threads: usize) -> Peak {
    let all = |one: f64| one * threads as f64 / 1e9;
    Peak { int8_gmacs: all(integers_per_second()), f32_gmacs: all(floats_per_second()) }
}
