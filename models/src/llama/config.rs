//! Shapes of decoders.

/// Shape of a [`super::Decoder`].
#[derive(Debug, Clone, PartialEq)]
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
    /// Hidden width of the feed-forward networks.
    pub hidden: usize,
    /// Base of the rotary embedding's angles.
    pub rotary_base: f64,
    /// ε of the norms.
    pub epsilon: f64,
    /// Most tokens of a sequence.
    pub context: usize,
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
            hidden: 1536,
            rotary_base: 100_000.0,
            epsilon: 1e-5,
            context: 2048,
        }
    }

    /// Elements of a head.
    pub fn head(&self) -> usize {
        self.width / self.heads
    }

    /// Multiplications of the linear layers for one token, the output layer's apart.
    pub fn multiplications(&self) -> usize {
        let (d, kv) = (self.width, self.kv_heads * self.head());
        self.layers * (2 * d * d + 2 * d * kv + 3 * d * self.hidden)
    }
}
