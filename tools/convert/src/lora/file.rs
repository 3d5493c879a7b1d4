//! The tensors of an adapter, in pairs of A and B.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::AdapterError;
use super::config::Config;
use crate::ImportError;
use crate::checkpoint::{Checkpoint, Tensor};
use crate::source::Weights;

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: [&str; 2] = ["adapter_model.safetensors", "adapter_model.bin"];
/// What PEFT puts before the names of the model.
const PREFIX: &str = "base_model.model.";

/// An adapter whose values are not read yet.
#[derive(Debug)]
pub struct AdapterFile {
    pub folder: PathBuf,
    /// The configuration and the weights.
    pub files: Vec<PathBuf>,
    /// The layers that are adapted, by their names in the model.
    pub modules: BTreeMap<String, Module>,
}

/// An adapted layer: `scale · B A` is added to its weight.
#[derive(Debug)]
pub struct Module {
    /// `[rank, inputs]`, or `[rank, channels, height, width]` of a convolution.
    pub a: Tensor,
    /// `[outputs, rank]`, or that and axes of length 1.
    pub b: Tensor,
    pub rank: usize,
    pub inputs: usize,
    pub outputs: usize,
    pub scale: f64,
}

impl AdapterFile {
    /// Reads configuration and header, and checks all but the values.
    pub fn open(folder: &Path) -> Result<Self, ImportError> {
        let config_file = folder.join(CONFIG);
        if !config_file.is_file() {
            return Err(ImportError::absent(folder, format!("no {CONFIG} here; give the folder of an adapter as PEFT writes it")));
        }
        let config = Config::read(&config_file)?;
        let Some(path) = WEIGHTS.iter().map(|name| folder.join(name)).find(|path| path.is_file()) else {
            return Err(ImportError::absent(folder, format!("{CONFIG}, but no {}; download it, too", WEIGHTS[0])));
        };
        let checkpoint = Checkpoint::open(&Weights::File(path.clone()))?;
        let modules = modules(&checkpoint, &config).map_err(|source| ImportError::Adapter { path: path.clone(), source })?;
        Ok(Self { folder: folder.to_owned(), files: vec![config_file, path], modules })
    }
}

fn modules(checkpoint: &Checkpoint, config: &Config) -> Result<BTreeMap<String, Module>, AdapterError> {
    let mut halves: BTreeMap<String, [Option<&Tensor>; 2]> = BTreeMap::new();
    for name in checkpoint.names() {
        // What a layer was before, which PEFT keeps of the largest ones, is the model's own.
        if name.ends_with(".base_layer.weight") || name.ends_with(".base_layer.bias") {
            continue;
        }
        let (module, half) = half(name)?;
        if let Some(tensor) = checkpoint.get(name)
            && halves.entry(module.to_owned()).or_default()[half].replace(tensor).is_some()
        {
            return Err(AdapterError::Unsupported { what: format!("{module} has two adapters in one file") });
        }
    }
    if halves.is_empty() {
        return Err(AdapterError::Nothing);
    }
    halves.into_iter().map(|(name, halves)| Ok((name.clone(), pair(name, halves, config)?))).collect()
}

/// A tensor's layer, and which half of the pair it is: 0 is A.
fn half(name: &str) -> Result<(&str, usize), AdapterError> {
    let unsupported = |what: &str| AdapterError::Unsupported { what: format!("tensor {name} is {what}") };
    for (mark, what) in [("lora_magnitude_vector", "DoRA's"), ("lora_embedding_", "of an adapted embedding")] {
        if name.contains(mark) {
            return Err(unsupported(what));
        }
    }
    let own = name.strip_prefix(PREFIX).unwrap_or(name);
    let split = |mark: &str| own.rsplit_once(mark);
    let (module, rest, half) = match (split(".lora_A."), split(".lora_B.")) {
        (Some((module, rest)), _) => (module, rest, 0),
        (_, Some((module, rest))) => (module, rest, 1),
        _ => return Err(unsupported("none of LoRA's")),
    };
    // The adapter's name may stand between.
    match rest.rsplit('.').next() {
        Some("weight") if rest.split('.').count() <= 2 => Ok((module, half)),
        Some("bias") => Err(unsupported("a bias of LoRA's")),
        _ => Err(unsupported("none of LoRA's")),
    }
}

fn pair(module: String, halves: [Option<&Tensor>; 2], config: &Config) -> Result<Module, AdapterError> {
    let (a, b) = match halves {
        [Some(a), Some(b)] => (a, b),
        [None, _] => return Err(AdapterError::Half { module, missing: "lora_A" }),
        [_, None] => return Err(AdapterError::Half { module, missing: "lora_B" }),
    };
    if let Some((half, tensor)) = [("lora_A", a), ("lora_B", b)].into_iter().find(|(_, tensor)| !tensor.element.is_read()) {
        let what = format!("{module}.{half} has values of type {:?}", tensor.element);
        return Err(AdapterError::Unsupported { what });
    }
    let wrong = |reason: String| AdapterError::Rank { module: module.clone(), reason };
    let (&[rank, ..], &[outputs, second, ref rest @ ..]) = (a.shape.as_slice(), b.shape.as_slice()) else {
        return Err(wrong(format!("lora_A has shape {:?} and lora_B {:?}, which are no matrices", a.shape, b.shape)));
    };
    if second != rank || rest.iter().any(|&side| side != 1) || a.shape.len() < 2 {
        return Err(wrong(format!("lora_A has shape {:?} and lora_B {:?}, which do not fit together", a.shape, b.shape)));
    }
    let said = config.rank(&module);
    if rank != said {
        return Err(wrong(format!("lora_A has rank {rank}, and the configuration says {said}")));
    }
    let inputs = a.shape[1..].iter().try_fold(1usize, |product, &side| product.checked_mul(side)).unwrap_or(usize::MAX);
    let scale = config.scale(&module, rank);
    Ok(Module { a: a.clone(), b: b.clone(), rank, inputs, outputs, scale })
}

#[cfg(test)]
mod tests {
    use super::half;

    #[test]
    fn names_of_halves() {
        assert_eq!(half("base_model.model.model.q_proj.lora_A.weight").unwrap(), ("model.q_proj", 0));
        assert_eq!(half("base_model.model.model.q_proj.lora_B.default.weight").unwrap(), ("model.q_proj", 1));
        assert_eq!(half("q_proj.lora_B.weight").unwrap(), ("q_proj", 1));
        for (name, word) in [
            ("a.q_proj.lora_magnitude_vector", "DoRA"),
            ("a.embed.lora_embedding_A", "embedding"),
            ("a.q_proj.lora_B.bias", "bias"),
            ("a.lm_head.weight", "none of LoRA's"),
        ] {
            assert!(half(name).unwrap_err().to_string().contains(word), "{name}");
        }
    }
}
