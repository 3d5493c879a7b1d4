//! transformers' `Florence2Config`, and the configuration of Microsoft's own checkpoints, which have `davit` in it.

use ocelli_ops::Activation;
use ocelli_preprocess::{Processor, Recipe};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::LoadError;
use crate::blocks::{activation, check_sizes};
use crate::plan::fields::Fields;
use crate::plan::{Declared, PlanError, generation};
use crate::text::generate::Defaults;

/// Tokens that are written where the checkpoint does not say: as many as Microsoft's examples allow.
const MAX_NEW_TOKENS: usize = 1024;
/// How texts with quadrilaterals are read; no other pattern is.
const OCR_PATTERN: &str = r"(.+?)<loc_(\d+)><loc_(\d+)><loc_(\d+)><loc_(\d+)><loc_(\d+)><loc_(\d+)><loc_(\d+)><loc_(\d+)>";

/// Shape of the model, and what its processor knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FlorenceConfig {
    /// Of pictures.
    pub vision: DaViTConfig,
    /// Of texts.
    pub text: BartConfig,
    /// The token that stands for a picture's tokens in a prompt, where the tokenizer has one.
    pub image_token: Option<u32>,
    /// How tokens are chosen.
    pub generate: Defaults,
    /// Phrases that are not grounded.
    pub banned_phrases: Vec<String>,
    /// The part of the picture that a quadrilateral of text must have at least.
    pub least_text_area: f64,
    /// Whose names the checkpoint's tensors have.
    #[serde(default)]
    pub naming: Naming,
}

/// Names of tensors and fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Naming {
    /// transformers'.
    #[default]
    Transformers,
    /// Those of Microsoft's repositories, which bring their own code.
    Microsoft,
}

/// Shape of a [`super::davit::DaViT`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DaViTConfig {
    /// Side of the input picture in pixels.
    pub side: usize,
    /// From the finest map to the coarsest.
    pub stages: Vec<StageConfig>,
    /// Side of an attention window in cells.
    pub window: usize,
    /// Of the feed-forward networks.
    #[serde(with = "activation")]
    pub activation: Activation,
    /// Whether queries, keys and values have a bias.
    pub qkv_bias: bool,
    /// Positions that rows and columns of the last map have vectors for.
    pub positions: usize,
}

/// Shape of a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageConfig {
    /// Side of the windows that become its cells.
    pub patch: usize,
    /// From one to the next.
    pub stride: usize,
    /// Zeros on every side of the map before.
    pub padding: usize,
    /// Whether the norm is before them, rather than after.
    pub pre_norm: bool,
    /// Channels.
    pub width: usize,
    /// Hidden width of the feed-forward networks.
    pub hidden: usize,
    /// Heads of the attention in windows.
    pub heads: usize,
    /// Groups of the attention of channels.
    pub groups: usize,
    /// Blocks.
    pub depth: usize,
}

/// Shape of a [`super::bart::Bart`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BartConfig {
    /// Number of token ids.
    pub vocabulary: usize,
    /// Width of the layers.
    pub width: usize,
    /// Tokens that encoder and decoder have positions for, each.
    pub max_tokens: usize,
    /// What reads.
    pub encoder: LayersConfig,
    /// What writes.
    pub decoder: LayersConfig,
    /// Of the feed-forward networks.
    #[serde(with = "activation")]
    pub activation: Activation,
    /// Whether token vectors are multiplied by √width.
    pub scaled: bool,
    /// The token before the first one that is written.
    pub start: u32,
}

/// Layers of encoder or decoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayersConfig {
    /// How many.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Hidden width of the feed-forward networks.
    pub hidden: usize,
}

impl DaViTConfig {
    /// Side of every stage's map in cells; `None` where a window does not fit its map.
    fn sides(&self) -> Option<Vec<usize>> {
        let mut side = self.side;
        let next = |stage: &StageConfig| {
            side = (side + 2 * stage.padding).checked_sub(stage.patch)?.checked_div(stage.stride)? + 1;
            Some(side)
        };
        self.stages.iter().map(next).collect()
    }

    /// Side of the last map in cells.
    pub fn last_side(&self) -> usize {
        self.sides().and_then(|sides| sides.last().copied()).unwrap_or(0)
    }

    /// Channels of the last map.
    pub fn width(&self) -> usize {
        self.stages.last().map_or(0, |stage| stage.width)
    }

    /// Tokens that a picture becomes: its mean, and one for every cell of the last map.
    pub fn tokens(&self) -> usize {
        1 + self.last_side().pow(2)
    }

