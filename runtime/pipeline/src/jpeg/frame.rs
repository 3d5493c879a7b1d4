//! Headers: segments up to the end of the picture (T.81 annex B).

use super::entropy::Codes;
use super::scan;
use super::transform::{ZIGZAG, inverse};

/// A picture whose components have been decoded.
pub struct Frame {
    /// Pixels of a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Luma, or luma and two of chroma.
    pub components: Vec<Component>,
    /// Whether coefficients come in several scans.
    pub progressive: bool,
    /// MCUs between restart markers; 0: none.
    pub restart: usize,
}

/// One component.
pub struct Component {
    /// As scans name it.
    pub id: u8,
    /// Sampling factors: blocks of an MCU across and down.
    pub across: usize,
    pub down: usize,
    /// Samples, without those that fill up blocks.
    pub width: usize,
    pub height: usize,
    /// Blocks, those that fill up MCUs included.
    pub blocks_across: usize,
    pub blocks_down: usize,
    /// `[blocks_down * 8][blocks_across * 8]`
    pub plane: Vec<u8>,
    /// Of a progressive picture, row by row: 64 a block.
    pub coefficients: Vec<i16>,
    table: usize,
    /// As it was when the component's first scan began, row by row.
    pub quantization: Option<[i32; 64]>,
}

impl Component {
    /// The samples of a row.
    pub fn row(&self, y: usize) -> &[u8] {
        let at = y.min(self.height - 1) * self.blocks_across * 8;
        &self.plane[at..at + self.width]
    }

    /// Puts a block in its place.
    pub fn put(&mut self, column: usize, row: usize, coefficients: &[i32; 64]) {
        let stride = self.blocks_across * 8;
        inverse(coefficients, &mut self.plane[row * 8 * stride + column * 8..], stride);
    }
}

/// What segments have said so far.
#[derive(Default)]
struct Tables {
    quantization: [Option<[i32; 64]>; 4],
    dc: [Option<Codes>; 4],
    ac: [Option<Codes>; 4],
    jfif: bool,
    /// Adobe's `transform`.
    adobe: Option<u8>,
}

fn big_endian(bytes: &[u8]) -> Option<usize> {
    bytes.first_chunk().map(|bytes| u16::from_be_bytes(*bytes).into())
}

impl Frame {
    /// Reads and decodes a whole file; `None` as [`super::decode_into`] says.
    pub fn read(bytes: &[u8], most_pixels: u64) -> Option<Self> {
        let mut tables = Tables::default();
        let mut frame: Option<Self> = None;
        let mut restart = 0;
        let mut at = 2;
        loop {
            while !matches!(bytes.get(at..at + 2)?, [0xff, 0x01..=0xcf | 0xd8..=0xfe]) {
                at += 1;
            }
            let marker = bytes[at + 1];
            if marker == 0xd9 {
                break;
            }
            if matches!(marker, 0x01 | 0xd8) {
                at += 2;
                continue;
            }
            let length = big_endian(bytes.get(at + 2..)?)?;
            let segment = bytes.get(at + 4..at + 2 + length)?;
            at += 2 + length;
            match marker {
                0xc0..=0xc2 if frame.is_none() => frame = Some(Self::header(segment, marker == 0xc2, most_pixels)?),
                0xc4 => tables.huffman(segment)?,
                0xdb => tables.quantization(segment)?,
                0xdd => restart = big_endian(segment)?,
                0xda => {
                    let frame = frame.as_mut()?;
                    frame.restart = restart;
                    at = frame.scan(segment, bytes, at, &tables)?;
                }
                0xe0 => tables.jfif |= segment.starts_with(b"JFIF\0"),
                0xee if segment.starts_with(b"Adobe") => tables.adobe = segment.get(11).copied(),
                // Comments and what applications keep.
                0xe1..=0xef | 0xfe => {}
                // Lossless, arithmetic, hierarchical; a number of lines that comes later.
                _ => return None,
            }
        }
        let mut frame = frame?;
        if frame.components.len() == 3 && !tables.is_ycbcr(&frame.components) {
            return None;
        }
        frame.components.iter_mut().try_for_each(Component::finish)?;
        Some(frame)
    }

