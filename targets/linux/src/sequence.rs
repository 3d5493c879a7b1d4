//! The driver's frame counter.

/// Counts on in 64 bits from a driver's 32-bit counter, and sees the gaps.
#[derive(Debug, Default)]
pub struct Sequence {
    last: Option<u32>,
    counted: u64,
}

impl Sequence {
    /// Takes note of a frame with the driver's number `driver`: its own number, from 0, and how many frames were lost before it.
    ///
    /// A counter that stands still or goes back (drivers that do not count, or that count anew) means no loss.
    pub fn next(&mut self, driver: u32) -> (u64, u64) {
        let step = self.last.map_or(1, |last| driver.wrapping_sub(last));
        let dropped = match step {
            1..=0x7FFF_FFFF => u64::from(step - 1),
            _ => 0,
        };
        if self.last.is_some() {
            self.counted += 1 + dropped;
        }
        self.last = Some(driver);
        (self.counted, dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_losses_and_restarts_are_not() {
        let mut sequence = Sequence::default();
        let seen = [7, 8, 11, 11, 3, 4].map(|driver| sequence.next(driver));
        assert_eq!(seen, [(0, 0), (1, 0), (4, 2), (5, 0), (6, 0), (7, 0)]);
    }

    #[test]
    fn the_counter_wraps() {
        let mut sequence = Sequence::default();
        let seen = [u32::MAX - 1, u32::MAX, 1].map(|driver| sequence.next(driver));
        assert_eq!(seen, [(0, 0), (1, 0), (3, 1)]);
    }
}
