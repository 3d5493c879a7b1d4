"""Goldens of CLIP: CLIPModel, its two halves with their projections, and open_clip's own model.

    python tools/reference/clip.py                                        # tests/goldens/clip/*
    python tools/reference/clip.py --out DIR --preset wide --seed 7       # one checkpoint, and DIR.expected
"""

import json

import torch
from common import TEXTS, Taps, arguments, clip_tokenizer, compact, open_picture, pictures, randomize, reload, save_model, write_expected, write_vocabulary
from safetensors.torch import save_file
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]

# width, heads, inner, layers, activation; patch and image; positions; merges None: OpenAI's vocabulary of 49408.
# eos 2 is what OpenAI's configs say: the text is read at its highest id. Otherwise at its first end-of-text token.
PRESETS = {
    # 30 is no multiple of 8: the last 6 rows and columns are not seen. Its preprocessor_config.json is as OpenAI's repositories have it.
    "tiny": {"golden": "clip", "vision": (32, 2, 48, 2), "text": (24, 3, 40, 2), "act": "quick_gelu", "patch": 8, "image": 30, "dim": 20, "positions": 20, "merges": 32, "eos": 2, "old": True},
    # A token above end-of-text, so that the two rules of reading differ. Half floats, in shards, as transformers 5 saves a processor.
    "eos": {"golden": "clip", "vision": (40, 5, 48, 2), "text": (24, 2, 48, 2), "act": "gelu", "patch": 7, "image": 21, "dim": 16, "positions": 32, "merges": 32, "eos": "own", "added": ["rocket", "snow"], "stored": torch.float16, "shards": "60KB", "processor": True},
    "vision": {"golden": "clip", "vision": (32, 4, 48, 2), "act": "quick_gelu", "patch": 14, "image": 33, "dim": 16, "stored": torch.bfloat16},
    "text": {"golden": "clip", "text": (24, 2, 48, 2), "act": "quick_gelu", "dim": 28, "positions": 16, "merges": 32, "eos": 2, "stored": torch.float16, "bin": True},
    "openclip": {"golden": "clip", "open_clip": True, "vision": (24, 3, 96, 2), "text": (16, 2, 64, 2), "act": "gelu", "patch": 6, "image": 24, "dim": 20, "positions": 16, "merges": 32},
    "openclip-quick": {"open_clip": True, "vision": (192, 3, 768, 3), "text": (128, 2, 512, 3), "act": "quick_gelu", "patch": 32, "image": 224, "dim": 128, "positions": 77, "merges": None},
    "wide": {"vision": (256, 4, 1024, 4), "text": (192, 3, 768, 4), "act": "quick_gelu", "patch": 32, "image": 224, "dim": 128, "positions": 77, "merges": 400, "eos": 2},
    "laion": {"vision": (320, 5, 1280, 3), "text": (256, 4, 1024, 3), "act": "gelu", "patch": 14, "image": 224, "dim": 192, "positions": 77, "merges": 400, "eos": "own", "stored": torch.bfloat16},
    "b32": {"vision": (768, 12, 3072, 12), "text": (512, 8, 2048, 12), "act": "quick_gelu", "patch": 32, "image": 224, "dim": 512, "positions": 77, "merges": None, "eos": 2, "old": True},
}  # fmt: skip
HIDDEN_TEXTS = 2


def widths(shape):
    return dict(zip(("hidden_size", "num_attention_heads", "intermediate_size", "num_hidden_layers"), shape))


def image_processor(side):
    return CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})


def config_and_class(p, tokenizer):
    vision = text = None
    if "vision" in p:
        vision = CLIPVisionConfig(**widths(p["vision"]), hidden_act=p["act"], patch_size=p["patch"], image_size=p["image"], projection_dim=p["dim"])
    if "text" in p:
        legacy = p["eos"] == 2
        text = CLIPTextConfig(
            **widths(p["text"]), hidden_act=p["act"], vocab_size=len(tokenizer), max_position_embeddings=p["positions"], projection_dim=p["dim"],
            bos_token_id=0 if legacy else tokenizer.bos_token_id, eos_token_id=2 if legacy else tokenizer.eos_token_id, pad_token_id=1 if legacy else tokenizer.pad_token_id,
        )  # fmt: skip
    if vision and text:
        return CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=p["dim"]), CLIPModel
    return (vision, CLIPVisionModelWithProjection) if vision else (text, CLIPTextModelWithProjection)


