//! `ocelli eval`: a model's numbers on a labelled folder.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;
use ocelli_eval::dataset::Dataset;
use ocelli_flow::{FrameMeta, Model};
use ocelli_pipeline::picture;
use serde_json::{Map, Value, json};

use crate::failure::Outcome;
use crate::generating::Generating;
use crate::images::Images;
use crate::interrupt::Stop;
use crate::measure::{Captions, Grounding, Look, Measure, Names, Questions, Retrieval, Section};
use crate::output::Output;
use crate::session::Session;
use crate::text;

/// As typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder in the data's format: images/ or images.tar, and captions, entities, boxes or labels as .jsonl or .jsonl.gz
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// What to measure, separated by commas; default: all that the folder and the model can
    #[arg(long, value_name = "W", value_enum, value_delimiter = ',')]
    what: Vec<What>,
    /// Part of the data, where it has parts; "all" for all of it
    #[arg(long, value_name = "S", default_value = "dev")]
    split: String,
    /// Look at the first N pictures only
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    #[command(flatten)]
    generating: Generating,
    /// Sentence to put names into, {} for the name; default: the model's own
    #[arg(long, value_name = "T")]
    template: Vec<String>,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Captions: BLEU-4, CIDEr-D, ROUGE-L
    Captions,
    /// Retrieval: recall at 1, 5 and 10, both ways
    Retrieval,
    /// Grounding: accuracy at IoU 0.5, and pointing
    Grounding,
    /// Presence: do a picture's phrases score above those of others
    Presence,
    /// Names: top-1 and top-5 among the folder's labels
    Names,
}

impl What {
    /// Whether the folder has what it takes.
    fn fits(self, data: &Dataset) -> bool {
        match self {
            Self::Captions | Self::Retrieval => data.has("captions") || data.has("boxes"),
            Self::Grounding => data.has("entities") || data.has("boxes"),
            Self::Presence => data.has("entities"),
            Self::Names => data.has("labels"),
        }
    }

