"""The models that are measured: real architectures, random weights.

Shapes come from the configuration classes of `transformers`; a speed depends on shapes, not on what a model has learnt.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

REFERENCE = Path(__file__).resolve().parents[1] / "reference"
SEED = 0
# Weights ~ N(0, STD), as `initializer_range` of these configurations says. Biases are 0, norms the identity.
STD = 0.02
# How attention is written in torch and in the exported graph. ONNX Runtime 1.32 runs "eager" at the same speed.
ATTENTION = "sdpa"
# Dynamic quantization as ONNX Runtime offers it: type of the weights, and which operators (None: all it can, convolutions too).
DYNAMIC = {
    "QInt8": ("QInt8", None),
    "QUInt8": ("QUInt8", None),
    "QInt8 MatMul": ("QInt8", ["MatMul"]),
    "QUInt8 MatMul": ("QUInt8", ["MatMul"]),
}
# Scales of activations fixed beforehand. For convolutions: the dynamic ones are slower than f32.
STATIC = "static QDQ"
GGUF_TYPES = ("Q8_0", "Q4_0")


@dataclass(frozen=True)
class Architecture:
    """`build` gives a torch module: pixels `[1, 3, side_px, side_px]` to features, or for a decoder tokens to logits."""

    build: Callable
    side_px: int = 0

    @property
    def is_decoder(self) -> bool:
        return self.side_px == 0


def clip(patch: int):
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    return tower(CLIPVisionModelWithProjection(CLIPVisionConfig(patch_size=patch)), "image_embeds")


def siglip():
    from transformers import SiglipVisionConfig, SiglipVisionModel

    return tower(SiglipVisionModel(SiglipVisionConfig()), "pooler_output")


def owlvit():
    from transformers import OwlViTVisionConfig, OwlViTVisionModel

    return tower(OwlViTVisionModel(OwlViTVisionConfig()), "last_hidden_state")


def smollm2_config():
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=49_280,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
        tie_word_embeddings=True,
    )


def smollm2():
    from transformers import LlamaForCausalLM

    return randomize(LlamaForCausalLM(smollm2_config()))


def nano_backbone():
    """EfficientNet-Lite0 up to the pooled vector: nano's backbone. He's variance, so that nothing vanishes in 50 layers."""
    import torch

    sys.path.insert(0, str(REFERENCE))
    from efficientnet_lite0 import EfficientNet, formula_weights

    model = EfficientNet.from_name("efficientnet-lite0")
    with torch.no_grad():
        formula_weights(model)
    model._fc = model._dropout = torch.nn.Identity()
    return model.eval()


ARCHITECTURES = {
    "clip-vit-b32": Architecture(lambda: clip(32), 224),
    "clip-vit-b16": Architecture(lambda: clip(16), 224),
    "siglip-b16-224": Architecture(siglip, 224),
    "owlvit-b32-768": Architecture(owlvit, 768),
    "nano-backbone": Architecture(nano_backbone, 224),
    "smollm2-135m": Architecture(smollm2),
}


def tower(model, output: str):
    """An image tower as a module of one tensor to one tensor."""
    import torch

    class Tower(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, pixels):
            return self.model(pixel_values=pixels)[output]

    model.set_attn_implementation(ATTENTION)
    return randomize(Tower())


def randomize(model):
    """Fills in weights ~ N(0, STD) and leaves vectors (biases, norms) as they were made."""
    import torch

    random = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1:
                weights.normal_(0, STD, generator=random)
    return model.eval()


def pixels(arch: str, seed: int = SEED):
    """A picture's worth of normalised noise, f32 `[1, 3, side_px, side_px]`."""
    import numpy as np

    side_px = ARCHITECTURES[arch].side_px
    return np.random.default_rng(seed).standard_normal((1, 3, side_px, side_px), dtype=np.float32)


def onnx_file(folder: Path, arch: str) -> Path:
    return folder / arch / "f32.onnx"


def int8_variants(arch: str) -> list[str]:
    """All are made and the quickest is measured. A network of convolutions has no MatMul; it is quantized statically as well."""
    return ["QInt8", "QUInt8", STATIC] if arch == "nano-backbone" else list(DYNAMIC)


def int8_file(folder: Path, arch: str, variant: str) -> Path:
    return folder / arch / f"int8-{variant.replace(' ', '-')}.onnx"


def gguf_file(folder: Path, arch: str, quantization: str) -> Path:
    return folder / arch / f"{quantization}.gguf"


def cache_names(config) -> tuple[list[str], list[str]]:
    numbers = range(2 * config.num_hidden_layers)
    return [f"past.{i}" for i in numbers], [f"present.{i}" for i in numbers]


def cache_shape(config, tokens: int) -> tuple[int, ...]:
    return 1, config.num_key_value_heads, tokens, config.hidden_size // config.num_attention_heads
