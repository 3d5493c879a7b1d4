//! Convolutions in plain loops.

use super::{activate, fixed, linear};
use crate::convolution::{Depthwise, Geometry, InvertedResidual, Layout, Picture, Pointwise};
use crate::linear::{Epilogue, Weight};
use crate::quantize::Prologue;

/// Pixel `y`, `x` of what a window sees, the window's own being `ky`, `kx`; none outside the map.
fn seen(geometry: &Geometry, (y, x): (usize, usize), (ky, kx): (usize, usize)) -> Option<(usize, usize)> {
    let y = (y * geometry.stride() + ky).checked_sub(geometry.top()).filter(|&y| y < geometry.height())?;
    let x = (x * geometry.stride() + kx).checked_sub(geometry.left()).filter(|&x| x < geometry.width())?;
    Some((y, x))
}

/// Windows as rows, `[batch · H′ · W′][K]`: `[C][k][k]` each of planar pictures, `[k][k][C]` of others. Also called im2col.
pub fn windows(picture: Picture<'_>, geometry: Geometry) -> Vec<f32> {
    let (channels, kernel) = (picture.channels, geometry.kernel());
    let mut rows = Vec::new();
    for image in picture.values.chunks_exact(channels * geometry.pixels()) {
        for pixel in 0..geometry.out_pixels() {
            let at = (pixel / geometry.out_width(), pixel % geometry.out_width());
            for i in 0..kernel * kernel * channels {
                let (channel, tap) = match picture.layout {
                    Layout::Planar => (i / (kernel * kernel), i % (kernel * kernel)),
                    Layout::Interleaved => (i % channels, i / channels),
                };
                let value = seen(&geometry, at, (tap / kernel, tap % kernel)).map(|(y, x)| match picture.layout {
                    Layout::Planar => image[(channel * geometry.height() + y) * geometry.width() + x],
                    Layout::Interleaved => image[(y * geometry.width() + x) * channels + channel],
                });
                rows.push(value.unwrap_or(0.0));
            }
        }
    }
    rows
}

/// activation(convolution + b) + residual, `[batch][H′ · W′][N]`.
pub fn convolution(picture: Picture<'_>, geometry: Geometry, weight: Weight<'_>, epilogue: Epilogue<'_>) -> Vec<f64> {
    linear(&windows(picture, geometry), Prologue::None, weight, epilogue)
}

/// activation(x ∗ w + b), channel by channel: `[batch][H · W][C]` to `[batch][H′ · W′][C]`.
pub fn depthwise(x: &[f32], geometry: Geometry, depthwise: Depthwise<'_>) -> Vec<f64> {
    let (channels, kernel) = (depthwise.weight.channels(), geometry.kernel());
    let mut out = Vec::new();
    for image in x.chunks_exact(geometry.pixels() * channels) {
        for pixel in 0..geometry.out_pixels() {
            let at = (pixel / geometry.out_width(), pixel % geometry.out_width());
            for channel in 0..channels {
                let mut sum = 0.0;
                for tap in 0..kernel * kernel {
                    if let Some((y, x)) = seen(&geometry, at, (tap / kernel, tap % kernel)) {
                        let value = image[(y * geometry.width() + x) * channels + channel];
                        sum += f64::from(value) * f64::from(depthwise.weight.value(channel, tap / kernel, tap % kernel));
                    }
                }
                let bias = depthwise.bias.map_or(0.0, |bias| f64::from(bias[channel]));
                out.push(activate(depthwise.activation, fixed(sum, depthwise.fraction_bits) + fixed(bias, depthwise.fraction_bits)));
            }
        }
    }
    out
}

fn pointwise(x: &[f32], pointwise: Pointwise<'_>, residual: Option<&[f32]>) -> Vec<f64> {
    let Pointwise { weight, bias, activation, fraction_bits } = pointwise;
    let epilogue = Epilogue { bias, activation, residual, fraction_bits };
    linear(x, Prologue::None, Weight::Int8(weight), epilogue)
}

/// An inverted residual block. Between its layers numbers are rounded to single precision.
pub fn inverted_residual(x: &[f32], block: &InvertedResidual<'_>) -> Vec<f64> {
    let single = |x: Vec<f64>| x.into_iter().map(|x| x as f32).collect::<Vec<_>>();
    let wide = block.expand.map_or_else(|| x.to_vec(), |expand| single(pointwise(x, expand, None)));
    let convolved = single(depthwise(&wide, block.geometry, block.depthwise));
    pointwise(&convolved, block.project, block.shortcut.then_some(x))
}

/// The mean over pixels of maps `[batch][pixels][C]`.
pub fn global_average(x: &[f32], pixels: usize, channels: usize) -> Vec<f64> {
    let mean = |map: &[f32], c: usize| map.iter().skip(c).step_by(channels).map(|&x| f64::from(x)).sum::<f64>() / pixels as f64;
    x.chunks_exact(pixels * channels).flat_map(|map| (0..channels).map(move |c| mean(map, c))).collect()
}
