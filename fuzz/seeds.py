"""Writes fuzz/seeds/: small files of every kind that the targets read, good ones and a few that are wrong in a way of their own.

    pip install numpy pillow torch==2.15.0 gguf==0.19.0
    python fuzz/seeds.py

Seeds of `bundle` are written by `ocelli import` from the folder that this leaves at the path it prints.
"""

import io
import json
import struct
import tempfile
from collections import OrderedDict
from pathlib import Path

import gguf
import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
SEEDS = ROOT / "fuzz" / "seeds"
PROMPTS = ROOT / "tests" / "goldens" / "prompts"


def put(target, name, data):
    folder = SEEDS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def safetensors(header, data):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header)) + header + data


def weights():
    entry = lambda dtype, shape, start, end: {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    good = {"__metadata__": {"format": "pt"}, "a.weight": entry("F32", [2, 3], 0, 24), "b": entry("F16", [], 24, 26), "c": entry("BF16", [3], 26, 32)}
    put("safetensors", "three", safetensors(good, bytes(range(32))))
    put("safetensors", "types", safetensors({t: entry(t, [1], 0, n) for t, n in [("F64", 8), ("I8", 1), ("BOOL", 1), ("F8_E4M3", 1), ("C64", 8)]}, bytes(8)))
    put("safetensors", "overflow", safetensors({"w": entry("F32", [2**62, 4], 0, 16)}, bytes(16)))
    put("safetensors", "huge", struct.pack("<Q", 2**60) + b"{}")
    put("safetensors", "empty", safetensors({}, b""))

    state = OrderedDict(a=torch.arange(6.0).reshape(2, 3), b=torch.ones(2, dtype=torch.float16), c=torch.arange(6.0).reshape(2, 3).t())
    for name, options in [("zip", {}), ("legacy", {"_use_new_zipfile_serialization": False})]:
        data = io.BytesIO()
        torch.save({"epoch": 3, "state_dict": state}, data, **options)
        put("pytorch_bin", name, data.getvalue())
    put("pytorch_bin", "code", b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.")
    put("pytorch_bin", "long", b"\x80\x02X\xff\xff\xff\xff")


def tokenizers():
    for number, name in [(b"0", "siglip_unigram.model"), (b"0", "siglip_bpe.model"), (b"1", "gemma.model")]:
        put("tokenizer_files", name, number + (PROMPTS / name).read_bytes())
    letters = [chr(c) for c in range(33, 127)]
    vocabulary = {token: i for i, token in enumerate(letters + [c + "</w>" for c in letters] + ["at", "<|startoftext|>", "<|endoftext|>"])}
    put("tokenizer_files", "clip", b"2" + json.dumps(vocabulary).encode() + b"\0#version: 0.2\na t\n")
    unigram = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": 0, "content": "<pad>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "}]},
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}, "post_processor": None, "decoder": None,
        "model": {"type": "Unigram", "unk_id": 1, "byte_fallback": False, "vocab": [["<pad>", 0.0], ["<unk>", 0.0], ["▁", -2.0], ["a", -3.0], ["▁photo", -4.0]]},
    }  # fmt: skip
    put("tokenizer_files", "unigram.json", b"3" + json.dumps(unigram).encode())
    units = [0] * 256
    units[97], units[96] = 97 | 1 << 8 | 1 << 10, 1 << 31
    charsmap = struct.pack("<I256I", 1024, *units) + b"b\0"
    import base64

    unigram["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()}
    put("tokenizer_files", "charsmap.json", b"3" + json.dumps(unigram).encode())

    end = {"id": 4, "content": "<end>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    pairs = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "abab": 3}, "merges": [["a", "b"], ["ab", "ab"]]}
    whole = {"version": "1.0", "added_tokens": [end], "model": pairs}
    put("tokenizer_files", "pairs.json", b"3" + json.dumps(whole).encode())
    # A token that would be longer than the longest.
    put("tokenizer_files", "merges.json", b"3" + json.dumps(whole | {"model": pairs | {"merges": [["abab", "ab"]]}}).encode())


def tower(width):
    return {"hidden_size": width, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "hidden_act": "gelu", "layer_norm_eps": 1e-5}


def configs():
    vision = {**tower(8), "image_size": 16, "patch_size": 8}
    text = {**tower(8), "vocab_size": 192, "max_position_embeddings": 8, "eos_token_id": 191}
    size = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 3}
    for name, kind in [("CLIPModel", "CLIP"), ("SiglipModel", "Siglip"), ("Siglip2Model", "Siglip2"), ("OwlViTForObjectDetection", "OwlViT"), ("Owlv2ForObjectDetection", "Owlv2")]:
        both = {"text_config": text, "vision_config": vision, "projection_dim": 8}
        config = {"architectures": [name], **both, "image_processor_type": f"{kind}ImageProcessor", **size}
        put("config", name, json.dumps(config).encode())
    open_clip = {
        "model_cfg": {
            "embed_dim": 8, "quick_gelu": True, "vision_cfg": {"image_size": 16, "layers": 1, "width": 8, "head_width": 8, "patch_size": 8},
            "text_cfg": {"context_length": 8, "vocab_size": 192, "width": 8, "heads": 1, "layers": 1},
        },
        "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"},
    }  # fmt: skip
    put("config", "open_clip", json.dumps(open_clip).encode())