def image_values(model, files, processor, tensors):
    """Of each picture pixels and projected embedding; of the first also every stage. Gives the embeddings."""
    vision, embeds = model.vision_model, []
    stages = {"embeddings": vision.embeddings, "pre_norm": vision.pre_layrnorm, "pooled": vision.post_layernorm, "embeds": model.visual_projection}
    stages |= {f"layers_{i}": layer for i, layer in enumerate(vision.encoder.layers)}
    for n, (name, file) in enumerate(files.items()):
        pixels = processor(images=open_picture(file), return_tensors="pt")["pixel_values"]
        tensors[f"pixel_values.{name}"] = pixels
        with Taps(**stages) as taps:
            model.get_image_features(pixels) if isinstance(model, CLIPModel) else model(pixels)
        for stage in stages if n == 0 else ("pooled",):
            if stage != "embeds":
                tensors[f"vision.{name}.{stage.replace('_', '.', 1) if stage.startswith('layers') else stage}"] = taps[stage]
        tensors[f"image_embeds.{name}"] = taps["embeds"]
        embeds.append(taps["embeds"])
    return torch.cat(embeds)


def text_values(model, tokenizer, tensors):
    encoded = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    text = model.text_model
    stages = {"embeddings": text.embeddings, "final_norm": text.final_layer_norm, "embeds": model.text_projection}
    stages |= {f"layers_{i}": layer for i, layer in enumerate(text.encoder.layers)}
    with Taps(**stages) as taps:
        pooled = text(**encoded).pooler_output
        model.get_text_features(**encoded) if isinstance(model, CLIPModel) else model(**encoded)
    tensors |= {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"], "text.pooled": pooled, "text_embeds": taps["embeds"]}
    for stage in stages:
        if stage != "embeds":
            tensors[f"text.{stage.replace('_', '.', 1) if stage.startswith('layers') else stage}"] = taps[stage][:HIDDEN_TEXTS]
    return encoded, taps["embeds"], tensors


def ids_without_padding(encoded):
    return [row[mask.bool()].tolist() for row, mask in zip(encoded["input_ids"], encoded["attention_mask"])]


@torch.no_grad()
def write(preset, folder, expected, seed):
    p = PRESETS[preset]
    if p.get("open_clip"):
        return write_open_clip(preset, p, folder, expected, seed)
    tokenizer = clip_tokenizer(p["merges"], p["positions"], added=p.get("added", ())) if "text" in p else None
    config, model_class = config_and_class(p, tokenizer)
    model = randomize(model_class(config), seed)
    positions = [("text_model.embeddings.position_ids", p["positions"])] if "text" in p else []
    save_model(model, folder, p.get("stored", torch.float32), p.get("shards"), p.get("bin", False), positions)
    processor = image_processor(p["image"]) if "vision" in p else None
    if p.get("processor"):
        CLIPProcessor(processor, tokenizer).save_pretrained(folder)
    else:
        if tokenizer:
            tokenizer.save_pretrained(folder)
            if not p.get("golden"):
                write_vocabulary(tokenizer, folder)
        if p.get("old"):
            said = {"crop_size": p["image"], "do_center_crop": True, "do_normalize": True, "do_resize": True, "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": MEAN, "image_std": STD, "resample": 3, "size": p["image"]}
            (folder / "preprocessor_config.json").write_text(json.dumps(said, indent=2) + "\n")
            processor = CLIPImageProcessor.from_pretrained(folder)
            assert processor.crop_size["height"] == p["image"] and processor.size["shortest_edge"] == p["image"]
        elif processor:
            processor.save_pretrained(folder)
    compact(folder)

    model = reload(model_class, folder)
    tensors, facts = {}, {"reference": f"transformers {model_class.__name__}"}
    images = encoded = None
    if processor:
        files = pictures(expected, seed + 1, 1 if p.get("golden") else 11)
        images = image_values(model, files, processor, tensors)
        facts["pictures"] = {name: f"pictures/{file.name}" for name, file in files.items()}
    if tokenizer:
        encoded, texts, tensors = text_values(model, tokenizer, tensors)
        facts |= {"texts": TEXTS, "ids": ids_without_padding(encoded)}
    if images is not None and encoded is not None:
        pixels = torch.cat([tensors[f"pixel_values.{name}"] for name in files])
        whole = model(**encoded, pixel_values=pixels)
        tensors["logits_per_image"] = whole.logits_per_image
        facts |= {"logit_scale": model.logit_scale.exp().item(), "logits_per_image": "rows: pictures in their order, columns: texts"}
        # The stages were taken picture by picture; the whole must say the same.
        scale = model.logit_scale.exp()
        walked = torch.nn.functional.normalize(images) @ torch.nn.functional.normalize(texts).T * scale
        assert torch.allclose(walked, whole.logits_per_image, atol=2e-3), (walked - whole.logits_per_image).abs().max()
    write_expected(expected, tensors, facts, "clip", preset, seed)


# open_clip: its own names for the weights, its own configuration file, values by its own code.


def open_clip_config(p, vocabulary):
    text, vision = widths(p["text"]), widths(p["vision"])
    return {
        "embed_dim": p["dim"],
        **({"quick_gelu": True} if p["act"] == "quick_gelu" else {}),
        "vision_cfg": {"image_size": p["image"], "layers": vision["num_hidden_layers"], "width": vision["hidden_size"], "head_width": vision["hidden_size"] // vision["num_attention_heads"], "patch_size": p["patch"]},
        "text_cfg": {"context_length": p["positions"], "vocab_size": vocabulary, "width": text["hidden_size"], "heads": text["num_attention_heads"], "layers": text["num_hidden_layers"]},
    }  # fmt: skip


def write_open_clip(preset, p, folder, expected, seed):
    import open_clip
    from open_clip.transform import image_transform

    tokenizer = clip_tokenizer(p["merges"], p["positions"])
    config = open_clip_config(p, len(tokenizer))
    model = randomize(open_clip.model.CLIP(**{**config, "quick_gelu": config.get("quick_gelu", False)}), seed).eval()
    save_file({name: t.contiguous() for name, t in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    recipe = {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "shortest"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": recipe}, indent=2) + "\n")
    tokenizer.save_pretrained(folder)
    compact(folder)

    preprocess = image_transform(p["image"], is_train=False, mean=tuple(MEAN), std=tuple(STD), interpolation="bicubic", resize_mode="shortest")
    files = pictures(expected, seed + 1, 1 if p.get("golden") else 11)
    tensors, embeds = {}, []
    for n, (name, file) in enumerate(files.items()):
        pixels = preprocess(open_picture(file))[None]
        blocks = {f"layers.{i}": block for i, block in enumerate(model.visual.transformer.resblocks)}
        stages = {"pre_norm": model.visual.ln_pre, "post_norm": model.visual.ln_post, **blocks}
        with Taps(**stages) as taps:
            embeds.append(model.encode_image(pixels))
        tensors |= {f"pixel_values.{name}": pixels, f"image_embeds.{name}": embeds[-1]}
        if n == 0:
            tensors |= {f"vision.{name}.{stage}": taps[stage] for stage in stages}
    encoded = tokenizer(TEXTS, padding="max_length", truncation=True, return_tensors="pt")
    # open_clip pads with zeros.
    ids = torch.where(encoded["attention_mask"].bool(), encoded["input_ids"], 0)
    stages = {"final_norm": model.ln_final} | {f"layers.{i}": block for i, block in enumerate(model.transformer.resblocks)}
    with Taps(**stages) as taps:
        texts = model.encode_text(ids)
    tensors |= {"input_ids": ids, "attention_mask": encoded["attention_mask"], "text_embeds": texts}
    tensors |= {f"text.{stage}": taps[stage][:HIDDEN_TEXTS] for stage in stages}
    images = torch.cat(embeds)
    unit = torch.nn.functional.normalize
    tensors["logits_per_image"] = unit(images) @ unit(texts).T * model.logit_scale.exp()
    facts = {
        "reference": f"open_clip {open_clip.__version__}",
        "pictures": {name: f"pictures/{file.name}" for name, file in files.items()},
        "texts": TEXTS,
        "ids": ids_without_padding(encoded),
        "logit_scale": model.logit_scale.exp().item(),
    }
    write_expected(expected, tensors, facts, "open_clip", preset, seed)


if __name__ == "__main__":
    arguments(__doc__, PRESETS, write)
