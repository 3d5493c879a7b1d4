"""Models as files that peers read.

    python export.py ARCH FOLDER        # FOLDER/ARCH/*.onnx and *.gguf

A file that exists is kept: delete the folder to make it anew.
"""

import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import models
from models import ARCHITECTURES, DYNAMIC, GGUF_TYPES, STATIC, cache_names, cache_shape, pixels

OPSET = 17
# Pictures of noise that static quantization takes its scales from.
CALIBRATION_PICTURES = 4


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
            atomically(models.gguf_file(folder, arch, quantization), lambda path, q=quantization: write_gguf(arch, q, path))
    source = models.onnx_file(folder, arch)
    atomically(source, lambda path: export(arch, path))
    for variant in models.int8_variants(arch):
        atomically(models.int8_file(folder, arch, variant), lambda path, v=variant: quantize(arch, source, v, path))


if __name__ == "__main__":
    make(sys.argv[1], Path(sys.argv[2]))
