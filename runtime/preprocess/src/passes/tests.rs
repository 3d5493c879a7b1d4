//! Every kind of pass this processor has against sums written out.

use super::*;
use proptest::prelude::*;

fn isas() -> Vec<Isa> {
    // The portable passes are there twice on processors without AVX2.
    vec![Isa::Portable, Isa::detect()]
}

/// Windows that follow each other over `width` pixels, of various lengths, with weights that overflow a grey level both ways.
fn axis(width: usize, outputs: usize, seed: u32) -> Axis<i16> {
    let mut axis = Axis::default();
    axis.shift = 14;
    let mut state = seed;
    let mut random = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below.max(1)
    };
    for i in 0..outputs {
        let first = i * (width - 1) / outputs;
        let len = 1 + random((width - first).min(23));
        let weights: Vec<i16> = (0..len).map(|_| random(40_000) as i16).collect();
        axis.push(first as u32, weights);
    }
    axis
}

fn noise(len: usize, seed: u32) -> Vec<u8> {
    (0..len as u32).map(|i| (i.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn level(sum: i64) -> u8 {
    ((sum + (1 << 13)) >> 14).clamp(0, 255) as u8
}

proptest! {
    #[test]
    fn across_is_the_sum(width in 1usize..90, outputs in 1usize..40, seed in any::<u32>()) {
        let axis = axis(width, outputs, seed);
        let mut across = Across::default();
        across.lay_out(&axis, 0, width);
        let rows: [Vec<u8>; 4] = std::array::from_fn(|i| noise(across.least(), seed ^ i as u32));
        let wanted: Vec<Vec<u8>> = rows.iter().map(|row| {
            axis.iter().flat_map(|(first, weights)| [0, 1, 2].map(|c| {
                level(weights.iter().enumerate().map(|(k, &w)| i64::from(w) * i64::from(row[3 * (first + k) + c])).sum())
            })).collect()
        }).collect();
        for isa in isas() {
            let mut out: [Vec<u8>; 4] = std::array::from_fn(|_| vec![7; 3 * outputs]);
            i16::across(isa, &across, rows.each_ref().map(|row| &row[..]), out.each_mut().map(|out| &mut out[..]));
            prop_assert_eq!(&out[..], &wanted[..]);
            let mut one = vec![7; 3 * outputs];
            i16::across(isa, &across, [&rows[1][..]], [&mut one[..]]);
            prop_assert_eq!(&one, &wanted[1]);
        }
    }

    #[test]
    fn down_is_the_sum(slots in 1usize..30, stride in 1usize..140, start in 0usize..100, len in 1usize..30, seed in any::<u32>()) {
        let (len, slot) = (len.min(slots), start % slots);
        let ring = noise(slots * stride, seed);
        let weights: Vec<i16> = noise(2 * len, !seed).as_chunks::<2>().0.iter().map(|&bytes| i16::from_le_bytes(bytes)).collect();
        let wanted: Vec<u8> = (0..stride).map(|x| {
            level(weights.iter().enumerate().map(|(i, &w)| i64::from(w) * i64::from(ring[(slot + i) % slots * stride + x])).sum())
        }).collect();
        for isa in isas() {
            let mut out = vec![7; stride];
            i16::down(isa, Down { ring: &ring, slots, slot, weights: &weights, shift: 14, out: &mut out });
            prop_assert_eq!(&out, &wanted);
        }
    }

    #[test]
    fn floats_are_the_sum(width in 1usize..90, outputs in 1usize..40, seed in any::<u32>()) {
        let mut floats = Axis::default();
        for (first, weights) in axis(width, outputs, seed).iter() {
            floats.push(first as u32, weights.iter().map(|&w| f32::from(w) / 16384.0).collect::<Vec<_>>());
        }
        let mut across = Across::default();
        across.lay_out(&floats, 0, width);
        let row = noise(across.least(), seed);
        let wanted: Vec<f64> = floats.iter().flat_map(|(first, weights)| [0, 1, 2].map(|c| {
            weights.iter().enumerate().map(|(k, &w)| f64::from(w) * f64::from(row[3 * (first + k) + c])).sum()
        })).collect();
        for isa in isas() {
            let mut out = vec![7.0; 3 * outputs];
            f32::across(isa, &across, [&row[..]], [&mut out[..]]);
            // At most 24 terms of up to 2 * 255, each product and each sum rounded.
            let tolerance = 48.0 * 24.0 * 510.0 * f64::from(f32::EPSILON) / 2.0;
            prop_assert!(out.iter().zip(&wanted).all(|(got, wanted)| (f64::from(*got) - wanted).abs() <= tolerance));
        }
    }
}
