//! `ocelli run`: pictures or a camera, streamed through the model.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, ensure};
use ocelli_flow::{FrameSource, Model, Sink};
use ocelli_pipeline::annotate::Naming;
use ocelli_pipeline::{Annotate, CaptionPlan, Live, Monotonic, PictureOptions, Pictures, Plan, Summary, Tee};

use super::ground::Detecting;
use crate::camera::{self, Camera};
use crate::failure::Outcome;
use crate::generating::Generating;
use crate::interrupt::Stop;
use crate::session::{self, Session};
use crate::show::Show;
use crate::text;

/// As typed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Ctrl-C finishes the frame in hand; a second one quits at once.")]
pub struct Args {
    /// Pictures, folders, patterns in quotes ("photos/*.jpg"), or one camera (/dev/video0)
    #[arg(value_name = "SOURCE", required = true)]
    sources: Vec<PathBuf>,
    /// What to look for, as "a dog"; may be repeated
    #[arg(long, value_name = "S")]
    phrase: Vec<String>,
    #[command(flatten)]
    detecting: Detecting,
    /// Say in one sentence what is there; also what is done where nothing else is asked for
    #[arg(long)]
    caption: bool,
    #[command(flatten)]
    generating: Generating,
    /// Caption one of N frames looked at
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    caption_every: u64,
    /// Put the embedding into each result
    #[arg(long)]
    embed: bool,
    /// Look at one of N frames
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
    /// End after N frames
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_frames: Option<u64>,
    /// From the beginning again after the last picture, until Ctrl-C
    #[arg(long)]
    r#loop: bool,
    /// Folders inside the folders, too
    #[arg(short, long)]
    recursive: bool,
    /// Folder for pictures with boxes, labels and the caption drawn
    #[arg(long, value_name = "DIR")]
    annotate: Option<PathBuf>,
}

/// Where the frames come from.
enum Source {
    Camera(Camera),
    Pictures(Pictures),
}

impl Source {
    /// How annotated pictures are called.
    fn naming(&self) -> Naming {
        match self {
            Self::Camera(_) => Naming::Sequence,
            Self::Pictures(_) => Naming::Origin,
        }
    }
}

/// Everything that can be wrong with the arguments is said before the model is loaded.
pub fn run(session: &Session, args: Args) -> Result<Outcome> {
    text::check_all("--phrase", &args.phrase)?;
    let (ground, options) = (args.detecting.options()?, args.generating.captions()?);
    let source = open(&args)?;
    // A single picture is asked about by itself: if it is bad, so is the command.
    let single =
        matches!(&source, Source::Pictures(pictures) if pictures.paths().len() == 1) && args.sources.iter().all(|source| !source.is_dir());
    let annotate = args.annotate.as_deref().map(|folder| Annotate::new(folder, source.naming())).transpose()?;

    let model = session.model()?;
    let nothing_asked = args.phrase.is_empty() && !args.embed;
    let plan = Plan {
        embed: args.embed,
        phrases: phrases(&*model, &args.phrase)?,
        ground,
        caption: (args.caption || nothing_asked).then_some(CaptionPlan { every: args.caption_every, options }),
        every: args.every,
        max_frames: args.max_frames,
    };

    let stop = Stop::on_ctrl_c()?;
    let mut source: Box<dyn FrameSource> = match source {
        Source::Pictures(pictures) => Box::new(pictures),
        Source::Camera(camera) => Box::new(Live::start(camera, Arc::clone(stop.flag()))),
    };
    let show = Show::new(session.out.clone(), source.len_hint(), args.phrase, source.live());
    let mut sinks: Vec<Box<dyn Sink>> = vec![Box::new(show)];
    sinks.extend(annotate.map(|annotate| Box::new(annotate) as Box<dyn Sink>));
    let mut sink = Tee::new(sinks);
    let summary = ocelli_pipeline::run(&mut *source, &*model, &plan, &mut sink, stop.flag(), &Monotonic)?;
    // Takes the progress bar away before anything else is said.
    drop(sink);
    Ok(conclude(session, &summary, single))
}

/// A camera alone, or all pictures of all places in the order they were named.
fn open(args: &Args) -> Result<Source> {
    let cameras: Vec<&PathBuf> = args.sources.iter().filter(|source| is_camera(source)).collect();
    if let Some(camera) = cameras.first() {
        ensure!(
            args.sources.len() == 1,
            "{}: a camera can only be the one source of a run; start another run for the rest",
            camera.display()
        );
        ensure!(!args.r#loop, "--loop: a camera does not end; leave that out");
        return Ok(Source::Camera(camera::open(camera)?));
    }
    let options = PictureOptions { recursive: args.recursive, looped: args.r#loop };
    Ok(Source::Pictures(Pictures::open_all(args.sources.iter().map(PathBuf::as_path), options)?))
}

/// Named like a V4L2 device, or a device at all.
fn is_camera(source: &Path) -> bool {
    source.to_str().is_some_and(|name| name.starts_with("/dev/video")) || is_device(source)
}

#[cfg(unix)]
fn is_device(source: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(source).is_ok_and(|metadata| metadata.file_type().is_char_device())
}

#[cfg(not(unix))]
fn is_device(_: &Path) -> bool {
    false
}

fn phrases(model: &dyn Model, phrases: &[String]) -> Result<Option<ocelli_flow::PhraseSet>> {
    if phrases.is_empty() {
        return Ok(None);
    }
    let phrases: Vec<&str> = phrases.iter().map(String::as_str).collect();
    Ok(Some(session::grounder(model)?.phrases(&phrases)?))
}

fn conclude(session: &Session, summary: &Summary, single: bool) -> Outcome {
    if summary.bad == 0 {
        return Outcome::Done;
    }
    if single {
        return Outcome::BadInput;
    }
    session.out.complain(&format!("{} of {} pictures could not be read", summary.bad, summary.bad + summary.frames + summary.skipped));
    Outcome::SomeBad
}