    fn check(&self) -> Result<(), String> {
        check_sizes(&[("side", self.side), ("window", self.window), ("positions", self.positions), ("stages", self.stages.len())])?;
        for stage in &self.stages {
            let StageConfig { patch, stride, padding, width, hidden, heads, groups, depth, .. } = *stage;
            check_sizes(&[("patch", patch), ("stride", stride), ("width", width), ("hidden", hidden), ("heads", heads)])?;
            check_sizes(&[("groups", groups), ("depth", depth)])?;
            if !width.is_multiple_of(heads) || !width.is_multiple_of(groups) || depth > 1024 {
                return Err(format!("{heads} heads or {groups} groups in {depth} blocks do not divide a width of {width}"));
            }
            if padding >= patch || patch > 64 {
                return Err(format!("windows of {patch} with a padding of {padding} cells"));
            }
        }
        match self.sides() {
            Some(sides) if self.side <= 4096 && sides.iter().all(|&side| side > 0) => {}
            _ => return Err(format!("the stages do not fit a picture of {} pixels a side", self.side)),
        }
        if self.last_side() > self.positions {
            return Err(format!("the last map has {} rows, and there are {} positions", self.last_side(), self.positions));
        }
        Ok(())
    }
}

impl BartConfig {
    fn check(&self) -> Result<(), String> {
        check_sizes(&[("vocabulary", self.vocabulary), ("width", self.width), ("max_tokens", self.max_tokens)])?;
        for LayersConfig { layers, heads, hidden } in [&self.encoder, &self.decoder] {
            check_sizes(&[("layers", *layers), ("heads", *heads), ("hidden", *hidden)])?;
            if *layers > 1024 || !self.width.is_multiple_of(*heads) {
                return Err(format!("{heads} heads in {layers} layers do not divide a width of {}", self.width));
            }
        }
        if !(2..=1 << 16).contains(&self.max_tokens) {
            return Err(format!("max_tokens is {}, not within 2 to {}", self.max_tokens, 1 << 16));
        }
        if self.start as usize >= self.vocabulary {
            return Err(format!("the start token is {}, and the table has {} rows", self.start, self.vocabulary));
        }
        Ok(())
    }
}

impl FlorenceConfig {
    /// Whether the sizes can be true and fit each other.
    ///
    /// # Errors
    /// Says which does not.
    pub fn check(&self) -> Result<(), String> {
        self.vision.check()?;
        self.text.check()?;
        if self.vision.tokens() >= self.text.max_tokens {
            return Err(format!("a picture's {} tokens leave no room for a prompt in {}", self.vision.tokens(), self.text.max_tokens));
        }
        Ok(())
    }

    /// Reads the manifest's `config`.
    pub fn from_json(config: &Value) -> Result<Self, LoadError> {
        crate::error::config(config, Self::check)
    }
}

/// `Florence2ForConditionalGeneration`
pub fn of_transformers(declared: &Declared<'_>) -> Result<FlorenceConfig, PlanError> {
    let fields = Fields::new(declared.config);
    let (seen, read) = (fields.below_or_default("vision_config"), fields.below_or_default("text_config"));
    let own = &declared.config["vision_config"];
    let naming = if own["model_type"] == "davit" || own.get("dim_embed").is_some() { Naming::Microsoft } else { Naming::Transformers };
    if !fields.flag("tie_word_embeddings", true)? || !read.flag("tie_word_embeddings", true)? {
        return Err(fields.wrong("tie_word_embeddings", "is false, and only models whose output layer is the token table are read"));
    }
    let side = side(declared)?;
    let vision = vision(own, &seen, naming, side)?;
    let text = text(&read, declared)?;
    let joint = seen.size("projection_dim", 1024)?;
    if joint != text.width {
        return Err(seen.wrong("projection_dim", format!("is {joint}, and texts have a width of {}", text.width)));
    }
    let mut generate = generation::defaults(declared.generation, &[&declared.config["text_config"], declared.config])?;
    if generate.max_length.is_none() && generate.max_new_tokens.is_none() {
        generate.max_new_tokens = Some(MAX_NEW_TOKENS);
    }
    let image_token = match naming {
        Naming::Transformers => Some(fields.token("image_token_id", 51_289)?),
        Naming::Microsoft => None,
    };
    let (banned_phrases, least_text_area) = parsing(declared.processor)?;
    let config = FlorenceConfig { vision, text, image_token, generate, banned_phrases, least_text_area, naming };
    fields.sound(config.check())?;
    Ok(config)
}

/// Side of the pictures that the processor makes; Florence-2's where there is none.
fn side(declared: &Declared<'_>) -> Result<usize, PlanError> {
    let Some(made) = Recipe::from_processor(declared.processor).ok().and_then(|recipe| Processor::new(recipe).ok()) else { return Ok(768) };
    match made.input_size() {
        Some((height, width)) if height == width => Ok(height as usize),
        _ => {
            Err(PlanError::Field { field: "size of the image processor".into(), reason: "is no square, and only squares are read".into() })
        }
    }
}

