"""Goldens of image processors: what those of `transformers` make of pictures, by their default backend (torchvision, on a CPU with AVX2).

    pip install -r tools/reference/requirements.txt
    python tools/reference/preprocess.py          # from anywhere

writes
    tests/goldens/preprocess/cases.jsonl          a line a case: name, size of the picture, configuration of the processor, what came out
    tests/goldens/preprocess/values.safetensors   the inputs, by name: u8 where they were neither rescaled nor normalised, else f32

The pictures are those of `pictures.py`, made by a formula that the Rust test follows.
"""

import json

import safetensors.numpy
import torch
import transformers
from PIL import Image

from pictures import GOLDENS, made

# Grey levels as they are: exact, and a quarter of the size.
LEVELS = {"do_rescale": False, "do_normalize": False}
# Name, class, configuration as a file would have it, width and height of the picture.
CASES = [
    ("clip", "CLIPImageProcessor", {"size": 32, "crop_size": 32}, (61, 47)),
    ("clip-levels", "CLIPImageProcessor", {"size": {"shortest_edge": 48}, "crop_size": {"height": 48, "width": 48}, **LEVELS}, (640, 481)),
    ("clip-enlarged", "CLIPImageProcessor", {"size": 64, "crop_size": 57, **LEVELS}, (31, 43)),
    ("clip-padded", "CLIPImageProcessor", {"size": 20, "crop_size": [37, 26]}, (90, 83)),
    ("clip-uncropped", "CLIPImageProcessor", {"size": {"shortest_edge": 23}, "do_center_crop": False, **LEVELS}, (200, 99)),
    ("clip-longest", "CLIPImageProcessor", {"size": {"shortest_edge": 40, "longest_edge": 60}, "do_center_crop": False, **LEVELS}, (301, 90)),
    ("clip-not-resized", "CLIPImageProcessor", {"do_resize": False, "crop_size": 33, **LEVELS}, (50, 30)),
    ("clip-tall", "CLIPImageProcessor", {"size": 24, "crop_size": 24, **LEVELS}, (1, 500)),
    ("clip-wide", "CLIPImageProcessor", {"size": 24, "crop_size": 24, **LEVELS}, (500, 2)),
    ("clip-one-pixel", "CLIPImageProcessor", {"size": 16, "crop_size": 16}, (1, 1)),
    ("clip-nearest", "CLIPImageProcessor", {"size": 50, "crop_size": 40, "resample": 0, **LEVELS}, (73, 131)),
    ("clip-lanczos", "CLIPImageProcessor", {"size": 50, "crop_size": 40, "resample": 1, **LEVELS}, (173, 131)),
    ("siglip", "SiglipImageProcessor", {"size": {"height": 32, "width": 32}}, (123, 45)),
    ("siglip-levels", "SiglipImageProcessor", {"size": {"height": 56, "width": 56}, **LEVELS}, (397, 401)),
    ("siglip-bilinear", "SiglipImageProcessor", {"size": {"height": 40, "width": 60}, "resample": 2, **LEVELS}, (640, 480)),
    ("siglip-one-axis", "SiglipImageProcessor", {"size": {"height": 40, "width": 60}, **LEVELS}, (60, 80)),
    ("siglip-rescaled", "SiglipImageProcessor", {"size": [16, 24], "do_normalize": False}, (30, 20)),
    ("siglip2", "Siglip2ImageProcessor", {"patch_size": 4, "max_num_patches": 50}, (90, 70)),
    ("siglip2-levels", "Siglip2ImageProcessor", {"patch_size": 16, "max_num_patches": 12, **LEVELS}, (300, 401)),
    ("siglip2-long", "Siglip2ImageProcessor", {"patch_size": 5, "max_num_patches": 20, **LEVELS}, (700, 3)),
    ("owlvit", "OwlViTImageProcessor", {"size": [40, 40], "crop_size": 40, "rescale": True}, (100, 75)),
    ("owlvit-levels", "OwlViTImageProcessor", {"size": {"height": 72, "width": 72}, **LEVELS}, (333, 250)),
    ("owlv2-wide", "Owlv2ImageProcessor", {"size": {"height": 40, "width": 40}}, (101, 67)),
    ("owlv2-tall", "Owlv2ImageProcessor", {"size": {"height": 36, "width": 36}}, (47, 210)),
    ("owlv2-enlarged", "Owlv2ImageProcessor", {"size": {"height": 40, "width": 40}}, (31, 25)),
]
# Of the box, in parts of the input, that each case maps back to its picture.
BOX = [0.25, 0.125, 0.75, 0.5]


def in_picture(cls, width, height):
    """The box in pixels of the picture, by the processor's own arithmetic, where it has any."""
    if not hasattr(cls, "post_process_object_detection"):
        return None
    x0, y0, x1, y1 = BOX
    boxes = torch.tensor([[[(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0]]])
    outputs = type("Outputs", (), {"logits": torch.ones(1, 1, 1), "pred_boxes": boxes})
    [result] = cls().post_process_object_detection(outputs, target_sizes=[(height, width)])
    return result["boxes"][0].tolist()


def main() -> None:
    folder = GOLDENS / "preprocess"
    folder.mkdir(parents=True, exist_ok=True)
    values, lines = {}, []
    for name, kind, config, (width, height) in CASES:
        cls = getattr(transformers, kind)
        out = cls.from_dict(dict(config))(images=Image.fromarray(made(width, height)), return_tensors="pt")
        pixels = out["pixel_values"][0]
        values[name] = pixels.numpy()
        case = {"name": name, "width": width, "height": height, "config": {"image_processor_type": kind, **config}, "shape": list(pixels.shape)}
        if "spatial_shapes" in out:
            case["patches"] = out["spatial_shapes"][0].tolist()
        if boxes := in_picture(cls, width, height):
            case["box"] = boxes
        lines.append(json.dumps(case) + "\n")
    (folder / "cases.jsonl").write_text("".join(lines), encoding="utf-8")
    safetensors.numpy.save_file(values, folder / "values.safetensors")


if __name__ == "__main__":
    main()
