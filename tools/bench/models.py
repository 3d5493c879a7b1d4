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
# Dynamic quantization as ONNX Runtime offers it: type of the weights, and which operators (None: all it can, convolutions too).
DYNAMIC = {
    "QInt8": ("QInt8", None),
    "QUInt8": ("QUInt8", None),
    "QInt8 MatMul": ("QInt8", ["MatMul"]),
    "QUInt8 MatMul": ("QUInt8", ["MatMul"]),
}
# Scales of activations fixed beforehand. For convolutions: the dynamic ones are slower than f32.
STATIC = "static QDQ"
CALIBRATION_PICTURES = 4
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
    """Torch to ONNX, batch 1. Constants are folded, batch norms too. A tower's shapes are fixed; a decoder's lengths are not."""
    import torch

    model = ARCHITECTURES[arch].build()
    if ARCHITECTURES[arch].is_decoder:
        model, inputs, names = with_cache(model)
    else:
        inputs, names = (torch.from_numpy(pixels(arch)),), {"input_names": ["pixels"], "output_names": ["features"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, inputs, str(path), opset_version=OPSET, dynamo=False, **names)


def with_cache(decoder):
    """The decoder as a function without state: tokens and the cache so far to the last token's logits and the cache with these tokens.

    Returns the module, inputs to trace it with, and names: "tokens", "past.0" (keys of layer 0), "past.1" (its values), "past.2", ... to
    "logits", "present.0", "present.1", ...; keys and values are `[1, heads, tokens, width]`.
    """
    import torch

    class Cache:
        def __init__(self, past):
            self.past, self.present = past, []

        def update(self, keys, values, layer, **_):
            pair = [torch.cat((self.past[2 * layer + i], new), dim=2) for i, new in enumerate((keys, values))]
            self.present += pair
            return pair

    class WithCache(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.decoder = decoder

        def forward(self, tokens, *past):
            model, cache = self.decoder.model, Cache(past)
            x = model.embed_tokens(tokens)
            end = past[0].shape[2] + tokens.shape[1]
            positions = torch.arange(past[0].shape[2], end)
            is_future = torch.arange(end)[None] > positions[:, None]
            mask = torch.zeros(is_future.shape).masked_fill(is_future, torch.finfo(torch.float32).min)[None, None]
            rotation = model.rotary_emb(x, positions[None])
            for layer in model.layers:
                x = layer(x, attention_mask=mask, cache=cache, position_embeddings=rotation)
            return self.decoder.lm_head(model.norm(x[:, -1:])), *cache.present

    past, present = cache_names(decoder.config)
    inputs = (torch.zeros((1, 2), dtype=torch.int64), *(torch.zeros(cache_shape(decoder.config, 3)) for _ in past))
    lengths = {"tokens": {1: "new"}} | {name: {2: "old"} for name in past} | {name: {2: "all"} for name in present}
    names = {"input_names": ["tokens", *past], "output_names": ["logits", *present], "dynamic_axes": lengths}
    return WithCache().eval(), inputs, names


def cache_names(config) -> tuple[list[str], list[str]]:
    numbers = range(2 * config.num_hidden_layers)
    return [f"past.{i}" for i in numbers], [f"present.{i}" for i in numbers]


def cache_shape(config, tokens: int) -> tuple[int, ...]:
    return 1, config.num_key_value_heads, tokens, config.hidden_size // config.num_attention_heads


def quantize(arch: str, source: Path, variant: str, path: Path) -> None:
    """int8 weights with a scale a channel; activations are quantized at run time, or with scales that noise gives."""
    from onnxruntime import quantization
    from onnxruntime.quantization import QuantType

    if variant != STATIC:
        weight_type, operators = DYNAMIC[variant]
        quantization.quantize_dynamic(source, path, operators, per_channel=True, reduce_range=False, weight_type=QuantType[weight_type])
        return

    class Noise(quantization.CalibrationDataReader):
        left = iter(range(CALIBRATION_PICTURES))

        def get_next(self):
            seed = next(self.left, None)
            return None if seed is None else {"pixels": pixels(arch, seed)}

    quantization.quantize_static(source, path, Noise(), per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)


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
    source = onnx_file(folder, arch)
    atomically(source, lambda path: export(arch, path))
    for variant in int8_variants(arch):
        atomically(int8_file(folder, arch, variant), lambda path, v=variant: quantize(arch, source, v, path))


if __name__ == "__main__":
    make(sys.argv[1], Path(sys.argv[2]))
