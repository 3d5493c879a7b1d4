//! What a file is of: its configuration as transformers' `config.json` has it, and transformers' names of its tensors.
//!
//! Keys and names are those of llama.cpp's conversion, <https://github.com/ggml-org/llama.cpp/tree/master/conversion> (`llama.py`,
//! `smolvlm.py`) and its `gguf-py/gguf/constants.py`.

use serde_json::{Map, Value, json};

use super::error::GgufError;
use super::reader::{Contents, RawTensor};
use super::stored::RowOrder;
use super::value::Metadata;

/// What a file is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// A language model of Llama's kind: `general.architecture` is `llama`.
    Language,
    /// The vision tower of Idefics 3 or SmolVLM, and what leads from it into the language model: `mmproj` files.
    Projector,
    /// Something else, whose tensors keep their names.
    Other,
}

/// The key of what a file is of.
pub(super) const ARCHITECTURE: &str = "general.architecture";

/// The key of whether that is a model.
const TYPE: &str = "general.type";

/// What a file is of.
pub(super) fn content(metadata: &Metadata) -> Result<Content, GgufError> {
    let parts = metadata.count("split.count")?.unwrap_or(1);
    if parts > 1 {
        let reason = format!("one of {parts} files of a model; join them with llama.cpp's `llama-gguf-split --merge` and give the whole");
        return Err(GgufError::Architecture(reason));
    }
    Ok(match metadata.text(ARCHITECTURE)? {
        // Adapters and vectors are of llama, too, and no models.
        Some("llama") if metadata.text(TYPE)?.is_none_or(|kind| kind == "model") => Content::Language,
        Some("clip") if projector(metadata)? == Some("idefics3") => Content::Projector,
        _ => Content::Other,
    })
}

fn projector(metadata: &Metadata) -> Result<Option<&str>, GgufError> {
    Ok(metadata.text("clip.projector_type")?.or(metadata.text("clip.vision.projector_type")?))
}

/// The configuration, or why there is none.
pub(super) fn config(file: &Contents, content: Content) -> Result<Value, GgufError> {
    match content {
        Content::Language => llama(file),
        Content::Projector => idefics3(&file.metadata),
        Content::Other => {
            let metadata = &file.metadata;
            let what = match (metadata.text(ARCHITECTURE)?, projector(metadata)?.or(metadata.text(TYPE)?)) {
                (Some(name), Some(kind)) => format!("type {name}, {kind},"),
                (Some(name), None) => format!("type {name},"),
                (None, _) => return Err(GgufError::metadata(ARCHITECTURE, "is missing; convert the model again with a recent llama.cpp")),
            };
            Err(GgufError::Architecture(format!(
                "a GGUF file of {what} and only models of type llama and projectors of type idefics3 are read; take the model's safetensors"
            )))
        }
    }
}

/// Integers and numbers below a prefix.
struct Keys<'a> {
    metadata: &'a Metadata,
    prefix: &'static str,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    fn optional(&self, name: &str) -> Result<Option<u64>, GgufError> {
        let key = self.key(name);
        let Some(value) = self.metadata.get(&key) else { return Ok(None) };
        // A number for all layers, or one for each, which must be the same then.
        if let super::value::Value::Array(each) = value {
            let mut each = each.iter().map(|value| value.count());
            let first = each.next().flatten();
            return match first.filter(|_| each.all(|next| next == first)) {
                Some(number) => Ok(Some(number)),
                None => Err(GgufError::metadata(&key, "differs from layer to layer, which is not read; take another model")),
            };
        }
        self.metadata.count(&key)
    }

    /// An integer from 1 on that fits into what shapes are made of.
    fn size(&self, name: &str) -> Result<u64, GgufError> {
        let key = self.key(name);
        let size = self.metadata.need(&key, self.optional(name))?;
        if size == 0 || size > u64::from(u32::MAX) {
            return Err(GgufError::metadata(&key, format!("is {size}, which is no size; the file is damaged, download it again")));
        }
        Ok(size)
    }

    fn number(&self, name: &str) -> Result<Option<f64>, GgufError> {
        self.metadata.number(&self.key(name))
    }
}

