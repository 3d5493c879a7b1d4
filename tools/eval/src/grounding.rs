//! Phrase grounding: is the best box on the right thing?

use ocelli_flow::BoundingBox;

/// Counts over phrases.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Phrases asked for.
    pub phrases: usize,
    /// Best box with IoU of at least the threshold with a true one.
    pub correct: usize,
    /// Centre of the best box inside a true one.
    pub pointed: usize,
}

impl Tally {
    /// Adds a phrase: the model's best box, if it gave one, against the boxes people drew (any of them is right).
    pub fn push(&mut self, best: Option<BoundingBox>, truth: &[BoundingBox], min_iou: f32) {
        self.phrases += 1;
        let Some(best) = best else { return };
        let (x, y) = best.centre();
        self.correct += usize::from(truth.iter().any(|one| one.iou(&best) >= min_iou));
        self.pointed += usize::from(truth.iter().any(|one| one.contains(x, y)));
    }

    /// Share of phrases with a right box, 0 to 1.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.phrases.max(1) as f64
    }

    /// Share of phrases that were pointed at, 0 to 1.
    pub fn pointing(&self) -> f64 {
        self.pointed as f64 / self.phrases.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::{BoundingBox, Tally};

    #[test]
    fn counts_overlap_and_centre() {
        let truth = [BoundingBox { x0: 0.0, y0: 0.0, x1: 10.0, y1: 10.0 }];
        let mut tally = Tally::default();
        tally.push(Some(BoundingBox { x0: 0.0, y0: 0.0, x1: 10.0, y1: 5.0 }), &truth, 0.5); // IoU exactly .5
        tally.push(Some(BoundingBox { x0: 4.0, y0: 4.0, x1: 8.0, y1: 8.0 }), &truth, 0.5); // inside, IoU .16
        tally.push(Some(BoundingBox { x0: 20.0, y0: 0.0, x1: 30.0, y1: 10.0 }), &truth, 0.5);
        tally.push(None, &truth, 0.5);
        assert_eq!(tally, Tally { phrases: 4, correct: 1, pointed: 2 });
        assert_eq!((tally.accuracy(), tally.pointing()), (0.25, 0.5));
    }
}
