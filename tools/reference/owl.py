"""Goldens of OWL-ViT and OWLv2: open-vocabulary detection with phrases and with a picture as the query.

    python tools/reference/owl.py                                         # tests/goldens/owl/*
    python tools/reference/owl.py --out DIR --preset b32 --seed 7         # one checkpoint, and DIR.expected
"""

from types import SimpleNamespace

import torch
from common import TEXTS, Taps, arguments, clip_tokenizer, compact, open_picture, pictures, randomize, reload, save_model, write_expected, write_vocabulary
from transformers import (
    Owlv2Config,
    Owlv2ForObjectDetection,
    Owlv2ImageProcessor,
    Owlv2Processor,
    OwlViTConfig,
    OwlViTForObjectDetection,
    OwlViTImageProcessor,
    OwlViTProcessor,
)
from transformers.image_transforms import center_to_corners_format
from transformers.models.owlvit.image_processing_owlvit import box_iou

# width, heads, inner, layers; patch and image; the projection is as wide as the text, for its embeddings are the queries.
PRESETS = {
    # 32 is no multiple of 6: the last 2 rows and columns are not seen.
    "owlvit": {"golden": "owl", "vision": (32, 4, 48, 2), "text": (24, 2, 40, 2), "patch": 6, "image": 32, "merges": 24},
    # No tokenizer.json, as in the repositories on the Hub: vocab.json and merges.txt.
    "owlv2": {"golden": "owl", "v2": True, "vision": (32, 2, 48, 2), "text": (32, 4, 40, 2), "patch": 5, "image": 30, "merges": 24, "stored": torch.float16, "only_vocabulary": True},
    "b32": {"vision": (256, 4, 1024, 4), "text": (128, 4, 512, 3), "patch": 32, "image": 768, "merges": 300, "only_vocabulary": True},
    "v2b16": {"v2": True, "vision": (128, 4, 256, 2), "text": (128, 4, 512, 3), "patch": 16, "image": 960, "merges": 300, "only_vocabulary": True},
    "v2b32": {"v2": True, "vision": (192, 3, 512, 3), "text": (128, 2, 512, 3), "patch": 32, "image": 480, "merges": None},
}  # fmt: skip
PHRASES = ["a photo of a cat", "A red bus!", "two dogs in the snow", "remote control"]
HIDDEN_TEXTS = 2
POSITIONS = 16


def widths(shape):
    return dict(zip(("hidden_size", "num_attention_heads", "intermediate_size", "num_hidden_layers"), shape))


def classes(p):
    return (Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessor, Owlv2Processor) if p.get("v2") else (OwlViTConfig, OwlViTForObjectDetection, OwlViTImageProcessor, OwlViTProcessor)


