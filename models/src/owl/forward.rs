//! OWL-ViT's equations.
//!
//! ```text
//! tokens = norm(vision(pixels))                       features = norm(tokens[patches] · tokens[class])
//! boxes = σ(mlp(features) + bias of the grid)          logits = (cos(W features, phrase) + shift) · (elu(scale) + 1)
//! ```

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::OwlConfig;
use super::heads::{ClassHead, Mlp, boxes};
use crate::blocks::{LayerNorm, VisionTower};
use crate::linears;
use crate::text::TextEncoder;

/// The detector.
#[derive(Module, Debug)]
pub struct Detector {
    /// Of pictures.
    pub vision: VisionTower,
    /// Of phrases.
    pub text: TextEncoder,
    /// Of patches that have met the class token.
    pub norm: LayerNorm,
    /// What boxes look like.
    pub class: ClassHead,
    /// Where they are.
    pub boxes: Mlp,
    /// Whether anything is there (OWLv2).
    pub objectness: Option<Mlp>,
    grid: usize,
}

linears!(Detector { vision, text, class, boxes, objectness });

/// Every patch of a picture as a box.
#[derive(Debug, Clone)]
pub struct Patches {
    /// `[1, patches, d]`
    pub features: Tensor<3>,
    /// What the boxes look like, `[1, patches, joint]`, not normalised.
    pub vectors: Tensor<3>,
    /// `[patches, 4]`: centre and size, 0 to 1.
    pub boxes: Tensor<2>,
    /// `[patches]`, before the sigmoid.
    pub objectness: Option<Tensor<1>>,
}

impl Detector {
    /// A detector with random weights.
    pub fn init(config: &OwlConfig, device: &Device) -> Self {
        let d = config.vision.width;
        Self {
            vision: VisionTower::init(&config.vision, device),
            text: TextEncoder::init(&config.text, device),
            norm: LayerNorm::init_with(d, config.vision.epsilon, device),
            class: ClassHead::init(d, config.text.joint, device),
            boxes: Mlp::init(d, 4, device),
            objectness: config.second.then(|| Mlp::init(d, 1, device)),
            grid: config.vision.grid(),
        }
    }

    /// A normalised picture `[1, 3, side, side]` → its boxes.
    pub fn patches(&self, picture: Tensor<4>) -> Patches {
        let tokens = self.vision.forward(picture).tokens; // [1, 1 + patches, d]
        let patches = self.grid * self.grid;
        let class_token = tokens.clone().narrow(1, 0, 1);
        let features = self.norm.forward(tokens.narrow(1, 1, patches) * class_token);
        Patches {
            vectors: self.class.vectors(features.clone()),
            boxes: boxes(self.boxes.forward(features.clone()), self.grid),
            objectness: self.objectness.as_ref().map(|head| head.forward(features.clone()).reshape([patches])),
            features,
        }
    }

    /// How well each box fits each query: `queries [queries, joint]` → `[patches, queries]`, before the sigmoid.
    pub fn logits(&self, patches: &Patches, queries: Tensor<2>) -> Tensor<2> {
        self.class.logits(patches.features.clone(), patches.vectors.clone(), queries)
    }
}
