//! `ocelli search`: the pictures of a folder that fit a text.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use ocelli_flow::{Embedder, Embedding, Model};
use serde::Serialize;

use crate::cache::{self, Cache, Stamp};
use crate::failure::Outcome;
use crate::images::Images;
use crate::interrupt::Stop;
use crate::output::Output;
use crate::session::{self, Session};
use crate::text;

/// As typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder with pictures
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// What to look for, as "a dog on the beach"; several are answered one after another
    #[arg(value_name = "TEXT", required = true)]
    queries: Vec<String>,
    /// Show the best K pictures of each text
    #[arg(long, value_name = "K", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,
    /// Folders inside the folder, too
    #[arg(short, long)]
    recursive: bool,
    /// Embed every picture again, whatever the cache knows
    #[arg(long)]
    refresh: bool,
}

/// One picture of an answer.
#[derive(Debug, Serialize, PartialEq)]
struct Match<'a> {
    r#type: &'static str,
    query: &'a str,
    rank: usize,
    image: String,
    /// Cosine similarity.
    score: f32,
}

/// Embeds what is new in the folder, then ranks it for each text.
pub fn run(session: &Session, args: Args) -> Result<Outcome> {
    text::check_all("TEXT", &args.queries)?;
    ensure!(!args.folder.is_file(), "{}: this is a file; search takes a folder with pictures", args.folder.display());
    let pictures = ocelli_pipeline::source::list(&args.folder, args.recursive)?;

    let bundle = session.bundle()?;
    let cache_file = cache::place(&bundle.digest(), &args.folder);
    let model = session.load(&bundle)?;
    let embedder = session::embedder(&*model)?;
    let queries: Vec<&str> = args.queries.iter().map(String::as_str).collect();
    let queries_embedded = embedder.embed_text(&queries, false)?;

    let known = cache_file.as_deref().filter(|_| !args.refresh);
    let mut index = Index {
        folder: &args.folder,
        cache: known.map_or_else(|| Cache::empty(embedder.dim()), |file| Cache::load(file, embedder.dim())),
        images: Images::new(&session.out),
    };
    let stop = Stop::on_ctrl_c()?;
    let embedded = index.embed(&pictures, &*model, embedder, &session.out, &stop)?;
    index.cache.retain(|path| args.folder.join(path).exists());
    if let Some(Err(error)) = cache_file.as_deref().map(|file| index.cache.save(file)) {
        session.out.note(format!("these embeddings could not be kept for the next search: {error}"));
    }
    if stop.raised() {
        return Ok(Outcome::Interrupted);
    }

    for (query, wanted) in queries.iter().zip(&queries_embedded) {
        let matches = rank(query, wanted, &embedded, args.top as usize);
        show(&session.out, query, &matches, queries.len() > 1)?;
    }
    // As in `run`: bad pictures of a folder do not spoil the others.
    Ok(if index.images.outcome() == Outcome::Done { Outcome::Done } else { Outcome::SomeBad })
}

struct Index<'a> {
    folder: &'a Path,
    cache: Cache,
    images: Images<'a>,
}

impl Index<'_> {
    /// Every readable picture with its embedding; those that the cache does not know are looked at.
    fn embed(
        &mut self,
        pictures: &[PathBuf],
        model: &dyn Model,
        embedder: &dyn Embedder,
        out: &Output,
        stop: &Stop,
    ) -> Result<Vec<(PathBuf, Embedding)>> {
        let mut progress = out.progress("pictures", Some(pictures.len() as u64));
        let mut embedded = Vec::with_capacity(pictures.len());
        for path in pictures {
            if stop.raised() {
                break;
            }
            let key = path.strip_prefix(self.folder).unwrap_or(path).to_string_lossy().into_owned();
            // A picture that cannot even be looked up is reported by the attempt to decode it.
            let stamp = Stamp::of(path).ok();
            let known = stamp.and_then(|stamp| self.cache.get(&key, stamp).cloned());
            let embedding = match known {
                Some(embedding) => Some(embedding),
                None => {
                    let fresh = self.images.look(path, |_, frame| Ok(embedder.embed_image(&model.encode(frame)?, false)?))?;
                    if let (Some(stamp), Some(fresh)) = (stamp, &fresh) {
                        self.cache.insert(&key, stamp, fresh.clone());
                    }
                    fresh
                }
            };
            embedded.extend(embedding.map(|embedding| (path.clone(), embedding)));
            progress.step();
        }
        Ok(embedded)
    }
}

/// The best `top`, best first; pictures that fit equally well stay in the folder's order.
fn rank<'a>(query: &'a str, wanted: &Embedding, pictures: &[(PathBuf, Embedding)], top: usize) -> Vec<Match<'a>> {
    let mut scored: Vec<(f32, &PathBuf)> = pictures.iter().map(|(path, embedding)| (wanted.dot(embedding), path)).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    let ranked = scored.into_iter().take(top).zip(1..);
    ranked.map(|((score, path), rank)| Match { r#type: "match", query, rank, image: path.to_string_lossy().into_owned(), score }).collect()
}

fn show(out: &Output, query: &str, matches: &[Match], several: bool) -> Result<()> {
    if several && !out.json() {
        out.text(query)?;
    }
    for found in matches {
        if out.json() {
            out.line(found)?;
        } else {
            out.text(format!("{}{:.3}  {}", if several { "  " } else { "" }, found.score, found.image))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_first_and_no_more_than_asked_for() {
        let picture = |name: &str, x: f32| (PathBuf::from(name), Embedding { values: vec![x] });
        let pictures = [picture("a", 0.1), picture("b", 0.9), picture("c", 0.9), picture("d", 0.5)];
        let matches = rank("q", &Embedding { values: vec![1.0] }, &pictures, 3);
        let names: Vec<&str> = matches.iter().map(|found| found.image.as_str()).collect();
        assert_eq!(names, ["b", "c", "d"]);
        assert_eq!((matches[0].rank, matches[2].rank), (1, 3));
    }
}