def in_a_gap(values, wanted):
    """A threshold in the widest gap around the `wanted`-th greatest value: rounding must not decide what is found."""
    v = values.flatten().sort(descending=True).values
    low, high = max(1, wanted // 2), min(len(v) - 1, 2 * wanted)
    gaps = v[low - 1 : high - 1] - v[low:high]
    k = int(gaps.argmax()) + low
    return float((v[k - 1] + v[k]) / 2)


def found(result):
    return {key: result[key].tolist() for key in ("scores", "boxes", "labels") if result[key] is not None}


def selection_margin(model, features, v2):
    """How clearly the patch that stands for a query picture is chosen: the distance to the runner-up, relative to the values that decide."""
    flat = features.flatten(1, 2)
    if v2:
        top = model.objectness_predictor(flat)[0].sort(descending=True).values
        return float((top[0] - top[1]) / top.abs().max())
    ious = box_iou(torch.tensor([[0, 0, 1, 1]]), center_to_corners_format(model.box_predictor(flat, features))[0])[0][0]
    edge = ious.max() * 0.8
    embeds = model.class_predictor(flat)[1][0]
    similar = (embeds[ious >= edge] @ embeds.mean(0)).sort().values
    near = (ious - edge).abs().min() / edge
    return float(min(near, (similar[1] - similar[0]) / similar.abs().max())) if len(similar) > 1 else float(near)


def image_values(model, name, pixels, encoded, full, tensors):
    owl = getattr(model, "owlvit", None) or model.owlv2
    vision = owl.vision_model
    norm = getattr(vision, "pre_layernorm", None) or vision.pre_layrnorm
    stages = {"embeddings": vision.embeddings, "pre_norm": norm, "class_dense": model.class_head.dense0, "class_shift": model.class_head.logit_shift, "class_scale": model.class_head.logit_scale, "box_dense": model.box_head.dense2}
    stages |= {f"layers.{i}": layer for i, layer in enumerate(vision.encoder.layers)}
    with Taps(**stages) as taps:
        outputs = model(input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"], pixel_values=pixels)
    tensors |= {f"pixel_values.{name}": pixels, f"logits.{name}": outputs.logits, f"pred_boxes.{name}": outputs.pred_boxes}
    if "objectness_logits" in outputs:
        tensors[f"objectness_logits.{name}"] = outputs.objectness_logits
    if full:
        tensors |= {f"vision.{name}.{stage}": taps[stage] for stage in stages}
        # `query_embeds` are divided by their norm already, and the class head does it again; `text_embeds` below are not.
        tensors |= {f"feature_map.{name}": outputs.image_embeds, f"class_embeds.{name}": outputs.class_embeds, "query_embeds": outputs.text_embeds}
    return outputs


@torch.no_grad()
def write(preset, folder, expected, seed):
    p = PRESETS[preset]
    config_class, model_class, image_class, processor_class = classes(p)
    tokenizer = clip_tokenizer(p["merges"], POSITIONS, pad_token="!")
    text = widths(p["text"]) | {"vocab_size": len(tokenizer), "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": 0}
    vision = widths(p["vision"]) | {"patch_size": p["patch"], "image_size": p["image"]}
    model = randomize(model_class(config_class(text_config=text, vision_config=vision, projection_dim=p["text"][0])), seed)
    save_model(model, folder, p.get("stored", torch.float32))
    tokenizer.save_pretrained(folder)
    write_vocabulary(tokenizer, folder)
    images = image_class(size={"height": p["image"], "width": p["image"]})
    images.save_pretrained(folder)
    if p.get("only_vocabulary"):
        (folder / "tokenizer.json").unlink()
    compact(folder)

    model = reload(model_class, folder)
    owl = model.owlv2 if p.get("v2") else model.owlvit
    processor = processor_class(images, tokenizer)
    files = pictures(expected, seed + 1, 1 if p.get("golden") else 11)
    tensors, detections = {}, {}
    encoded = processor(text=[PHRASES], return_tensors="pt")
    tensors |= {"phrases.input_ids": encoded["input_ids"], "phrases.attention_mask": encoded["attention_mask"]}
    sizes = {}
    for n, (name, file) in enumerate(files.items()):
        image = open_picture(file)
        pixels = images(image, return_tensors="pt")["pixel_values"]
        outputs = image_values(model, name, pixels, encoded, n == 0, tensors)
        sizes[name] = torch.tensor([image.size[::-1]])
        threshold = in_a_gap(torch.sigmoid(outputs.logits.max(-1).values), min(24, outputs.logits.shape[1] // 2))
        result = processor.post_process_grounded_object_detection(outputs, threshold=threshold, target_sizes=sizes[name], text_labels=[PHRASES])[0]
        detections[name] = {"height_width": sizes[name][0].tolist(), "threshold": threshold} | found(result)
        detections[name]["text_labels"] = list(result["text_labels"])

    texts = tokenizer(TEXTS, padding="max_length", truncation=True, return_tensors="pt")
    stages = {"embeddings": owl.text_model.embeddings, "final_norm": owl.text_model.final_layer_norm, "embeds": owl.text_projection}
    stages |= {f"layers.{i}": layer for i, layer in enumerate(owl.text_model.encoder.layers)}
    with Taps(**stages) as taps:
        owl.get_text_features(**texts)
    tensors |= {"input_ids": texts["input_ids"], "attention_mask": texts["attention_mask"], "text_embeds": taps["embeds"]}
    tensors |= {f"text.{stage}": taps[stage][:HIDDEN_TEXTS] for stage in stages if stage != "embeds"}

    # Only pictures of which the query patch is chosen clearly: rounding must not decide it.
    names = list(files)
    features = {name: model.image_embedder(tensors[f"pixel_values.{name}"])[0] for name in names}
    margins = {name: selection_margin(model, features[name], p.get("v2")) for name in names}
    guided = {}
    clearest = sorted(names, key=lambda name: -margins[name])
    for query in [clearest[0], *(name for name in clearest[1:3] if margins[name] > 0.005)]:
        target = names[names.index(query) - 1]
        outputs = model.image_guided_detection(pixel_values=tensors[f"pixel_values.{target}"], query_pixel_values=tensors[f"pixel_values.{query}"])
        embeds, index, _ = model.embed_image_query(features[query].flatten(1, 2), features[query])
        key = f"{query}-in-{target}"
        tensors |= {f"guided.{key}.query_embeds": embeds, f"guided.{key}.logits": outputs.logits}
        assert torch.equal(outputs.target_pred_boxes, tensors[f"pred_boxes.{target}"])
        scores = torch.sigmoid(outputs.logits.max(-1).values)
        guided[key] = {"query": query, "target": target, "query_patch": int(index.flatten()[0]), "margin": margins[query], "threshold": in_a_gap(scores, min(24, scores.shape[1] // 2))}
        for nms in (0.3, 1.0):
            results = processor.post_process_image_guided_detection(outputs, threshold=guided[key]["threshold"], nms_threshold=nms, target_sizes=sizes[target])
            kept = found(results[0]) if results else {"scores": [], "boxes": []}
            # Its scores are where a score lies between a tenth of the best and the best; here they are as they were, too.
            boxes = images.post_process_object_detection(SimpleNamespace(logits=outputs.logits, pred_boxes=outputs.target_pred_boxes), threshold=0.0, target_sizes=sizes[target])[0]
            where = [(boxes["boxes"] == torch.tensor(box)).all(-1).nonzero()[0, 0] for box in kept["boxes"]]
            guided[key][f"nms_{nms}"] = kept | {"sigmoid": [float(boxes["scores"][i]) for i in where]}
    facts = {
        "reference": f"transformers {model_class.__name__}",
        "pictures": {name: f"pictures/{file.name}" for name, file in files.items()},
        "phrases": PHRASES,
        "texts": TEXTS,
        "ids": [row[mask.bool()].tolist() for row, mask in zip(texts["input_ids"], texts["attention_mask"])],
        "detections": detections,
        "image_guided": guided,
    }
    write_expected(expected, tensors, facts, "owlv2" if p.get("v2") else "owlvit", preset, seed)


if __name__ == "__main__":
    arguments(__doc__, PRESETS, write)
