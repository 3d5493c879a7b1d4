//! Vision towers of CLIP (Radford et al. 2021, <https://arxiv.org/abs/2103.00020>), SigLIP (Zhai et al. 2023,
//! <https://arxiv.org/abs/2303.15343>) and OWL-ViT (Minderer et al. 2022, <https://arxiv.org/abs/2205.06230>).

pub mod config;
pub mod vision;

pub use config::{Head, VisionConfig};
pub use vision::VisionTower;
