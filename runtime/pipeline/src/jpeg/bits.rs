//! Bits of an entropy-coded segment (T.81 F.2.2.5).

/// Reads bits. Behind the end of the segment come zeros, for reading ahead: [`Bits::is_over`] says whether one of them was used.
pub struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    buffer: u64,
    count: u32,
    /// Bytes of zeros that were made up behind the end.
    made_up: usize,
}

impl<'a> Bits<'a> {
    /// From `at` on.
    pub fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at, buffer: 0, count: 0, made_up: 0 }
    }

    fn fill(&mut self) {
        while self.count <= 56 {
            let byte = match (self.bytes.get(self.at), self.bytes.get(self.at + 1)) {
                (Some(0xff), Some(0)) => {
                    self.at += 2;
                    0xff
                }
                // A marker, or the end of the file.
                (Some(0xff), _) | (None, _) => {
                    self.made_up += 1;
                    0
                }
                (Some(&byte), _) => {
                    self.at += 1;
                    byte
                }
            };
            self.buffer |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    /// The next 16 bits, which stay.
    pub fn peek16(&mut self) -> u32 {
        if self.count < 16 {
            self.fill();
        }
        (self.buffer >> 48) as u32
    }

    /// Leaves out `count` bits, at most 16, that were looked at.
    pub fn skip(&mut self, count: u32) {
        self.buffer <<= count;
        self.count -= count.min(self.count);
    }

    /// The next `count` bits, at most 16.
    pub fn take(&mut self, count: u32) -> u32 {
        if count == 0 {
            return 0;
        }
        let bits = self.peek16() >> (16 - count);
        self.skip(count);
        bits
    }

    /// A signed number of `count` bits (T.81 table F.1 and F.2.2.1, EXTEND).
    pub fn signed(&mut self, count: u32) -> i32 {
        if count == 0 {
            return 0;
        }
        let value = self.take(count) as i32;
        if value < 1 << (count - 1) { value - (1 << count) + 1 } else { value }
    }

    /// Whether more was read than the segment has: the file is damaged.
    pub fn is_over(&self) -> bool {
        self.made_up * 8 > self.count as usize
    }

    /// Where the marker that ends the segment stands: behind what has been read.
    pub fn end(&self) -> usize {
        self.at
    }

    /// Goes on behind a restart marker, if there is one.
    pub fn restart(&mut self) -> Option<()> {
        match self.bytes.get(self.at..self.at + 2) {
            Some([0xff, 0xd0..=0xd7]) => {
                *self = Self::new(self.bytes, self.at + 2);
                Some(())
            }
            _ => None,
        }
    }
}