fn tensor<'a>(file: &'a Contents, name: &str) -> Option<&'a RawTensor> {
    file.tensors.iter().find(|tensor| tensor.name == name)
}

/// transformers' `LlamaForCausalLM`.
fn llama(file: &Contents) -> Result<Value, GgufError> {
    let (metadata, keys) = (&file.metadata, Keys { metadata: &file.metadata, prefix: "llama" });
    let (width, heads) = (keys.size("embedding_length")?, keys.size("attention.head_count")?);
    let kv_heads = keys.optional("attention.head_count_kv")?.unwrap_or(heads);
    let head = keys.optional("attention.key_length")?.unwrap_or(width / heads);
    let unread = |what: String| GgufError::Architecture(format!("a language model with {what}, which is not read; take another model"));
    if keys.optional("expert_count")?.unwrap_or(0) > 0 {
        return Err(unread("experts".to_owned()));
    }
    for (name, should) in [("attention.value_length", head), ("rope.dimension_count", head)] {
        if let Some(is) = keys.optional(name)?.filter(|&is| is != should) {
            return Err(unread(format!("heads of {head} and {} {is}", keys.key(name))));
        }
    }
    if tensor(file, "rope_freqs.weight").is_some() {
        return Err(unread("Llama 3.1's scaling of rotary angles (rope_freqs.weight)".to_owned()));
    }
    let table = tensor(file, "token_embd.weight").and_then(|table| table.shape.first().copied());
    let tokens = metadata.array("tokenizer.ggml.tokens")?.map(super::value::Array::len);
    let vocabulary = table.map(|rows| rows as u64).or(keys.optional("vocab_size")?).or(tokens.map(|count| count as u64));
    let mut config = json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": width,
        "intermediate_size": keys.size("feed_forward_length")?,
        "num_hidden_layers": keys.size("block_count")?,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head,
        "rms_norm_eps": metadata.need("llama.attention.layer_norm_rms_epsilon", keys.number("attention.layer_norm_rms_epsilon"))?,
        "rope_theta": keys.number("rope.freq_base")?.unwrap_or(10_000.0),
        "vocab_size": metadata.need("llama.vocab_size", Ok(vocabulary))?,
        "max_position_embeddings": keys.size("context_length")?,
        "tie_word_embeddings": tensor(file, "output.weight").is_none(),
        "attention_bias": tensor(file, "blk.0.attn_q.bias").is_some(),
        "mlp_bias": tensor(file, "blk.0.ffn_up.bias").is_some(),
    });
    if let Some(scaling) = scaling(metadata, &keys)? {
        config["rope_scaling"] = scaling;
    }
    for (name, key) in [("bos_token_id", "bos"), ("eos_token_id", "eos"), ("pad_token_id", "padding")] {
        if let Some(id) = metadata.count(&format!("tokenizer.ggml.{key}_token_id"))? {
            config[name] = json!(id);
        }
    }
    Ok(config)
}

/// How rotary angles are scaled, where they are.
fn scaling(metadata: &Metadata, keys: &Keys) -> Result<Option<Value>, GgufError> {
    let kind = metadata.text("llama.rope.scaling.type")?;
    // Older files have the factor alone, and mean a linear one.
    let factor = keys.number("rope.scaling.factor")?.or(keys.number("rope.scale_linear")?).unwrap_or(1.0);
    match kind {
        None | Some("linear") if factor == 1.0 => Ok(None),
        None | Some("linear") => Ok(Some(json!({"rope_type": "linear", "factor": factor}))),
        Some("none") => Ok(None),
        Some(other) => Err(GgufError::Architecture(format!(
            "a language model whose rotary angles are scaled by {other}, and only linear scaling is read; take another model"
        ))),
    }
}

