"""The models that are measured: real architectures, random weights.

    python models.py ARCH FOLDER        # makes what the peers read: FOLDER/ARCH/*.onnx or *.gguf

Shapes come from the configuration classes of `transformers`; a speed depends on shapes, not on what a model has learnt.
A file that exists is kept: delete the folder to make it anew.
"""

import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

REFERENCE = Path(__file__).resolve().parents[1] / "reference"
SEED = 0
# Weights ~ N(0, STD), as `initializer_range` of these configurations says. Biases are 0, norms the identity.
STD = 0.02
OPSET = 17
# How attention is written in torch and in the exported graph. ONNX Runtime 1.32 runs "eager" at the same speed.
ATTENTION = "sdpa"
# Dynamic quantization as ONNX Runtime offers it: type of the weights, and what is quantized besides (None: all it can, convolutions too).
INT8_VARIANTS = {
    "QInt8": ("QInt8", None),
    "QUInt8": ("QUInt8", None),
    "QInt8 MatMul": ("QInt8", ["MatMul"]),
    "QUInt8 MatMul": ("QUInt8", ["MatMul"]),
}
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


def smollm2():
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
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
    return randomize(LlamaForCausalLM(config))


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


def pixels(arch: str):
    """A picture's worth of normalised noise, f32 `[1, 3, side_px, side_px]`."""
    import numpy as np

    side_px = ARCHITECTURES[arch].side_px
    return np.random.default_rng(SEED).standard_normal((1, 3, side_px, side_px), dtype=np.float32)


def onnx_file(folder: Path, arch: str) -> Path:
    return folder / arch / "f32.onnx"


def int8_variants(arch: str) -> list[str]:
    """A network of convolutions has no MatMul: leaving convolutions as they are would leave everything."""
    return [name for name in INT8_VARIANTS if arch != "nano-backbone" or "MatMul" not in name]


def int8_file(folder: Path, arch: str, variant: str) -> Path:
    return folder / arch / f"int8-{variant.replace(' ', '-')}.onnx"


def gguf_file(folder: Path, arch: str, quantization: str) -> Path:
    return folder / arch / f"{quantization}.gguf"


def atomically(path: Path, write: Callable[[Path], None]) -> None:
    """`write` writes to a temporary path, which then gets its name: a file that is there is whole."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{os.getpid()}.part-{path.name}")
    try:
        write(partial)
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)


def export(arch: str, path: Path) -> None:
    """Torch to ONNX, batch 1, fixed shapes. Constants are folded, batch norms too."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            ARCHITECTURES[arch].build(),
            (torch.from_numpy(pixels(arch)),),
            str(path),
            input_names=["pixels"],
            output_names=["features"],
            opset_version=OPSET,
            dynamo=False,
        )


def quantize(source: Path, variant: str, path: Path) -> None:
    """int8 weights with a scale a channel; activations are quantized at run time."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    weight_type, operators = INT8_VARIANTS[variant]
    quantize_dynamic(source, path, operators, per_channel=True, reduce_range=False, weight_type=QuantType[weight_type])


def write_gguf(arch: str, quantization: str, path: Path) -> None:
    """llama.cpp's own format. There is no tokenizer in it: tokens go in and logits come out as numbers.

    All matrices are quantized, the embedding too; it is tied, so it is the output matrix as well. For Q4_0 it is Q8_0, which is also
    what llama.cpp's quantizer leaves at this width (it prefers Q6_K, which needs rows of a multiple of 256 values; 576 is none).
    """
    import gguf

    model = ARCHITECTURES[arch].build()
    writer = gguf.GGUFWriter(str(path), "llama")
    write_shape(writer, model.config)
    for name, weights in gguf_tensors(model):
        if weights.ndim == 1:
            writer.add_tensor(name, weights)
        else:
            kind = gguf.GGMLQuantizationType["Q8_0" if name == "token_embd.weight" else quantization]
            writer.add_tensor(name, gguf.quants.quantize(weights, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_shape(writer, config) -> None:
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("no_vocab")


def gguf_tensors(model):
    """Name in GGUF and f32 values of every tensor; the tied output matrix is left out."""
    import gguf

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, model.config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name != "lm_head.weight":
            yield names.get_name(name, try_suffixes=(".weight",)), tensor.float().numpy()


def make(arch: str, folder: Path) -> None:
    """Everything that the peers read of one architecture. (Torch reads nothing: its worker builds the model.)"""
    if ARCHITECTURES[arch].is_decoder:
        for quantization in GGUF_TYPES:
            atomically(gguf_file(folder, arch, quantization), lambda path, q=quantization: write_gguf(arch, q, path))
        return
    source = onnx_file(folder, arch)
    atomically(source, lambda path: export(arch, path))
    for variant in int8_variants(arch):
        atomically(int8_file(folder, arch, variant), lambda path, v=variant: quantize(source, v, path))


if __name__ == "__main__":
    make(sys.argv[1], Path(sys.argv[2]))
