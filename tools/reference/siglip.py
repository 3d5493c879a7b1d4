"""Goldens of SigLIP and SigLIP2: SiglipModel with either tokenizer, and Siglip2Model with pictures of any shape (NaFlex).

    python tools/reference/siglip.py                                      # tests/goldens/siglip/*
    python tools/reference/siglip.py --out DIR --preset base --seed 7     # one checkpoint, and DIR.expected

google/siglip2-base-patch16-224 and its like are SiglipModels with Gemma's tokenizer; only the naflex ones are Siglip2Models. No attention mask goes
to the text model (the tokenizers on the Hub give none): padding is attended to, and the text is read at its last position.
"""

import torch
from common import TEXTS, Taps, arguments, as_gemma, compact, gemma_tokenizer, open_picture, pictures, randomize, reload, save_model, siglip_tokenizer, sparse, write_expected
from transformers import AutoTokenizer, Siglip2Config, Siglip2ImageProcessor, Siglip2Model, SiglipConfig, SiglipImageProcessor, SiglipModel

# `gemma-hub`: files as on the Hub, `gemma`: as transformers 5 saves them.
# width, heads, inner, layers; patch and image (or patches of the position grid, and of a picture at most); positions.
PRESETS = {
    "tiny": {"golden": "siglip", "vision": (32, 2, 48, 2), "text": (24, 4, 40, 2), "act": "gelu_pytorch_tanh", "patch": 7, "image": 24, "positions": 16, "tokenizer": "spiece"},
    # Text narrower than vision, projected up to it; brain floats.
    "gemma": {"golden": "siglip", "vision": (32, 4, 40, 2), "text": (24, 2, 40, 2), "act": "gelu_pytorch_tanh", "patch": 6, "image": 24, "positions": 24, "tokenizer": "gemma-hub", "stored": torch.bfloat16, "sparse": True},
    "naflex": {"golden": "siglip", "vision": (32, 4, 48, 2), "text": (24, 2, 40, 2), "act": "gelu_pytorch_tanh", "patch": 5, "grid": 16, "patches": 30, "positions": 20, "tokenizer": "gemma-hub", "stored": torch.float16, "sparse": True},
    "base": {"vision": (256, 4, 1024, 4), "text": (256, 4, 768, 4), "act": "gelu_pytorch_tanh", "patch": 16, "image": 224, "positions": 64, "tokenizer": "spiece"},
    "so400m": {"vision": (288, 4, 1076, 3), "text": (192, 3, 768, 3), "act": "gelu_pytorch_tanh", "patch": 14, "image": 384, "positions": 64, "tokenizer": "gemma"},
    "naflex256": {"vision": (256, 4, 1024, 4), "text": (192, 3, 768, 4), "act": "gelu_pytorch_tanh", "patch": 16, "grid": 256, "patches": 256, "positions": 64, "tokenizer": "gemma-hub"},
}  # fmt: skip
HIDDEN_TEXTS = 2


def widths(shape):
    return dict(zip(("hidden_size", "num_attention_heads", "intermediate_size", "num_hidden_layers"), shape))


def config_of(p, vocabulary):
    text = widths(p["text"]) | {"vocab_size": vocabulary, "max_position_embeddings": p["positions"], "hidden_act": p["act"], "projection_size": p["vision"][0]}
    vision = widths(p["vision"]) | {"patch_size": p["patch"], "hidden_act": p["act"]}
    if "grid" in p:
        return Siglip2Config(text_config=text, vision_config=vision | {"num_patches": p["grid"]})
    return SiglipConfig(text_config=text, vision_config=vision | {"image_size": p["image"]})


def image_processor(p):
    # Called by itself, never through Siglip2Processor: that one overrides the patch size and the number of patches with 16 and 256 of its own.
    if "grid" in p:
        return Siglip2ImageProcessor(patch_size=p["patch"], max_num_patches=p["patches"], do_convert_rgb=True)
    return SiglipImageProcessor(size={"height": p["image"], "width": p["image"]}, image_mean=[0.5] * 3, image_std=[0.5] * 3)