/// The parts of transformers' `Idefics3Config` that are not its language model.
fn idefics3(metadata: &Metadata) -> Result<Value, GgufError> {
    let keys = Keys { metadata, prefix: "clip.vision" };
    let flag = |key: &str| metadata.flag(key).map(|flag| flag.unwrap_or(false));
    // As clip.cpp has it: its gelu is the one with tanh.
    let activation = match (flag("clip.use_gelu")?, flag("clip.use_silu")?) {
        (true, _) => "gelu_pytorch_tanh",
        (_, true) => "silu",
        _ => "quick_gelu",
    };
    let epsilon = "clip.vision.attention.layer_norm_epsilon";
    let vision = json!({
        "model_type": "idefics3_vision",
        "hidden_act": activation,
        "hidden_size": keys.size("embedding_length")?,
        "intermediate_size": keys.size("feed_forward_length")?,
        "num_hidden_layers": keys.size("block_count")?,
        "num_attention_heads": keys.size("attention.head_count")?,
        "image_size": keys.size("image_size")?,
        "patch_size": keys.size("patch_size")?,
        "num_channels": 3,
        "layer_norm_eps": metadata.need(epsilon, metadata.number(epsilon))?,
    });
    Ok(json!({
        "architectures": ["Idefics3ForConditionalGeneration"],
        "model_type": "idefics3",
        "scale_factor": keys.size("projector.scale_factor")?,
        "vision_config": vision,
        // Width of the language model that it belongs to.
        "text_config": {"hidden_size": keys.size("projection_dim")?},
    }))
}

/// The configuration of both: an `Idefics3ForConditionalGeneration`.
pub(super) fn joined(language: &Value, projector: &Value, image_token: Option<u32>) -> Result<Value, GgufError> {
    let (has, needs) = (&language["hidden_size"], &projector["text_config"]["hidden_size"]);
    if has != needs {
        let reason = format!("the projector leads into a language model of width {needs}, and this one has {has}: take those of one model");
        return Err(GgufError::Architecture(reason));
    }
    let mut both = projector.clone();
    let text: Map<String, Value> = language
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| *key != "architectures")
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    for key in ["tie_word_embeddings", "bos_token_id", "eos_token_id", "pad_token_id", "vocab_size"] {
        if let Some(value) = text.get(key) {
            both[key] = value.clone();
        }
    }
    both["text_config"] = Value::Object(text);
    if let Some(id) = image_token {
        both["image_token_id"] = json!(id);
    }
    Ok(both)
}

/// transformers' `preprocessor_config.json` of a projector.
pub(super) fn preprocessing(metadata: &Metadata) -> Result<Value, GgufError> {
    let keys = Keys { metadata, prefix: "clip.vision" };
    let three = |name: &str| -> Result<Value, GgufError> {
        let key = keys.key(name);
        let values = metadata.need(&key, metadata.array(&key))?;
        let values: Vec<f64> = values.iter().take(4).filter_map(|value| value.number()).filter(|number| number.is_finite()).collect();
        if values.len() == 3 {
            Ok(json!(values))
        } else {
            Err(GgufError::metadata(&key, "should be three numbers; convert the model again"))
        }
    };
    let size = keys.size("image_size")?;
    let longest = if metadata.get("clip.vision.preproc_image_size").is_some() { keys.size("preproc_image_size")? } else { size };
    Ok(json!({
        "image_processor_type": "Idefics3ImageProcessor",
        "do_convert_rgb": true,
        "do_image_splitting": true,
        "do_resize": true,
        "size": {"longest_edge": longest},
        "max_image_size": {"longest_edge": size},
        "resample": 1,
        "do_rescale": true,
        "rescale_factor": 1.0 / 255.0,
        "do_normalize": true,
        "image_mean": three("image_mean")?,
        "image_std": three("image_std")?,
        "do_pad": true,
    }))
}

/// Names of a layer's parts: the file's and transformers'.
const LANGUAGE_LAYER: [(&str, &str); 9] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

const LANGUAGE: [(&str, &str); 3] = [("token_embd", "model.embed_tokens"), ("output_norm", "model.norm"), ("output", "lm_head")];

