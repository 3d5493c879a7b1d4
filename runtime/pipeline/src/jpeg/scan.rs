//! Scans: the coefficients of all or some components, whole or in parts (T.81 F.2 and G.2).

use super::bits::Bits;
use super::entropy::Codes;
use super::frame::Frame;
use super::transform::ZIGZAG;

/// A component's part in a scan.
pub struct Part<'a> {
    /// Of the frame's components.
    pub index: usize,
    pub dc: Option<&'a Codes>,
    pub ac: Option<&'a Codes>,
    /// Row by row.
    pub quantization: [i32; 64],
    /// The DC coefficient before.
    pub predicted: i32,
}

/// Which coefficients, and which of their bits.
#[derive(Clone, Copy)]
pub struct Band {
    pub first: usize,
    pub last: usize,
    /// The bit that scans before have ended with; 0 where there is none.
    pub high: u8,
    /// The bit that this one ends with.
    pub low: u8,
}

/// Decodes a scan; where its data ends.
pub fn decode(frame: &mut Frame, mut parts: Vec<Part<'_>>, band: Band, bytes: &[u8], at: usize) -> Option<usize> {
    let whole = !frame.progressive;
    let sound = if whole {
        band.first == 0 && band.last == 63 && band.high == 0 && band.low == 0
    } else {
        band.low < 14 && band.last < 64 && (if band.first == 0 { band.last == 0 } else { band.first <= band.last && parts.len() == 1 })
    };
    if !sound || parts.is_empty() {
        return None;
    }
    // The blocks of an MCU. A component by itself has no blocks that fill up MCUs.
    let single = parts.len() == 1;
    let component = &frame.components[parts[0].index];
    let (columns, rows) = if single {
        (component.width.div_ceil(8), component.height.div_ceil(8))
    } else {
        (component.blocks_across / component.across, component.blocks_down / component.down)
    };
    let mut bits = Bits::new(bytes, at);
    let mut run = 0;
    for mcu in 0..columns * rows {
        if frame.restart > 0 && mcu > 0 && mcu.is_multiple_of(frame.restart) {
            bits.restart()?;
            run = 0;
            parts.iter_mut().for_each(|part| part.predicted = 0);
        }
        for part in &mut parts {
            let component = &mut frame.components[part.index];
            let (across, down) = if single { (1, 1) } else { (component.across, component.down) };
            for i in 0..across * down {
                let (column, row) = (mcu % columns * across + i % across, mcu / columns * down + i / across);
                if whole {
                    component.put(column, row, &sequential(&mut bits, part)?);
                } else {
                    let index = (row * component.blocks_across + column) * 64;
                    let block = component.coefficients.get_mut(index..index + 64)?;
                    progressive(&mut bits, part, band, block, &mut run)?;
                }
            }
        }
        if bits.is_over() {
            return None;
        }
    }
    Some(bits.end())
}

/// A whole block, dequantized.
fn sequential(bits: &mut Bits<'_>, part: &mut Part<'_>) -> Option<[i32; 64]> {
    let mut block = [0; 64];
    block[0] = dc(bits, part)?.wrapping_mul(part.quantization[0]);
    let codes = part.ac?;
    let mut k = 1;
    while k < 64 {
        let symbol = codes.next(bits)?;
        let (zeros, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
        if size == 0 {
            if zeros < 15 {
                break;
            }
            k += 16;
            continue;
        }
        k += zeros;
        let place = usize::from(*ZIGZAG.get(k)?);
        block[place] = bits.signed(size).wrapping_mul(part.quantization[place]);
        k += 1;
    }
    Some(block)
}

/// A DC coefficient: the difference to the one before.
fn dc(bits: &mut Bits<'_>, part: &mut Part<'_>) -> Option<i32> {
    let size = part.dc?.next(bits)?;
    if size > 15 {
        return None;
    }
    part.predicted = part.predicted.wrapping_add(bits.signed(size.into()));
    Some(part.predicted)
}

/// Some coefficients of a block, or a further bit of them. `run`: blocks in which nothing more comes.
fn progressive(bits: &mut Bits<'_>, part: &mut Part<'_>, band: Band, block: &mut [i16], run: &mut u32) -> Option<()> {
    match (band.first, band.high) {
        (0, 0) => block[0] = (dc(bits, part)? << band.low) as i16,
        (0, _) => block[0] |= (bits.take(1) << band.low) as i16,
        (_, 0) => first_bits(bits, part.ac?, band, block, run)?,
        _ => further_bit(bits, part.ac?, band, block, run)?,
    }
    Some(())
}

fn first_bits(bits: &mut Bits<'_>, codes: &Codes, band: Band, block: &mut [i16], run: &mut u32) -> Option<()> {
    if *run > 0 {
        *run -= 1;
        return Some(());
    }
    let mut k = band.first;
    while k <= band.last {
        let symbol = codes.next(bits)?;
        let (zeros, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
        if size == 0 {
            if zeros < 15 {
                *run = (1 << zeros) + bits.take(zeros as u32) - 1;
                break;
            }
            k += 16;
            continue;
        }
        k += zeros;
        let place = usize::from(*ZIGZAG.get(k)?);
        block[place] = (bits.signed(size) << band.low) as i16;
        k += 1;
    }
    Some(())
}

fn further_bit(bits: &mut Bits<'_>, codes: &Codes, band: Band, block: &mut [i16], run: &mut u32) -> Option<()> {
    let (plus, minus) = (1i16 << band.low, -1i16 << band.low);
    let correct = |bits: &mut Bits<'_>, value: &mut i16| {
        if bits.take(1) == 1 && *value & plus == 0 {
            *value = value.wrapping_add(if *value >= 0 { plus } else { minus });
        }
    };
    let mut k = band.first;
    if *run == 0 {
        while k <= band.last {
            let symbol = codes.next(bits)?;
            let (mut zeros, size) = (u32::from(symbol >> 4), symbol & 15);
            let new = match size {
                0 if zeros < 15 => {
                    *run = (1 << zeros) + bits.take(zeros);
                    break;
                }
                0 => 0,
                1 => {
                    if bits.take(1) == 1 {
                        plus
                    } else {
                        minus
                    }
                }
                _ => return None,
            };
            // Over so many coefficients that are still zero; those that are not get their bit on the way.
            while k <= band.last {
                let value = &mut block[usize::from(ZIGZAG[k])];
                if *value != 0 {
                    correct(bits, value);
                } else if zeros == 0 {
                    *value = new;
                    k += 1;
                    break;
                } else {
                    zeros -= 1;
                }
                k += 1;
            }
        }
    }
    if *run > 0 {
        for &place in &ZIGZAG[k..=band.last] {
            let value = &mut block[usize::from(place)];
            if *value != 0 {
                correct(bits, value);
            }
        }
        *run -= 1;
    }
    Some(())
}
