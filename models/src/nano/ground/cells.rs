//! The grid's cells, and how the backbone's maps are brought onto them.

use burn::tensor::{Device, Tensor, TensorData};

/// Cells along a side of the grid: those of stride 16.
pub const SIDE: usize = 14;
/// Cells of the grid, row by row.
pub const CELLS: usize = SIDE * SIDE;
const COARSE_SIDE: usize = 7;
/// Cells of stride 32.
pub const COARSE: usize = COARSE_SIDE * COARSE_SIDE;

/// Centre `(x, y)` of a cell, in 0..1 of the picture.
pub fn cell_centre(cell: usize) -> (f32, f32) {
    let centre = |i: usize| (i as f32 + 0.5) / SIDE as f32;
    (centre(cell % SIDE), centre(cell / SIDE))
}

/// `x, y, x, y` of every cell: `[CELLS, 4]`
pub(super) fn cell_centres(device: &Device) -> Tensor<2> {
    let centres: Vec<f32> = (0..CELLS).map(cell_centre).flat_map(|(x, y)| [x, y, x, y]).collect();
    Tensor::from_data(TensorData::new(centres, [CELLS, 4]), device)
}

/// Bilinear interpolation from 7×7 to 14×14 cells with aligned corners of the picture, as a matrix `[CELLS, 49]`.
pub(super) fn upsampling(device: &Device) -> Tensor<2> {
    let line = |i: usize| {
        // A fine cell's centre lies a quarter coarse cell from the nearest coarse centre; the edge has none beyond it.
        let at = ((i as f32 + 0.5) / 2.0 - 0.5).clamp(0.0, (COARSE_SIDE - 1) as f32);
        let low = at.floor();
        [(low as usize, 1.0 - (at - low)), ((low as usize + 1).min(COARSE_SIDE - 1), at - low)]
    };
    let mut weights = vec![0.0f32; CELLS * COARSE];
    for (cell, row) in weights.chunks_exact_mut(COARSE).enumerate() {
        for (y, wy) in line(cell / SIDE) {
            for (x, wx) in line(cell % SIDE) {
                row[y * COARSE_SIDE + x] += wy * wx;
            }
        }
    }
    Tensor::from_data(TensorData::new(weights, [CELLS, COARSE]), device)
}

/// The four stride-8 cells of each grid cell side by side: `[batch, 784, 40]` → `[batch, CELLS, 160]`
pub(super) fn side_by_side(stride8: Tensor<3>) -> Tensor<3> {
    let [batch, _, channels] = stride8.dims();
    stride8.reshape([batch, SIDE, 2, SIDE, 2, channels]).permute([0, 1, 3, 2, 4, 5]).reshape([batch, CELLS, 4 * channels])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
        x.into_data().iter::<f32>().collect()
    }

    #[test]
    fn upsampling_keeps_a_ramp() {
        let device = Device::flex();
        // What lies at x, y of the coarse grid is 10 y + x, measured in fine cells from the first fine centre.
        let ramp: Vec<f32> = (0..COARSE).map(|i| 10.0 * ((i / 7) as f32 * 2.0 + 0.5) + (i % 7) as f32 * 2.0 + 0.5).collect();
        let fine = upsampling(&device).matmul(Tensor::from_data(TensorData::new(ramp, [COARSE, 1]), &device));
        let fine = values(fine);
        for (cell, value) in fine.iter().enumerate() {
            let inside = |i: usize| (i as f32).clamp(0.5, 12.5);
            assert!((value - (10.0 * inside(cell / SIDE) + inside(cell % SIDE))).abs() < 1e-3, "cell {cell}: {value}");
        }
    }

    #[test]
    fn four_fine_cells_make_one() {
        let device = Device::flex();
        let cells: Vec<f32> = (0..784).flat_map(|i| (0..40).map(move |c| (i * 40 + c) as f32)).collect();
        let out = values(side_by_side(Tensor::from_data(TensorData::new(cells, [1, 784, 40]), &device)));
        // Grid cell (row 1, column 2): fine cells (2, 4), (2, 5), (3, 4), (3, 5).
        let cell = &out[(SIDE + 2) * 160..(SIDE + 3) * 160];
        for (k, fine) in [2 * 28 + 4, 2 * 28 + 5, 3 * 28 + 4, 3 * 28 + 5].into_iter().enumerate() {
            assert_eq!(cell[k * 40], (fine * 40) as f32);
        }
    }
}
