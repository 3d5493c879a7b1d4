//! Learns the vocabulary: byte-level BPE (Sennrich et al. 2016, <https://arxiv.org/abs/1508.07909>) over lower-cased text.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, anyhow};
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::normalizers::{Lowercase, NFKC, Sequence, Strip};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, TokenizerBuilder};

use crate::texts::TeacherTable;

/// Learn the vocabulary from the texts of the teacher's table.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder with texts.jsonl and vectors.safetensors, as teacher.py writes them.
    #[arg(long)]
    teacher: PathBuf,
    /// Where the tokenizer.json goes.
    #[arg(long)]
    out: PathBuf,
    /// Number of tokens, special ones included.
    #[arg(long, default_value_t = 4096)]
    vocabulary: usize,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let table = TeacherTable::open(&args.teacher)?;
    let mut trainer = BpeTrainerBuilder::new()
        .vocab_size(args.vocabulary)
        .min_frequency(2)
        .show_progress(false)
        .special_tokens(["<pad>", "<start>", "<end>"].map(|token| AddedToken::from(token, true)).to_vec())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    // A leading space is part of a word's first token, so that a word is the same token wherever it stands.
    let mut tokenizer = TokenizerBuilder::new()
        .with_model(BPE::default())
        .with_normalizer(Some(Sequence::new(vec![NFKC.into(), Strip::new(true, true).into(), Lowercase.into()])))
        .with_pre_tokenizer(Some(ByteLevel::new(true, true, true)))
        .with_post_processor(Some(ByteLevel::new(true, true, true)))
        .with_decoder(Some(ByteLevel::new(true, true, true)))
        .build()
        .map_err(|error| anyhow!("{error}"))?;
    tokenizer.train(&mut trainer, table.texts.iter().map(|entry| entry.text.as_str())).map_err(|error| anyhow!("{error}"))?;
    let json = tokenizer.to_string(false).map_err(|error| anyhow!("{error}"))?;
    fs::write(&args.out, json)?;
    Ok(())
}