def pictures():
    rng = np.random.default_rng(0)
    pixels = np.kron(rng.integers(0, 256, (4, 5, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    picture = Image.fromarray(pixels)
    forms = [("a.jpg", picture, {}), ("grey.jpg", picture.convert("L"), {}), ("progressive.jpg", picture, {"progressive": True}), ("a.png", picture, {}),
             ("palette.png", picture.convert("P"), {}), ("alpha.png", picture.convert("RGBA"), {}), ("a.gif", picture.convert("P"), {}),
             ("a.bmp", picture, {}), ("a.webp", picture, {}), ("lossless.webp", picture, {"lossless": True})]  # fmt: skip
    for name, picture, options in forms:
        data = io.BytesIO()
        picture.save(data, {"jpg": "jpeg"}.get(name[-3:], name.split(".")[-1]), **options)
        put("picture", name, data.getvalue())
    exif = Image.Exif()
    exif[0x0112] = 6
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "jpeg", exif=exif)
    put("picture", "turned.jpg", data.getvalue())


def ggufs():
    types = gguf.GGMLQuantizationType

    def write(name, architecture, fill):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "file"
            file = gguf.GGUFWriter(path, architecture)
            fill(file)
            file.write_header_to_file()
            file.write_kv_data_to_file()
            file.write_tensors_to_file()
            file.close()
            put("gguf", name, path.read_bytes())

    def every_type(file):
        rng = np.random.default_rng(0)
        for kind in types:
            block, size = gguf.GGML_QUANT_SIZES[kind]
            file.add_tensor(kind.name, rng.integers(0, 256, (2, size if block > 1 else 4 * size), dtype=np.uint8), raw_dtype=kind)

    def language(file):
        file.add_block_count(1)
        file.add_context_length(16)
        file.add_embedding_length(32)
        file.add_feed_forward_length(32)
        file.add_head_count(2)
        file.add_head_count_kv([1])
        file.add_layer_norm_rms_eps(1e-5)
        file.add_rope_dimension_count(16)
        words(file)
        for name, rows, kind in [("token_embd", 8, types.Q8_0), ("blk.0.attn_q", 32, types.Q4_0), ("blk.0.attn_k", 16, types.Q5_0), ("blk.0.ffn_up", 4, types.Q4_1)]:
            file.add_tensor(f"{name}.weight", gguf.quants.quantize(np.ones((rows, 32), np.float32), kind), raw_dtype=kind)
        file.add_tensor("output_norm.weight", np.ones(32, np.float32))
        file.add_tensor("blk.0.attn_q.bias", np.ones(32, np.float32))

    def words(file):
        file.add_tokenizer_model("gpt2")
        file.add_tokenizer_pre("smollm")
        file.add_token_list(["<s>", "a", "b", "ab", "Ġ", "Ġab", "<image>", ""])
        file.add_token_types([3, 1, 1, 1, 1, 1, 4, 5])
        file.add_token_merges(["a b", "Ġ ab"])
        file.add_bos_token_id(0)
        file.add_eos_token_id(0)
        file.add_add_bos_token(True)
        file.add_chat_template("{{ x }}")

    def pieces(file):
        file.add_tokenizer_model("llama")
        file.add_token_list(["<unk>", "<s>", "</s>", "▁", "a", "▁a", "ph", "p", "h", "<0x41>", "<0xFF>"])
        file.add_token_scores([0.0, 0.0, 0.0, -3.0, -4.0, -1.0, -2.0, -5.0, -6.0, 0.0, 0.0])
        file.add_token_types([2, 3, 3, 1, 1, 1, 1, 1, 1, 6, 6])

    def projector(file):
        file.add_clip_projector_type("idefics3")
        file.add_vision_projection_dim(8)
        file.add_vision_image_size(8)
        file.add_vision_patch_size(4)
        file.add_vision_embedding_length(8)
        file.add_vision_feed_forward_length(16)
        file.add_vision_block_count(1)
        file.add_vision_head_count(2)
        file.add_vision_image_mean([0.5, 0.5, 0.5])
        file.add_vision_image_std([0.5, 0.5, 0.5])
        file.add_vision_attention_layernorm_eps(1e-6)
        file.add_vision_projector_scale_factor(2)
        file.add_tensor("v.patch_embd.weight", np.ones((8, 3, 4, 4), np.float32))
        file.add_tensor("v.blk.0.ffn_down.weight", np.ones((16, 8), np.float16))

    write("types", "other", every_type)
    write("language", "llama", language)
    write("pieces", "llama", pieces)
    write("projector", "clip", projector)

    def raw(keys, tensors=b"", counted=None):
        return b"GGUF" + struct.pack("<IQQ", 3, counted or 0, 1) + struct.pack("<Q", 1) + b"k" + keys + tensors

    deep = b"".join([struct.pack("<IQ", 9, 1)] * 3) + struct.pack("<IQ", 4, 2) + bytes(8)
    put("gguf", "nested", raw(struct.pack("<I", 9) + deep))
    put("gguf", "huge", raw(struct.pack("<IIQ", 9, 8, 2**62)))
    tensor = struct.pack("<Q", 1) + b"w" + struct.pack("<IQQIQ", 2, 2**32, 2**31, 0, 0)
    put("gguf", "overflow", raw(struct.pack("<IQ", 10, 2**63), tensor, 1))


def checkpoint():
    """A folder that `ocelli import` makes a small bundle of."""
    from transformers import CLIPConfig, CLIPModel

    folder = Path(tempfile.mkdtemp())
    config = json.loads((SEEDS / "config" / "CLIPModel").read_bytes())
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(**{key: config[key] for key in ["text_config", "vision_config", "projection_dim"]})).save_pretrained(folder)
    data = (SEEDS / "tokenizer_files" / "clip").read_bytes()[1:]
    vocabulary, merges = data.split(b"\0")
    (folder / "vocab.json").write_bytes(vocabulary)
    (folder / "merges.txt").write_bytes(merges)
    (folder / "preprocessor_config.json").write_text(json.dumps({key: config[key] for key in ["image_processor_type", "size", "crop_size"]}))
    print(folder)


if __name__ == "__main__":
    weights()
    tokenizers()
    configs()
    pictures()
    ggufs()
    checkpoint()