    /// Whether the model has what it takes.
    fn can(self, model: &dyn Model) -> bool {
        match self {
            Self::Captions => model.captioner().is_some(),
            Self::Grounding | Self::Presence => model.grounder().is_some(),
            Self::Retrieval | Self::Names => model.embedder().is_some(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Captions => "captions",
            Self::Retrieval => "retrieval",
            Self::Grounding => "grounding",
            Self::Presence => "presence",
            Self::Names => "names",
        }
    }
}

/// One pass over the pictures, then a table or the contract's line.
pub fn run(session: &Session, args: Args) -> Result<Outcome> {
    let started = Instant::now();
    args.template.iter().try_for_each(|template| text::check_template(template))?;
    let data = Dataset::open(&args.folder)?;
    let pictures = data.pictures()?;
    for what in &args.what {
        ensure!(what.fits(&data), "{}: nothing to measure {} on in this folder", args.folder.display(), what.name());
    }
    let model = session.model()?;
    for what in &args.what {
        ensure!(what.can(&*model), "the model {} has no head for {}; choose another with -m", model.name(), what.name());
    }
    let all = What::value_variants().iter().copied();
    let what: Vec<What> =
        if args.what.is_empty() { all.filter(|what| what.fits(&data) && what.can(&*model)).collect() } else { args.what.clone() };
    let mut measures = plan(&args, &what, &data, &*model, &session.out)?;

    measures.retain(|measure| !measure.files().is_empty());
    let mut known = HashSet::new();
    let wanted = measures.iter().flat_map(|measure| measure.files()).filter(|file| known.insert(*file));
    let files: Vec<String> = wanted.map(str::to_owned).collect();
    if files.is_empty() {
        bail!("{}: no pictures to measure {} on; try --split all", args.folder.display(), describe(&args, &what));
    }

    let stop = Stop::on_ctrl_c()?;
    let mut images = Images::new(&session.out);
    let mut progress = session.out.progress("pictures", Some(files.len() as u64));
    for file in &files {
        if stop.raised() {
            return Ok(Outcome::Interrupted);
        }
        let read = || Ok(picture::decode_bytes(&pictures.read(file)?, &pictures.path(file), FrameMeta::still(file.as_str()))?);
        images.look_at(file, read, |_, frame| {
            let encoded = model.encode(frame)?;
            let look = Look { file, frame, encoded: &encoded };
            measures.iter_mut().try_for_each(|measure| measure.look(&*model, &look))
        })?;
        progress.step();
    }
    drop(progress);

    let mut sections = Vec::new();
    for measure in &mut measures {
        sections.extend(measure.finish(&*model)?);
    }
    let head = Head {
        model: model.name().to_owned(),
        data: args.folder.to_string_lossy().into_owned(),
        split: args.split,
        pictures: files.len(),
        seconds: started.elapsed().as_secs_f64(),
    };
    show(&session.out, &head, &sections)?;
    Ok(if images.outcome() == Outcome::Done { Outcome::Done } else { Outcome::SomeBad })
}

fn describe(args: &Args, what: &[What]) -> String {
    let names: Vec<&str> = what.iter().map(|what| what.name()).collect();
    let names = if names.is_empty() { "anything".to_owned() } else { names.join(", ") };
    format!("{names} in split {:?}", args.split)
}

/// The measures, each with its records.
fn plan(args: &Args, what: &[What], data: &Dataset, model: &dyn Model, out: &Output) -> Result<Vec<Box<dyn Measure>>> {
    let split = (args.split != "all").then_some(args.split.as_str());
    let limit = args.limit.map_or(usize::MAX, |limit| limit as usize);
    let has = |wanted: What| what.contains(&wanted);
    let mut measures: Vec<Box<dyn Measure>> = Vec::new();
    if has(What::Captions) || has(What::Retrieval) {
        let records = first(data.captions(split)?, limit);
        if has(What::Captions) {
            measures.push(Box::new(Captions::new(&records, args.generating.captions()?)));
        }
        if has(What::Retrieval) {
            measures.push(Box::new(Retrieval::new(&records)));
        }
    }
    if has(What::Grounding) || has(What::Presence) {
        let questions = if data.has("entities") {
            Questions::of_entities(&first(data.entities(split)?, limit))
        } else {
            Questions::of_labels(&first(data.boxes(split)?, limit))
        };
        measures.push(Box::new(Grounding::new(questions, has(What::Grounding), has(What::Presence))));
    }
    if has(What::Names) {
        let records = data.labels()?;
        let some = spread(&records, limit);
        measures.push(Box::new(Names::new(&records, &some, &args.template, model, out)?));
    }
    Ok(measures)
}

fn first<T>(mut records: Vec<T>, limit: usize) -> Vec<T> {
    records.truncate(limit);
    records
}

/// At most `limit` records at equal distances: label files are sorted by label, and the first few would all be one thing.
fn spread<T: Clone>(records: &[T], limit: usize) -> Vec<T> {
    let count = limit.min(records.len());
    (0..count).filter_map(|i| records.get(i * records.len() / count)).cloned().collect()
}

struct Head {
    model: String,
    data: String,
    split: String,
    pictures: usize,
    seconds: f64,
}

fn show(out: &Output, head: &Head, sections: &[Section]) -> Result<()> {
    if out.json() {
        return out.line(&line(head, sections));
    }
    out.text(format!("{} on {} ({}), {} pictures, {:.0} s", head.model, head.data, head.split, head.pictures, head.seconds))?;
    for section in sections {
        out.text(format!("\n{}", section.name))?;
        for (what, value) in &section.rows {
            let value = if is_count(what) { format!("{value:.0}") } else { format!("{value:.3}") };
            out.text(format!("  {:<26} {value:>8}", what.replace('_', " ")))?;
        }
    }
    Ok(())
}

fn is_count(what: &str) -> bool {
    ["pictures", "texts", "phrases", "labels", "vocabulary"].iter().any(|count| what.ends_with(count))
}

fn line(head: &Head, sections: &[Section]) -> Value {
    let mut line = json!({
        "type": "eval", "model": head.model, "data": head.data, "split": head.split, "pictures": head.pictures, "seconds": head.seconds,
    });
    for section in sections {
        let rows: Map<String, Value> = section
            .rows
            .iter()
            .map(|(what, value)| ((*what).to_owned(), if is_count(what) { json!(*value as u64) } else { json!(value) }))
            .collect();
        line[section.name] = Value::Object(rows);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_take_from_everywhere() {
        let records: Vec<usize> = (0..10).collect();
        assert_eq!(spread(&records, 3), [0, 3, 6]);
        assert_eq!(spread(&records, 99), records);
        assert_eq!(spread::<usize>(&[], 3), [0usize; 0]);
    }

    #[test]
    fn the_line_has_a_section_a_measure() {
        let head = Head { model: "nano".into(), data: "d".into(), split: "dev".into(), pictures: 2, seconds: 1.0 };
        let section = Section { name: "captions", rows: vec![("bleu_4", 0.25), ("pictures", 2.0)] };
        let line = line(&head, &[section]);
        assert_eq!(line["type"], "eval");
        assert_eq!(line["captions"], json!({"bleu_4": 0.25, "pictures": 2}));
    }
}
