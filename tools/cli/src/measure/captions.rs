//! Generated captions against what people wrote.

use std::collections::HashMap;

use anyhow::Result;
use ocelli_eval::captions::{Sample, bleu, cider_d, rouge_l};
use ocelli_eval::dataset::Captioned;
use ocelli_flow::{CaptionOptions, Model};

use super::{Look, Measure, Section};
use crate::images::ImageError;
use crate::session;

/// BLEU, CIDEr-D and ROUGE-L.
pub struct Captions {
    records: HashMap<String, Vec<String>>,
    order: Vec<String>,
    options: CaptionOptions,
    samples: Vec<Sample>,
}

impl Captions {
    /// Captions each recorded picture so.
    pub fn new(records: &[Captioned], options: CaptionOptions) -> Self {
        let order = records.iter().map(|record| record.file.clone()).collect();
        let records = records.iter().map(|record| (record.file.clone(), record.captions.clone())).collect();
        Self { records, order, options, samples: Vec::new() }
    }
}

impl Measure for Captions {
    fn files(&self) -> Vec<&str> {
        self.order.iter().map(String::as_str).collect()
    }

    fn look(&mut self, model: &dyn Model, look: &Look) -> Result<(), ImageError> {
        let Some(references) = self.records.get(look.file) else { return Ok(()) };
        let captioner = session::captioner(model).map_err(ImageError::Fatal)?;
        let caption = captioner.caption(look.encoded, &self.options, &mut ())?;
        self.samples.push(Sample::new(&caption.text, references));
        Ok(())
    }

    fn finish(&mut self, _: &dyn Model) -> Result<Vec<Section>> {
        let [_, _, _, bleu_4] = bleu(&self.samples);
        let words = self.samples.iter().map(|sample| sample.candidate.len()).sum::<usize>() as f64 / self.samples.len().max(1) as f64;
        let vocabulary: std::collections::HashSet<&String> = self.samples.iter().flat_map(|sample| &sample.candidate).collect();
        let rows = vec![
            ("bleu_4", bleu_4),
            ("cider_d", cider_d(&self.samples).mean),
            ("rouge_l", rouge_l(&self.samples)),
            ("mean_words", words),
            ("vocabulary", vocabulary.len() as f64),
            ("pictures", self.samples.len() as f64),
        ];
        Ok(vec![Section { name: "captions", rows }])
    }
}