    fn header(segment: &[u8], progressive: bool, most_pixels: u64) -> Option<Self> {
        let (height, width) = (big_endian(segment.get(1..)?)?, big_endian(segment.get(3..)?)?);
        let list = segment.get(6..)?.as_chunks::<3>().0;
        let sound = segment[0] == 8 && width > 0 && height > 0 && list.len() == usize::from(segment[5]) && matches!(list.len(), 1 | 3);
        if !sound || width as u64 * height as u64 > most_pixels {
            return None;
        }
        let single = list.len() == 1;
        let factors = |byte: u8| if single { (1, 1) } else { (usize::from(byte >> 4), usize::from(byte & 15)) };
        let (most_across, most_down) = factors(list[0][1]);
        let mut components = Vec::with_capacity(list.len());
        for [id, sampling, table] in list {
            let (across, down) = factors(*sampling);
            // Luma at full size, chroma at full size or half of it.
            let half = |most: usize, own: usize| matches!(own, 1 | 2) && (most == own || most == 2 * own);
            if !half(most_across, across) || !half(most_down, down) || *table > 3 {
                return None;
            }
            let mcus = (width.div_ceil(8 * most_across), height.div_ceil(8 * most_down));
            let (blocks_across, blocks_down) = (mcus.0 * across, mcus.1 * down);
            let blocks = blocks_across * blocks_down;
            components.push(Component {
                id: *id,
                across,
                down,
                width: (width * across).div_ceil(most_across),
                height: (height * down).div_ceil(most_down),
                blocks_across,
                blocks_down,
                plane: vec![0; blocks * 64],
                coefficients: vec![0; if progressive { blocks * 64 } else { 0 }],
                table: (*table).into(),
                quantization: None,
            });
        }
        Some(Self { width, height, components, progressive, restart: 0 })
    }

    /// Decodes a scan whose entropy-coded data begins at `at`; where it ends.
    fn scan(&mut self, segment: &[u8], bytes: &[u8], at: usize, tables: &Tables) -> Option<usize> {
        let count = usize::from(*segment.first()?);
        let list = segment.get(1..1 + 2 * count)?.as_chunks::<2>().0;
        let [first, last, precision] = segment.get(1 + 2 * count..)?.first_chunk()?;
        let mut parts = Vec::with_capacity(count);
        for [id, selectors] in list {
            let index = self.components.iter().position(|component| component.id == *id)?;
            if parts.iter().any(|part: &scan::Part<'_>| part.index == index) {
                return None;
            }
            let component = &mut self.components[index];
            let quantization = component.quantization.or(tables.quantization[component.table])?;
            component.quantization = Some(quantization);
            let (dc, ac) = (tables.dc.get(usize::from(selectors >> 4))?.as_ref(), tables.ac.get(usize::from(selectors & 15))?.as_ref());
            parts.push(scan::Part { index, dc, ac, quantization, predicted: 0 });
        }
        let band = scan::Band { first: (*first).into(), last: (*last).into(), high: precision >> 4, low: precision & 15 };
        scan::decode(self, parts, band, bytes, at)
    }
}

impl Component {
    /// Transforms the coefficients of a progressive picture. A component that no scan had is none.
    fn finish(&mut self) -> Option<()> {
        let table = self.quantization?;
        let coefficients = std::mem::take(&mut self.coefficients);
        for (i, block) in coefficients.as_chunks::<64>().0.iter().enumerate() {
            let values = std::array::from_fn(|k| i32::from(block[k]).wrapping_mul(table[k]));
            self.put(i % self.blocks_across, i / self.blocks_across, &values);
        }
        Some(())
    }
}

impl Tables {
    fn quantization(&mut self, mut segment: &[u8]) -> Option<()> {
        while let [kind, rest @ ..] = segment {
            let wide = kind >> 4 > 0;
            let size = if wide { 128 } else { 64 };
            let values = rest.get(..size)?;
            let mut table = [0; 64];
            for (i, &place) in ZIGZAG.iter().enumerate() {
                table[usize::from(place)] = if wide { big_endian(&values[2 * i..])? as i32 } else { values[i].into() };
            }
            *self.quantization.get_mut(usize::from(kind & 15))? = Some(table);
            segment = &rest[size..];
        }
        Some(())
    }

    fn huffman(&mut self, mut segment: &[u8]) -> Option<()> {
        while let [kind, rest @ ..] = segment {
            let counts: &[u8; 16] = rest.first_chunk()?;
            let symbols = rest.get(16..16 + counts.iter().map(|&count| usize::from(count)).sum::<usize>())?;
            let place = if kind >> 4 == 0 { &mut self.dc } else { &mut self.ac };
            *place.get_mut(usize::from(kind & 15))? = Some(Codes::new(counts, symbols)?);
            segment = &rest[16 + symbols.len()..];
        }
        Some(())
    }

    /// As libjpeg guesses.
    fn is_ycbcr(&self, components: &[Component]) -> bool {
        match self.adobe {
            _ if self.jfif => true,
            Some(transform) => transform == 1,
            None => !components.iter().map(|component| component.id).eq(*b"RGB"),
        }
    }
}
