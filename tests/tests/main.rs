//! Tests across crates.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests, helpers included")]

/// EfficientNet-Lite0 against the PyTorch definition, stage by stage.
mod backbone;
/// The bundle that is shipped: whole, complete, within its size, and every flipped byte noticed.
mod bundle;
/// Captions, answers and matches against transformers, stage by stage.
mod captioners;
/// Checkpoints with what the reference made of them.
mod checkpoint;
/// Processors, draws and beams against transformers, without a network.
mod decode;
/// Dependencies point only down: the manifests against the rule.
mod dependencies;
/// CLIP, SigLIP and OWL-ViT against transformers, stage by stage.
mod families;
/// Florence-2 against transformers, from prompts to places.
mod florence;
/// Whatever reads files from elsewhere, on files that are nearly right.
mod fuzz_seeds;
/// The GPU against the CPU, layer by layer.
#[cfg(feature = "wgpu")]
mod gpu;
/// nano's captioner on the GPU against the CPU.
#[cfg(feature = "wgpu")]
mod gpu_captions;
/// Adapters against transformers with peft: merged, beside a bundle, on and off.
mod lora;
/// Integer arithmetic against floats, on trained weights.
mod precision;
/// Tokenizers of checkpoints, as transformers has them.
mod prompts;
/// What the README promises: its commands, its links.
mod readme;
/// SmolVLM, Idefics3 and Llama against transformers: prompts, layers, what is written.
mod smolvlm;
/// Words to token ids and back, as an independent implementation has them.
mod tokenizer;

/// The root of the repository.
fn root() -> &'static std::path::Path {
    std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
