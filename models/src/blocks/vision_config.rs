//! Shapes of vision towers.

use ocelli_ops::Activation;
use serde::{Deserialize, Serialize};

use super::activation;

/// What comes after the last layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Head {
    /// A norm over all tokens.
    Tokens,
    /// The class token, normed and projected to so many dimensions (CLIP).
    Projection(usize),
    /// A learned query attends to the normed tokens, and a feed-forward network follows (SigLIP).
    AttentionPool,
}

/// Shape of a [`super::VisionTower`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VisionConfig {
    /// Side of the input picture in pixels; where [`VisionConfig::flexible`], of the square that the positions stand for.
    pub side: usize,
    /// Side of a patch in pixels.
    pub patch: usize,
    /// Width of the layers.
    pub width: usize,
    /// Layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Hidden width of the feed-forward networks.
    pub hidden: usize,
    /// Of the feed-forward networks.
    #[serde(with = "activation")]
    pub activation: Activation,
    /// Whether a class token stands before the patches.
    pub class_token: bool,
    /// Whether a second one stands behind it (DeiT's distillation token).
    #[serde(default)]
    pub distillation_token: bool,
    /// Whether queries, keys and values have no bias (TrOCR's encoders).
    #[serde(default)]
    pub plain_qkv: bool,
    /// Whether there is a norm before the first layer.
    pub pre_norm: bool,
    /// Whether patches have a bias.
    pub patch_bias: bool,
    /// ε of the norms.
    pub epsilon: f64,
    /// After the last layer.
    pub head: Head,
    /// Whether pictures keep their aspect ratio and come as patches, for which the positions are resized (SigLIP 2's NaFlex).
    #[serde(default)]
    pub flexible: bool,
}

impl VisionConfig {
    /// CLIP's ViT-B with patches of `patch` pixels.
    pub fn clip_base(patch: usize) -> Self {
        Self {
            side: 224,
            patch,
            width: 768,
            layers: 12,
            heads: 12,
            hidden: 3072,
            activation: Activation::QuickGelu,
            class_token: true,
            distillation_token: false,
            plain_qkv: false,
            pre_norm: true,
            patch_bias: false,
            epsilon: 1e-5,
            head: Head::Projection(512),
            flexible: false,
        }
    }

    /// SigLIP's ViT-B/16 at 224 pixels.
    pub fn siglip_base() -> Self {
        Self {
            activation: Activation::GeluTanh,
            class_token: false,
            pre_norm: false,
            patch_bias: true,
            epsilon: 1e-6,
            head: Head::AttentionPool,
            ..Self::clip_base(16)
        }
    }

    /// ViT-B (Dosovitskiy et al. 2021) with patches of `patch` pixels, as transformers' `ViTModel` has it.
    pub fn vit_base(patch: usize) -> Self {
        Self {
            activation: Activation::Gelu,
            pre_norm: false,
            patch_bias: true,
            epsilon: 1e-12,
            head: Head::Tokens,
            ..Self::clip_base(patch)
        }
    }

    /// OWL-ViT's B/32 at 768 pixels.
    pub fn owl_base() -> Self {
        Self { side: 768, head: Head::Tokens, ..Self::clip_base(32) }
    }

    /// Patches along a side of the picture.
    pub fn grid(&self) -> usize {
        self.side / self.patch
    }

    /// Patches of a picture.
    pub fn patches(&self) -> usize {
        self.grid().pow(2)
    }

    /// Tokens that stand before the patches.
    pub fn class_tokens(&self) -> usize {
        usize::from(self.class_token) + usize::from(self.distillation_token)
    }

    /// Tokens of a picture.
    pub fn tokens(&self) -> usize {
        self.patches() + self.class_tokens()
    }

    /// Multiplications of the tower's linear layers and attention for one picture.
    pub fn multiplications(&self) -> usize {
        let (t, d) = (self.tokens(), self.width);
        let layer = t * d * (4 * d + 2 * self.hidden) + 2 * t * t * d;
        let head = match self.head {
            Head::Tokens => 0,
            Head::Projection(joint) => d * joint,
            Head::AttentionPool => 2 * t * d * d + 2 * d * d + 2 * t * d + 2 * d * self.hidden,
        };
        self.layers * layer + self.patches() * 3 * self.patch.pow(2) * d + head
    }

    /// Whether the sizes can be true: a configuration asks for memory before a tensor proves it.
    ///
    /// # Errors
    /// Says which is not.
    pub fn check(&self) -> Result<(), String> {
        let joint = if let Head::Projection(joint) = self.head { joint } else { 1 };
        check_layers([self.width, self.layers, self.heads, self.hidden])?;
        super::check_sizes(&[("side", self.side), ("patch", self.patch), ("joint", joint)])?;
        if self.patch > self.side || self.grid() > 512 {
            return Err(format!("patches of {} pixels do not fit a side of {}", self.patch, self.side));
        }
        Ok(())
    }
}

/// Whether sizes of transformer layers can be true: width, layers, heads, hidden width.
pub(crate) fn check_layers([width, layers, heads, hidden]: [usize; 4]) -> Result<(), String> {
    super::check_sizes(&[("width", width), ("layers", layers), ("heads", heads), ("hidden", hidden)])?;
    if layers > 1024 || !width.is_multiple_of(heads) {
        return Err(format!("{heads} heads in {layers} layers do not divide a width of {width}"));
    }
    Ok(())
}
