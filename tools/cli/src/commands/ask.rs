//! `ocelli ask`: an answer to a question about pictures.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use ocelli_flow::{Encoded, Message, Model, Part, Prompt, Role};
use ocelli_pipeline::json::Line;

use crate::failure::Outcome;
use crate::generating::{Generating, Live};
use crate::lora::Loras;
use crate::session::{self, Session};
use crate::source::{Source, Tiling};
use crate::text;

/// As typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to ask, or the whole prompt with `--raw`
    question: String,
    /// Picture that the question is about; may be repeated
    #[arg(long, value_name = "P")]
    image: Vec<PathBuf>,
    /// In place of a picture, a file that `preprocess` wrote
    #[arg(long, value_name = "F")]
    pixels: Vec<PathBuf>,
    /// A picture with the answer that the question has there; may be repeated
    #[arg(long, value_names = ["P", "ANSWER"], num_args = 2)]
    example: Vec<String>,
    /// How the model shall answer
    #[arg(long, value_name = "S")]
    system: Option<String>,
    /// The question is the whole prompt, with a marker as `<image>` for each picture; no chat template
    #[arg(long, conflicts_with_all = ["example", "system"])]
    raw: bool,
    #[command(flatten)]
    tiling: Tiling,
    #[command(flatten)]
    loras: Loras,
    #[command(flatten)]
    generating: Generating,
}

/// One answer.
pub fn run(session: &Session, args: Args) -> Result<Outcome> {
    ensure!(!args.question.trim().is_empty(), "the question is empty; write what you want to know");
    let options = args.generating.options()?;
    let examples: Vec<(PathBuf, &String)> = args.example.chunks_exact(2).map(|pair| (PathBuf::from(&pair[0]), &pair[1])).collect();
    examples.iter().try_for_each(|(_, answer)| text::check("--example", answer))?;

    let model = args.loras.model(session)?;
    let answerer = session::answerer(&*model)?;
    let asked: Vec<Source> = args.image.iter().cloned().map(Source::Image).chain(args.pixels.iter().cloned().map(Source::Pixels)).collect();
    let shown = examples.iter().map(|(path, _)| Source::Image(path.clone()));
    let encoded = shown.chain(asked.clone()).map(|source| encode(&source, &args.tiling, &*model)).collect::<Result<Vec<_>>>()?;
    let prompt = if args.raw {
        Prompt::Raw(args.question.clone())
    } else {
        Prompt::Messages(messages(&args.question, args.system.as_deref(), &examples, asked.len()))
    };
    let mut live = Live::new(&session.out);
    let answer = answerer.ask(&encoded.iter().collect::<Vec<_>>(), &prompt, &options, &mut live)?;
    if session.out.json() {
        let images: Vec<String> = asked.iter().map(|source| source.path().to_string_lossy().into_owned()).collect();
        session.out.line(&Line::answer(&images, &args.question, &answer))?;
    } else {
        live.finish(&session.out, answer.text.trim())?;
    }
    Ok(Outcome::Done)
}

fn encode(source: &Source, tiling: &Tiling, model: &dyn Model) -> Result<Encoded> {
    let looked = source.read()?;
    tiling.encode(&looked, model).with_context(|| source.path().to_string_lossy().into_owned())
}

/// The examples as turns that have been, then the question.
fn messages(question: &str, system: Option<&str>, examples: &[(PathBuf, &String)], pictures: usize) -> Vec<Message> {
    let words = |text: &str| Part::Text(text.to_owned());
    let turn = |role, parts| Message { role, parts };
    let mut messages: Vec<Message> = system.map(|system| turn(Role::System, vec![words(system)])).into_iter().collect();
    for (_, answer) in examples {
        messages.push(turn(Role::User, vec![Part::Picture, words(question)]));
        messages.push(turn(Role::Assistant, vec![words(answer)]));
    }
    let parts = std::iter::repeat_n(Part::Picture, pictures).chain([words(question)]).collect();
    messages.push(turn(Role::User, parts));
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_come_before_the_question() {
        let answer = "a cat".to_owned();
        let messages = messages("What is it?", Some("Be short."), &[("a.jpg".into(), &answer)], 2);
        let roles: Vec<&str> = messages.iter().map(|message| message.role.name()).collect();
        assert_eq!(roles, ["system", "user", "assistant", "user"]);
        assert_eq!(messages[3].parts, [Part::Picture, Part::Picture, Part::Text("What is it?".into())]);
    }
}
