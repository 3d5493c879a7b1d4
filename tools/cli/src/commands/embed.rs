//! `ocelli embed`: pictures and texts as vectors of one space.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{ArgMatches, FromArgMatches};
use ocelli_flow::{Embedder, Embedding, Model};
use ocelli_pipeline::json::Line;

use crate::failure::Outcome;
use crate::images::{ImageError, Images};
use crate::lora::Loras;
use crate::output::Output;
use crate::session::{self, Session};
use crate::source::Source;
use crate::text;
use crate::zero_shot::TEXT_BATCH;

/// As typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    inputs: Inputs,
    #[command(flatten)]
    loras: Loras,
    /// The projection as it is, not scaled to length 1
    #[arg(long)]
    raw: bool,
}

/// One thing to embed.
#[derive(Debug, Clone, PartialEq)]
enum Input {
    Picture(Source),
    Text(String),
}

/// Pictures and texts in the order they were typed, which clap's derive does not keep across options.
#[derive(Debug, Default)]
struct Inputs(Vec<Input>);

#[derive(Debug, clap::Args)]
struct Declared {
    /// Picture to embed; may be repeated, and take several
    #[arg(long, value_name = "P", num_args = 1..)]
    image: Vec<PathBuf>,
    /// In place of a picture, a file that `preprocess` wrote
    #[arg(long, value_name = "F", num_args = 1..)]
    pixels: Vec<PathBuf>,
    /// Text to embed; may be repeated, and take several
    #[arg(long, value_name = "S", num_args = 1..)]
    text: Vec<String>,
}

impl FromArgMatches for Inputs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let declared = Declared::from_arg_matches(matches)?;
        let places = |id| matches.indices_of(id).into_iter().flatten();
        let images = places("image").zip(declared.image.into_iter().map(|path| Input::Picture(Source::Image(path))));
        let pixels = places("pixels").zip(declared.pixels.into_iter().map(|path| Input::Picture(Source::Pixels(path))));
        let texts = places("text").zip(declared.text.into_iter().map(Input::Text));
        let mut inputs: Vec<(usize, Input)> = images.chain(pixels).chain(texts).collect();
        inputs.sort_by_key(|(place, _)| *place);
        Ok(Self(inputs.into_iter().map(|(_, input)| input).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for Inputs {
    fn augment_args(command: clap::Command) -> clap::Command {
        Declared::augment_args(command)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Declared::augment_args_for_update(command)
    }
}

/// One line an input, in order.
pub fn run(session: &Session, args: Args) -> Result<Outcome> {
    let inputs = args.inputs.0;
    ensure!(!inputs.is_empty(), "nothing to embed; name a picture with --image, or a text with --text");
    for input in &inputs {
        if let Input::Text(text) = input {
            text::check("--text", text)?;
        }
    }
    let model = args.loras.model(session)?;
    let embedder = session::embedder(&*model)?;
    let printer = Printer { out: &session.out, model: &*model };
    let mut images = Images::new(&session.out);
    let mut progress = session.out.progress("embeddings", Some(inputs.len() as u64));
    let mut rest = inputs.as_slice();
    while let Some(input) = rest.first() {
        let done = match input {
            Input::Picture(source) => {
                images.look_at(
                    &source.path().to_string_lossy(),
                    || source.read(),
                    |name, looked| {
                        let embedding = embedder.embed_image(&looked.encode(&*model)?, args.raw)?;
                        printer.image(name, &embedding).map_err(ImageError::Fatal)
                    },
                )?;
                1
            }
            Input::Text(_) => {
                let texts = leading_texts(rest);
                embed_texts(embedder, &texts, args.raw, &printer)?;
                texts.len()
            }
        };
        progress.advance(done as u64);
        rest = &rest[done..];
    }
    drop(progress);
    Ok(images.outcome())
}

/// The texts up to the next picture, as many as the model takes at once.
fn leading_texts(inputs: &[Input]) -> Vec<&str> {
    let texts = inputs.iter().map_while(|input| match input {
        Input::Text(text) => Some(text.as_str()),
        Input::Picture(_) => None,
    });
    texts.take(TEXT_BATCH).collect()
}

fn embed_texts(embedder: &dyn Embedder, texts: &[&str], raw: bool, printer: &Printer) -> Result<()> {
    for (text, embedding) in texts.iter().zip(embedder.embed_text(texts, raw)?) {
        printer.text(text, &embedding)?;
    }
    Ok(())
}

struct Printer<'a> {
    out: &'a Output,
    model: &'a dyn Model,
}

impl Printer<'_> {
    fn image(&self, name: &str, embedding: &Embedding) -> Result<()> {
        if self.out.json() {
            self.out.line(&Line::image_embedding(name, self.model.name(), embedding))
        } else {
            self.out.text(human(name, embedding))
        }
    }

    fn text(&self, text: &str, embedding: &Embedding) -> Result<()> {
        if self.out.json() {
            self.out.line(&Line::text_embedding(text, self.model.name(), embedding))
        } else {
            self.out.text(human(&format!("{text:?}"), embedding))
        }
    }
}

/// The first few numbers: enough to see that it is there; `--json` has them all.
fn human(name: &str, embedding: &Embedding) -> String {
    let head: Vec<String> = embedding.values.iter().take(6).map(|value| format!("{value:+.4}")).collect();
    format!("{name}  {} numbers: {} …", embedding.values.len(), head.join(" "))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn inputs_keep_the_order_they_were_typed_in() {
        let typed = ["embed", "--text", "one", "--image", "a.jpg", "b.jpg", "--text", "two"];
        let inputs = Only::try_parse_from(typed).unwrap().args.inputs.0;
        let image = |name: &str| Input::Picture(Source::Image(name.into()));
        let text = |text: &str| Input::Text(text.into());
        assert_eq!(inputs, [text("one"), image("a.jpg"), image("b.jpg"), text("two")]);
        assert_eq!(leading_texts(&inputs), ["one"]);
        assert_eq!(leading_texts(&inputs[1..]), Vec::<&str>::new());
    }
}