const PROJECTOR_LAYER: [(&str, &str); 8] = [
    ("ln1", "layer_norm1"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_out", "self_attn.out_proj"),
    ("ln2", "layer_norm2"),
    ("ffn_up", "mlp.fc1"),
    ("ffn_down", "mlp.fc2"),
];

const PROJECTOR: [(&str, &str); 4] = [
    ("v.patch_embd", "model.vision_model.embeddings.patch_embedding"),
    ("v.position_embd", "model.vision_model.embeddings.position_embedding"),
    ("v.post_ln", "model.vision_model.post_layernorm"),
    ("mm.model.fc", "model.connector.modality_projection.proj"),
];

/// The rules by which tensors get their names.
#[derive(Debug)]
pub(super) struct Names {
    content: Content,
    /// Rows of a head; 0 where that is not said.
    head: usize,
    /// Older projectors call the first layer of a feed-forward network `ffn_down`, and the second `ffn_up`.
    swapped: bool,
}

impl Names {
    pub fn of(file: &Contents, content: Content) -> Result<Self, GgufError> {
        let mut names = Self { content, head: 0, swapped: false };
        match content {
            Content::Language => {
                // Vocabularies alone say nothing of heads, and need none.
                let keys = Keys { metadata: &file.metadata, prefix: "llama" };
                let (width, heads) = (keys.optional("embedding_length")?, keys.optional("attention.head_count")?);
                let head = keys.optional("attention.key_length")?.or(width.zip(heads).and_then(|(width, heads)| width.checked_div(heads)));
                names.head = head.and_then(|head| usize::try_from(head).ok()).unwrap_or(0);
            }
            Content::Projector => {
                let width = Keys { metadata: &file.metadata, prefix: "clip.vision" }.optional("embedding_length")?;
                let inputs = tensor(file, "v.blk.0.ffn_down.weight").and_then(|tensor| tensor.shape.last().copied());
                names.swapped = inputs.is_some_and(|inputs| Some(inputs as u64) == width);
            }
            Content::Other => {}
        }
        Ok(names)
    }

    /// transformers' name of a tensor and the order of its rows; the file's own name where transformers has none.
    pub fn name(&self, own: &str) -> (String, RowOrder) {
        let named = match self.content {
            Content::Language => self.language(own),
            Content::Projector => self.projector(own),
            Content::Other => None,
        };
        named.unwrap_or_else(|| (own.to_owned(), RowOrder::Same))
    }

    fn language(&self, own: &str) -> Option<(String, RowOrder)> {
        let (path, what) = parameter(own)?;
        let Some((layer, part)) = layer(path, "blk.") else {
            return Some((format!("{}.{what}", find(&LANGUAGE, path)?), RowOrder::Same));
        };
        let order = if matches!(part, "attn_q" | "attn_k") { RowOrder::Interleaved { head: self.head } } else { RowOrder::Same };
        Some((format!("model.layers.{layer}.{}.{what}", find(&LANGUAGE_LAYER, part)?), order))
    }

    fn projector(&self, own: &str) -> Option<(String, RowOrder)> {
        let (path, what) = parameter(own)?;
        let name = match layer(path, "v.blk.") {
            None => format!("{}.{what}", find(&PROJECTOR, path)?),
            Some((layer, part)) => {
                let part = match part {
                    "ffn_up" if self.swapped => "ffn_down",
                    "ffn_down" if self.swapped => "ffn_up",
                    part => part,
                };
                format!("model.vision_model.encoder.layers.{layer}.{}.{what}", find(&PROJECTOR_LAYER, part)?)
            }
        };
        Some((name, RowOrder::Same))
    }
}

/// A module's path and `weight` or `bias`.
fn parameter(name: &str) -> Option<(&str, &str)> {
    name.rsplit_once('.').filter(|(_, what)| matches!(*what, "weight" | "bias"))
}

/// A layer's number and the rest of a path.
fn layer<'a>(path: &'a str, before: &str) -> Option<(u32, &'a str)> {
    let (number, rest) = path.strip_prefix(before)?.split_once('.')?;
    // As it is written: `blk.01` is no layer's name, or two tensors could have one.
    let layer: u32 = number.parse().ok()?;
    (layer.to_string() == number).then_some((layer, rest))
}

fn find(names: &[(&str, &'static str)], own: &str) -> Option<&'static str> {
    names.iter().find(|(name, _)| *name == own).map(|(_, theirs)| *theirs)
}

/// The name that a tensor of a language model has in a model that reads pictures, too.
pub(super) fn within(name: &str) -> String {
    match name.strip_prefix("model.") {
        Some(rest) => format!("model.text_model.{rest}"),
        None => name.to_owned(),
    }
}
