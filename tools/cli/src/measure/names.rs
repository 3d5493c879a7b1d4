//! One label a picture: is it the one that fits best among all of the folder's?

use std::collections::{BTreeSet, HashMap};

use anyhow::Result;
use ocelli_eval::dataset::Labelled;
use ocelli_flow::Model;

use super::{Look, Measure, Section};
use crate::images::ImageError;
use crate::session;
use crate::zero_shot::LabelSet;

/// Top-1 and top-5.
pub struct Names {
    records: HashMap<String, String>,
    order: Vec<String>,
    labels: LabelSet,
    label_count: usize,
    seen: usize,
    first: usize,
    among_five: usize,
}

impl Names {
    /// Chooses among all labels that occur in `all` for the pictures of `records`.
    pub fn new(
        all: &[Labelled],
        records: &[Labelled],
        templates: &[String],
        model: &dyn Model,
        out: &crate::output::Output,
    ) -> Result<Self> {
        let labels: BTreeSet<&String> = all.iter().map(|record| &record.label).collect();
        let labels: Vec<String> = labels.into_iter().cloned().collect();
        Ok(Self {
            order: records.iter().map(|record| record.file.clone()).collect(),
            records: records.iter().map(|record| (record.file.clone(), record.label.clone())).collect(),
            label_count: labels.len(),
            labels: LabelSet::new(session::embedder(model)?, &labels, templates, out)?,
            seen: 0,
            first: 0,
            among_five: 0,
        })
    }
}

impl Measure for Names {
    fn files(&self) -> Vec<&str> {
        self.order.iter().map(String::as_str).collect()
    }

    fn look(&mut self, model: &dyn Model, look: &Look) -> Result<(), ImageError> {
        let Some(label) = self.records.get(look.file) else { return Ok(()) };
        let embedder = session::embedder(model).map_err(ImageError::Fatal)?;
        let classification = self.labels.classify(&embedder.embed_image(look.encoded, false)?);
        let place = classification.scores.iter().position(|score| *score.label == **label);
        self.seen += 1;
        self.first += usize::from(place == Some(0));
        self.among_five += usize::from(place.is_some_and(|place| place < 5));
        Ok(())
    }

    fn finish(&mut self, _: &dyn Model) -> Result<Vec<Section>> {
        let share = |count: usize| count as f64 / self.seen.max(1) as f64;
        let rows = vec![
            ("top_1", share(self.first)),
            ("top_5", share(self.among_five)),
            ("labels", self.label_count as f64),
            ("pictures", self.seen as f64),
        ];
        Ok(vec![Section { name: "names", rows }])
    }
}
