//! Classification by comparing a picture with texts that name the labels.

use std::sync::Arc;

use ocelli_flow::{Classification, Embedder, Embedding, LabelScore, ModelError, Scoring};

use crate::output::Output;

/// Texts a model reads in one go: enough to keep it busy, few enough that a bar moves.
pub const TEXT_BATCH: usize = 32;

/// Labels with what they look like in the joint space.
pub struct LabelSet {
    labels: Vec<Arc<str>>,
    embeddings: Vec<Embedding>,
    logit_scale: f32,
    logit_bias: f32,
    scoring: Scoring,
}

impl LabelSet {
    /// The labels as given, or the model's own where there are none; each put into every template (the model's own where there are none).
    pub fn new(embedder: &dyn Embedder, labels: &[String], templates: &[String], out: &Output) -> Result<Self, ModelError> {
        let given: Vec<(Arc<str>, String)> = labels.iter().map(|label| (Arc::from(label.as_str()), label.clone())).collect();
        let pairs = if given.is_empty() { embedder.default_labels() } else { &given };
        if pairs.is_empty() {
            return Err(ModelError::Option { option: "--label", reason: "this model has no labels of its own; name some".into() });
        }
        let templates = if templates.is_empty() { embedder.default_templates() } else { templates };
        let mut progress = out.progress("labels", Some(pairs.len() as u64));
        let mut embeddings = Vec::with_capacity(pairs.len());
        for chunk in pairs.chunks(TEXT_BATCH) {
            embeddings.extend(embed_labels(embedder, chunk, templates)?);
            progress.advance(chunk.len() as u64);
        }
        let labels = pairs.iter().map(|(label, _)| Arc::clone(label)).collect();
        let (logit_scale, logit_bias, scoring) = (embedder.logit_scale(), embedder.logit_bias(), embedder.scoring());
        Ok(Self { labels, embeddings, logit_scale, logit_bias, scoring })
    }

    /// Every label with its score, best first: all sum to one, or each counts for itself, as the model has it.
    pub fn classify(&self, image: &Embedding) -> Classification {
        let logits: Vec<f32> = self.embeddings.iter().map(|text| self.logit_scale * image.dot(text) + self.logit_bias).collect();
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = logits.iter().map(|logit| (logit - largest).exp()).sum();
        let score = |logit: f32| match self.scoring {
            Scoring::Softmax => (logit - largest).exp() / sum,
            Scoring::Sigmoid => 1.0 / (1.0 + (-logit).exp()),
        };
        let labels = self.labels.iter().zip(&logits);
        let mut scores: Vec<LabelScore> =
            labels.map(|(label, &logit)| LabelScore { label: Arc::clone(label), logit, score: score(logit) }).collect();
        scores.sort_by(|a, b| b.logit.total_cmp(&a.logit));
        Classification { scores }
    }
}

/// One embedding a label: the mean over the templates, normalised again (as CLIP's zero-shot classifiers are built).
fn embed_labels(embedder: &dyn Embedder, pairs: &[(Arc<str>, String)], templates: &[String]) -> Result<Vec<Embedding>, ModelError> {
    if templates.is_empty() {
        let texts: Vec<&str> = pairs.iter().map(|(_, text)| text.as_str()).collect();
        return embedder.embed_text(&texts, false);
    }
    let mut sums: Vec<Embedding> = vec![Embedding { values: vec![0.0; embedder.dim()] }; pairs.len()];
    for template in templates {
        let texts: Vec<String> = pairs.iter().map(|(_, text)| template.replace("{}", text)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        for (sum, one) in sums.iter_mut().zip(embedder.embed_text(&texts, false)?) {
            sum.values.iter_mut().zip(one.values).for_each(|(sum, value)| *sum += value);
        }
    }
    Ok(sums.into_iter().map(Embedding::normalised).collect())
}

#[cfg(test)]
mod tests {
    use ocelli_flow::Encoded;

    use super::*;

    /// Knows two words, each an axis.
    struct Axes(Vec<(Arc<str>, String)>);

    impl Embedder for Axes {
        fn dim(&self) -> usize {
            2
        }
        fn logit_scale(&self) -> f32 {
            2.0
        }
        fn default_labels(&self) -> &[(Arc<str>, String)] {
            &self.0
        }
        fn embed_image(&self, _: &Encoded, _: bool) -> Result<Embedding, ModelError> {
            Ok(Embedding { values: vec![1.0, 0.0] })
        }
        fn embed_text(&self, texts: &[&str], _: bool) -> Result<Vec<Embedding>, ModelError> {
            Ok(texts.iter().map(|text| Embedding { values: if text.contains("dog") { vec![1.0, 0.0] } else { vec![0.0, 1.0] } }).collect())
        }
    }

    fn image() -> Embedding {
        Embedding { values: vec![1.0, 0.0] }
    }

    #[test]
    fn softmax_is_over_all_labels_and_best_first() {
        let out = Output::new(false, true);
        let labels = ["cat".to_owned(), "dog".to_owned()];
        let scores = LabelSet::new(&Axes(vec![]), &labels, &[], &out).unwrap().classify(&image()).scores;
        assert_eq!(&*scores[0].label, "dog");
        assert_eq!((scores[0].logit, scores[1].logit), (2.0, 0.0));
        let expected = 2f32.exp() / (2f32.exp() + 1.0);
        assert!((scores[0].score - expected).abs() < 1e-6);
        assert!((scores[0].score + scores[1].score - 1.0).abs() < 1e-6);
    }

    #[test]
    fn templates_are_averaged_and_normalised() {
        let out = Output::new(false, true);
        let templates = ["a {}".to_owned(), "a dog and a {}".to_owned()];
        let set = LabelSet::new(&Axes(vec![]), &["cat".to_owned()], &templates, &out).unwrap();
        let half = std::f32::consts::FRAC_1_SQRT_2;
        assert!((set.embeddings[0].values[0] - half).abs() < 1e-6);
        assert!((set.embeddings[0].dot(&set.embeddings[0]) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn default_labels_stand_in_and_none_at_all_is_an_error() {
        let out = Output::new(false, true);
        let set = LabelSet::new(&Axes(vec![("hound".into(), "a dog".into())]), &[], &[], &out).unwrap();
        assert_eq!(&*set.classify(&image()).scores[0].label, "hound");
        assert!(LabelSet::new(&Axes(vec![]), &[], &[], &out).is_err());
    }
}
