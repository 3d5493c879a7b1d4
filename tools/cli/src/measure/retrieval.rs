//! Which picture does a caption describe, and which captions describe a picture?

use std::collections::HashMap;

use anyhow::Result;
use ocelli_eval::dataset::Captioned;
use ocelli_eval::retrieval::retrieval;
use ocelli_flow::Model;

use super::{Look, Measure, Section};
use crate::images::ImageError;
use crate::session;
use crate::zero_shot::TEXT_BATCH;

/// Recall both ways.
pub struct Retrieval {
    records: HashMap<String, Vec<String>>,
    order: Vec<String>,
    images: Vec<Vec<f32>>,
    /// Each picture's captions, in the order of `images`.
    captions: Vec<Vec<String>>,
}

impl Retrieval {
    /// All captions of all recorded pictures.
    pub fn new(records: &[Captioned]) -> Self {
        let order = records.iter().map(|record| record.file.clone()).collect();
        let records = records.iter().map(|record| (record.file.clone(), record.captions.clone())).collect();
        Self { records, order, images: Vec::new(), captions: Vec::new() }
    }
}

impl Measure for Retrieval {
    fn files(&self) -> Vec<&str> {
        self.order.iter().map(String::as_str).collect()
    }

    fn look(&mut self, model: &dyn Model, look: &Look) -> Result<(), ImageError> {
        let Some(captions) = self.records.get(look.file) else { return Ok(()) };
        let embedder = session::embedder(model).map_err(ImageError::Fatal)?;
        self.images.push(embedder.embed_image(look.encoded, false)?.values);
        self.captions.push(captions.clone());
        Ok(())
    }

    fn finish(&mut self, model: &dyn Model) -> Result<Vec<Section>> {
        let embedder = session::embedder(model)?;
        let (mut texts, mut owner) = (Vec::new(), Vec::new());
        let all: Vec<(usize, &str)> = self
            .captions
            .iter()
            .enumerate()
            .flat_map(|(image, captions)| captions.iter().map(move |text| (image, text.as_str())))
            .collect();
        for chunk in all.chunks(TEXT_BATCH) {
            let batch: Vec<&str> = chunk.iter().map(|(_, text)| *text).collect();
            texts.extend(embedder.embed_text(&batch, false)?.into_iter().map(|embedding| embedding.values));
            owner.extend(chunk.iter().map(|(image, _)| *image));
        }
        let found = retrieval(&self.images, &texts, &owner);
        let rows = vec![
            ("text_to_image_r1", found.text_to_image.at_1),
            ("text_to_image_r5", found.text_to_image.at_5),
            ("text_to_image_r10", found.text_to_image.at_10),
            ("text_to_image_median_rank", found.text_to_image.median_rank),
            ("image_to_text_r1", found.image_to_text.at_1),
            ("image_to_text_r5", found.image_to_text.at_5),
            ("image_to_text_r10", found.image_to_text.at_10),
            ("image_to_text_median_rank", found.image_to_text.median_rank),
            ("pictures", self.images.len() as f64),
            ("texts", texts.len() as f64),
        ];
        Ok(vec![Section { name: "retrieval", rows }])
    }
}