fn vision(own: &Value, fields: &Fields<'_>, naming: Naming, side: usize) -> Result<DaViTConfig, PlanError> {
    let widths = if naming == Naming::Microsoft { "dim_embed" } else { "embed_dim" };
    let sizes = |name: &str, default: &[usize]| -> Result<Vec<usize>, PlanError> {
        let Some(value) = own.get(name).filter(|value| !value.is_null()) else { return Ok(default.to_vec()) };
        serde_json::from_value(value.clone()).map_err(|_| fields.wrong(name, format!("is {value}, not a list of sizes")))
    };
    let widths = sizes(widths, &[128, 256, 512, 1024])?;
    let count = widths.len();
    let each = |name: &str, default: &[usize]| -> Result<Vec<usize>, PlanError> {
        let found = sizes(name, default)?;
        if found.len() != count {
            return Err(fields.wrong(name, format!("has {} entries for {count} stages", found.len())));
        }
        Ok(found)
    };
    let (patches, strides) = (each("patch_size", &[7, 3, 3, 3])?, each("patch_stride", &[4, 2, 2, 2])?);
    let (paddings, depths) = (each("patch_padding", &[3, 1, 1, 1])?, each("depths", &[1, 1, 9, 1])?);
    let (heads, groups) = (each("num_heads", &[4, 8, 16, 32])?, each("num_groups", &[4, 8, 16, 32])?);
    let pre_norms: Vec<bool> = match own.get("patch_prenorm") {
        None => (0..count).map(|stage| stage > 0).collect(),
        Some(value) => serde_json::from_value(value.clone())
            .ok()
            .filter(|flags: &Vec<bool>| flags.len() == count)
            .ok_or_else(|| fields.wrong("patch_prenorm", format!("is {value}, not true or false for each of {count} stages")))?,
    };
    if fields.size("in_channels", 3)? != 3 {
        return Err(fields.wrong("in_channels", "is not 3, and only colour pictures are read"));
    }
    let ratio = fields.number("mlp_ratio", 4.0)?;
    let stage = |i: usize| StageConfig {
        patch: patches[i],
        stride: strides[i],
        padding: paddings[i],
        pre_norm: pre_norms[i],
        width: widths[i],
        hidden: (widths[i] as f64 * ratio) as usize,
        heads: heads[i],
        groups: groups[i],
        depth: depths[i],
    };
    let positions = match naming {
        Naming::Transformers => fields.size("max_position_embeddings", 50)?,
        Naming::Microsoft => {
            let pooled = ["spatial_avg_pool", "temporal_avg_pool"];
            if own.get("image_feature_source").is_some_and(|sources| sources != &Value::from(pooled.to_vec())) {
                return Err(fields.wrong("image_feature_source", format!("is not {pooled:?}, and nothing else is read")));
            }
            fields.below_or_default("image_pos_embed").size("max_pos_embeddings", 50)?
        }
    };
    Ok(DaViTConfig {
        side,
        stages: (0..count).map(stage).collect(),
        window: fields.size("window_size", 12)?,
        activation: fields.activation("activation_function", "gelu")?,
        qkv_bias: fields.flag("qkv_bias", true)?,
        positions,
    })
}

fn text(fields: &Fields<'_>, declared: &Declared<'_>) -> Result<BartConfig, PlanError> {
    let layers = |part: &str| -> Result<LayersConfig, PlanError> {
        Ok(LayersConfig {
            layers: fields.size(&format!("{part}_layers"), 12)?,
            heads: fields.size(&format!("{part}_attention_heads"), 16)?,
            hidden: fields.size(&format!("{part}_ffn_dim"), 4096)?,
        })
    };
    let said = [&declared.config["text_config"], declared.config];
    Ok(BartConfig {
        vocabulary: fields.size("vocab_size", 50_265)?,
        width: fields.size("d_model", 1024)?,
        max_tokens: fields.size("max_position_embeddings", 1024)?,
        encoder: layers("encoder")?,
        decoder: layers("decoder")?,
        activation: fields.activation("activation_function", "gelu")?,
        scaled: fields.flag("scale_embedding", false)?,
        // BART's class starts with the end token.
        start: generation::token(declared.generation, &said, "decoder_start_token_id").or_else(|error| {
            let missing = said.iter().chain([&declared.generation]).all(|source| source["decoder_start_token_id"].is_null());
            if missing { Ok(2) } else { Err(error) }
        })?,
    })
}

/// What the processor says of reading answers: phrases that are not grounded, and the least area of texts.
fn parsing(processor: &Value) -> Result<(Vec<String>, f64), PlanError> {
    let rules = Fields::new(processor).below_or_default("post_processor_config");
    let banned = match &processor["post_processor_config"]["phrase_grounding"]["banned_grounding_tokens"] {
        Value::Null => super::tasks::BANNED_PHRASES.map(str::to_owned).to_vec(),
        value => serde_json::from_value(value.clone())
            .map_err(|_| rules.wrong("phrase_grounding.banned_grounding_tokens", "is no list of words"))?,
    };
    let ocr = rules.below_or_default("ocr");
    if ocr.text("PATTERN").is_some_and(|pattern| pattern != OCR_PATTERN) {
        return Err(ocr.wrong("PATTERN", "is not Florence-2's own, and no other is read"));
    }
    Ok((banned, ocr.number("AREA_THRESHOLD", 0.0)?))
}
