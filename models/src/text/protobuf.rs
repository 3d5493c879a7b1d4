//! Protobuf's wire format, as much of it as a sentencepiece model needs: <https://protobuf.dev/programming-guides/encoding/>.

use super::build::BuildError;
use super::sentencepiece::damaged;

/// A field's value.
pub(super) enum Field<'a> {
    /// A whole number.
    Number(u64),
    /// Four bytes.
    Fixed32(u32),
    /// A text, a message, or eight bytes.
    Bytes(&'a [u8]),
}

/// The fields of a protobuf message, in order.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for i in 0..10 {
            let (&byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            number |= u64::from(byte & 0x7f).checked_shl(7 * i)?;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn field(&mut self) -> Option<(u64, Field<'a>)> {
        let key = self.number()?;
        let value = match key & 7 {
            0 => Field::Number(self.number()?),
            1 => Field::Bytes(self.take(8)?),
            2 => {
                let length = usize::try_from(self.number()?).ok()?;
                Field::Bytes(self.take(length)?)
            }
            5 => Field::Fixed32(u32::from_le_bytes(self.take(4)?.try_into().ok()?)),
            _ => return None,
        };
        Some((key >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Field<'a>), BuildError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.rest = &[];
        }
        Some(field.ok_or_else(|| damaged("is damaged, or cut short")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_in_order_and_what_is_none() {
        // 1: 300, 2: "ab", 3: 1.5f32
        let message = [0x08, 0xac, 0x02, 0x12, 2, b'a', b'b', 0x1d, 0, 0, 0xc0, 0x3f];
        let fields: Vec<_> = Fields::new(&message).map(Result::unwrap).collect();
        assert!(matches!(fields[..], [(1, Field::Number(300)), (2, Field::Bytes(b"ab")), (3, Field::Fixed32(0x3fc0_0000))]));
        for broken in [&message[..6], &[0x08][..], &[0x12, 0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0x0b][..], &[0xff; 11][..]] {
            let last = Fields::new(broken).last().unwrap();
            assert!(last.is_err(), "{broken:?}");
        }
    }
}