def image_values(model, files, processor, tensors):
    """Of each picture the processor's tensors and the embedding (the pooling head's output); of the first also every stage."""
    vision = model.vision_model
    stages = {"embeddings": vision.embeddings, "post_norm": vision.post_layernorm, "pool_attention": vision.head.attention, "embeds": vision.head}
    stages |= {f"layers.{i}": layer for i, layer in enumerate(vision.encoder.layers)}
    for n, (name, file) in enumerate(files.items()):
        inputs = processor(images=open_picture(file), return_tensors="pt")
        with Taps(**stages) as taps:
            model.get_image_features(**inputs)
        tensors |= {f"{key}.{name}": value for key, value in inputs.items()}
        tensors[f"image_embeds.{name}"] = taps["embeds"]
        # Of NaFlex every picture's first stage too, for its positions are interpolated to the picture's own grid.
        kept = stages if n == 0 else ["embeddings"] if "spatial_shapes" in inputs else []
        tensors |= {f"vision.{name}.{stage}": taps[stage] for stage in kept if stage != "embeds"}
    return tensors


@torch.no_grad()
def write(preset, folder, expected, seed):
    p = PRESETS[preset]
    tokenizer = siglip_tokenizer(folder, max_length=p["positions"]) if p["tokenizer"] == "spiece" else gemma_tokenizer(max_length=p["positions"])
    model_class = Siglip2Model if "grid" in p else SiglipModel
    model = randomize(model_class(config_of(p, len(tokenizer))), seed)
    save_model(model, folder, p.get("stored", torch.float32))
    if p.get("sparse"):
        sparse(folder, model.config)
    tokenizer.save_pretrained(folder)
    if p["tokenizer"] == "gemma-hub":
        as_gemma(folder)
    processor = image_processor(p)
    processor.save_pretrained(folder)
    compact(folder)

    model, tokenizer = reload(model_class, folder), AutoTokenizer.from_pretrained(folder)
    files = pictures(expected, seed + 1, 1 if p.get("golden") else 11)
    tensors = image_values(model, files, processor, {})
    encoded = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=p["positions"], return_tensors="pt")
    assert set(encoded) == {"input_ids"}, set(encoded)
    text = model.text_model
    stages = {"embeddings": text.embeddings, "final_norm": text.final_layer_norm}
    stages |= {f"layers.{i}": layer for i, layer in enumerate(text.encoder.layers)}
    with Taps(**stages) as taps:
        texts = model.get_text_features(**encoded).pooler_output
    tensors |= {"input_ids": encoded["input_ids"], "text_embeds": texts}
    tensors |= {f"text.{stage}": taps[stage][:HIDDEN_TEXTS] for stage in stages}

    names = [key for key in ("pixel_values", "pixel_attention_mask", "spatial_shapes") if f"{key}.wide" in tensors]
    whole = model(**encoded, **{key: torch.cat([tensors[f"{key}.{name}"] for name in files]) for key in names})
    tensors["logits_per_image"] = whole.logits_per_image
    unit = torch.nn.functional.normalize
    walked = unit(torch.cat([tensors[f"image_embeds.{name}"] for name in files])) @ unit(texts).T * model.logit_scale.exp() + model.logit_bias
    assert torch.allclose(walked, whole.logits_per_image, atol=2e-3), (walked - whole.logits_per_image).abs().max()
    facts = {
        "reference": f"transformers {model_class.__name__}",
        "pictures": {name: f"pictures/{file.name}" for name, file in files.items()},
        "texts": TEXTS,
        "ids": encoded["input_ids"].tolist(),
        "logit_scale": model.logit_scale.exp().item(),
        "logit_bias": model.logit_bias.item(),
        "logits_per_image": "rows: pictures in their order, columns: texts",
    }
    write_expected(expected, tensors, facts, "siglip2" if "grid" in p else "siglip", preset, seed)


if __name__ == "__main__":
    arguments(__doc__, PRESETS, write)
