//! The files that an importer needs, out of all that a repository has.
//!
//! One set of weights, safetensors before PyTorch's pickles, and no copy of them for ONNX, TensorFlow or Flax. Only files at the
//! repository's top: those of transformers and OpenCLIP lie there.

/// Configuration, preprocessing, tokenizer, and what says under which licence.
const SMALL_FILES: &[&str] = &[
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "image_processor_config.json",
    "open_clip_config.json",
    "adapter_config.json",
    "chat_template.json",
    "chat_template.jinja",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.model",
    "sentencepiece.bpe.model",
    "README.md",
    "LICENSE",
    "LICENSE.md",
    "LICENSE.txt",
    "NOTICE",
];

/// Names of weights, the best first: the stem of a file that may be in parts, and its ending.
const WEIGHTS: &[(&str, &str)] = &[
    ("model", "safetensors"),
    ("open_clip_model", "safetensors"),
    ("pytorch_model", "bin"),
    ("open_clip_pytorch_model", "bin"),
    ("adapter_model", "safetensors"),
    ("adapter_model", "bin"),
];

/// Weights that cannot be chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unsuitable {
    /// None of a kind that is read.
    NoWeights,
    /// The first part that is not there.
    MissingShard(String),
}

/// Which of these files to fetch: the small ones first, so that a mistake is found before gigabytes have come. Sorted within both.
///
/// # Errors
/// [`Unsuitable`] if there are no weights, or not all parts of them.
pub fn choose<'a>(files: impl IntoIterator<Item = &'a str>) -> Result<Vec<String>, Unsuitable> {
    let files: Vec<&str> = files.into_iter().collect();
    let weights = WEIGHTS.iter().find_map(|(stem, ending)| weights(&files, stem, ending)).ok_or(Unsuitable::NoWeights)??;
    let mut small: Vec<String> = SMALL_FILES.iter().filter(|name| files.contains(name)).map(|name| (*name).to_owned()).collect();
    small.sort();
    small.extend(weights);
    Ok(small)
}

/// Weights of this name: one file, or an index and its parts. `None`: there are none.
fn weights(files: &[&str], stem: &str, ending: &str) -> Option<Result<Vec<String>, Unsuitable>> {
    let whole = format!("{stem}.{ending}");
    if files.contains(&whole.as_str()) {
        return Some(Ok(vec![whole]));
    }
    let parts = files.iter().filter_map(|file| part_count(file, stem, ending)).max()?;
    let names = (1..=parts).map(|part| format!("{stem}-{part:05}-of-{parts:05}.{ending}"));
    let wanted: Vec<String> = [format!("{stem}.{ending}.index.json")].into_iter().chain(names).collect();
    Some(match wanted.iter().find(|name| !files.contains(&name.as_str())) {
        Some(missing) => Err(Unsuitable::MissingShard(missing.clone())),
        None => Ok(wanted),
    })
}

/// The 3 of `model-00001-of-00003.safetensors`.
fn part_count(file: &str, stem: &str, ending: &str) -> Option<u32> {
    let middle = file.strip_prefix(stem)?.strip_prefix('-')?.strip_suffix(ending)?.strip_suffix('.')?;
    let (part, parts) = middle.split_once("-of-")?;
    let number = |text: &str| (text.len() == 5).then(|| text.parse::<u32>().ok()).flatten();
    number(part)?;
    number(parts).filter(|parts| *parts > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(files: &[&str]) -> Result<Vec<String>, Unsuitable> {
        choose(files.iter().copied())
    }

    #[test]
    fn one_set_of_weights_and_the_small_files() {
        let files = [
            ".gitattributes",
            "README.md",
            "config.json",
            "flax_model.msgpack",
            "merges.txt",
            "model.safetensors",
            "onnx/model.onnx",
            "onnx/config.json",
            "preprocessor_config.json",
            "pytorch_model.bin",
            "tf_model.h5",
            "tokenizer.json",
            "vocab.json",
        ];
        assert_eq!(
            chosen(&files).unwrap(),
            ["README.md", "config.json", "merges.txt", "preprocessor_config.json", "tokenizer.json", "vocab.json", "model.safetensors"]
        );
        assert_eq!(chosen(&["config.json", "pytorch_model.bin"]).unwrap(), ["config.json", "pytorch_model.bin"]);
        let openclip = ["open_clip_config.json", "open_clip_model.safetensors", "open_clip_pytorch_model.bin", "pytorch_model.bin"];
        assert_eq!(chosen(&openclip).unwrap(), ["open_clip_config.json", "open_clip_model.safetensors"]);
    }

    #[test]
    fn parts_come_with_their_index_and_all_of_them() {
        let mut files = vec![
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "pytorch_model.bin",
        ];
        assert_eq!(
            chosen(&files).unwrap(),
            ["model.safetensors.index.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
        );
        files.remove(1);
        assert_eq!(chosen(&files), Err(Unsuitable::MissingShard("model-00002-of-00002.safetensors".into())));
        assert_eq!(
            chosen(&["pytorch_model-00001-of-00001.bin"]),
            Err(Unsuitable::MissingShard("pytorch_model.bin.index.json".into())),
            "an index is part of it"
        );
    }

    #[test]
    fn without_weights_there_is_nothing_to_import() {
        for files in
            [&["config.json"][..], &[], &["model.gguf", "sub/model.safetensors", "model-1-of-2.safetensors", "../model.safetensors"]]
        {
            assert_eq!(chosen(files), Err(Unsuitable::NoWeights), "{files:?}");
        }
    }
}
