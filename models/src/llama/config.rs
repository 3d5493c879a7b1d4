//! Shapes of decoders.

use serde::{Deserialize, Serialize};

use crate::blocks;
use crate::plan::PlanError;
use crate::plan::fields::Fields;

/// Shape of a [`super::Decoder`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecoderConfig {
    /// Number of token ids.
    pub vocabulary: usize,
    /// Width of the layers.
    pub width: usize,
    /// Layers.
    pub layers: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head: usize,
    /// Hidden width of the feed-forward networks.
    pub hidden: usize,
    /// Base of the rotary embedding's angles.
    pub rotary_base: f64,
    /// ε of the norms.
    pub epsilon: f64,
    /// Most tokens of a sequence.
    pub context: usize,
    /// Whether the token table is the output layer, too.
    pub tied: bool,
}

impl DecoderConfig {
    /// SmolLM2-135M's.
    pub fn smollm2_135m() -> Self {
        Self {
            vocabulary: 49_280,
            width: 576,
            layers: 30,
            heads: 9,
            kv_heads: 3,
            head: 64,
            hidden: 1536,
            rotary_base: 100_000.0,
            epsilon: 1e-5,
            context: 2048,
            tied: true,
        }
    }

    /// `LlamaConfig` of transformers.
    ///
    /// # Errors
    /// Names a field that asks for what is not done here.
    pub fn of_transformers(fields: &Fields<'_>, tied: bool) -> Result<Self, PlanError> {
        if fields.text("hidden_act").is_some_and(|name| name != "silu") {
            return Err(fields.wrong("hidden_act", "is not silu, which is all that is read"));
        }
        for name in ["attention_bias", "mlp_bias"] {
            if fields.flag(name, false)? {
                return Err(fields.wrong(name, "is set, and layers with biases are not read"));
            }
        }
        let rotary = fields.below("rope_parameters").or_else(|| fields.below("rope_scaling"));
        if let Some(kind) = rotary.as_ref().and_then(|rotary| rotary.text("rope_type").or_else(|| rotary.text("type")))
            && kind != "default"
        {
            return Err(fields.wrong("rope_parameters", format!("are of type {kind:?}; only \"default\" is read")));
        }
        let rotary_base = match rotary.filter(|rotary| rotary.is_set("rope_theta")) {
            Some(rotary) => rotary.number("rope_theta", 10_000.0)?,
            None => fields.number("rope_theta", 10_000.0)?,
        };
        let (width, heads) = (fields.size("hidden_size", 4096)?, fields.size("num_attention_heads", 32)?);
        let config = Self {
            vocabulary: fields.size("vocab_size", 32_000)?,
            width,
            layers: fields.size("num_hidden_layers", 32)?,
            heads,
            kv_heads: fields.size("num_key_value_heads", heads)?,
            head: fields.size("head_dim", width / heads.max(1))?,
            hidden: fields.size("intermediate_size", 11_008)?,
            rotary_base,
            epsilon: fields.number("rms_norm_eps", 1e-6)?,
            context: fields.size("max_position_embeddings", 2048)?,
            tied,
        };
        fields.sound(config.check())?;
        Ok(config)
    }

    /// Whether the sizes can be true.
    ///
    /// # Errors
    /// Says which is not.
    pub fn check(&self) -> Result<(), String> {
        blocks::check_sizes(&[
            ("vocabulary", self.vocabulary),
            ("width", self.width),
            ("layers", self.layers),
            ("heads", self.heads),
            ("kv_heads", self.kv_heads),
            ("head", self.head),
            ("hidden", self.hidden),
            ("context", self.context),
        ])?;
        if self.layers > 1024 || !self.heads.is_multiple_of(self.kv_heads) {
            return Err(format!("{} heads over {} of keys in {} layers", self.heads, self.kv_heads, self.layers));
        }
        if !self.head.is_multiple_of(2) || self.heads.saturating_mul(self.head) > blocks::LARGEST {
            return Err(format!("{} heads of {} elements", self.heads, self.head));
        }
        Ok(())
    }

    /// Width of keys, and of values.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head
    }

    /// Width of queries.
    pub fn q_width(&self) -> usize {
        self.heads * self.head
    }

    /// Multiplications of the linear layers for one token, the output layer's apart.
    pub fn multiplications(&self) -> usize {
        let d = self.width;
        self.layers * (d * (2 * self.q_width() + 2 * self.kv_width()) + 3 * d * self.hidden)
    }
}
