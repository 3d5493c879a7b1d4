"""Goldens of reading and resizing pictures: what Pillow makes of them.

    python tools/reference/pictures.py            # from anywhere

writes
    tests/goldens/squash/WIDTHxHEIGHT-SIDE.png    a picture made by a formula, which the Rust test follows, resized to SIDE x SIDE
    tests/goldens/pictures/NAME                   one small picture of each kind of file
    tests/goldens/pictures/NAME.rgb.png           what Pillow reads from it: first frame, upright, converted to RGB on white

Pillow up to 12 resizes columns first, then rows. Pillow 13 begins with the rows where it expects that to be faster; a grey level may then differ
by one, and the goldens are not the same.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

GOLDENS = Path(__file__).resolve().parents[2] / "tests" / "goldens"
# Width, height, side: smaller, larger, both, one side as it is, nothing to do.
SQUASHED = [(640, 480, 112), (301, 17, 32), (19, 300, 32), (33, 20, 48), (1, 1, 16), (40, 100, 40), (100, 40, 40), (48, 48, 48), (1283, 721, 24)]


def made(width: int, height: int) -> np.ndarray:
    """RGB, u8, [y, x, channel]: fields of noise and of ramps in turn, so that both averages and edges count."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    noise = (x * 2654435761 + y * 40503 + c * 97) % 4294967296
    noise = ((noise ^ (noise >> 15)) * 2246822519) % 4294967296 >> 24
    ramp = (x * 3 + y * 5 + c * 80) % 256
    return np.where((x // 32 + y // 32) % 2 == 0, noise, ramp).astype(np.uint8)


def squashed() -> None:
    folder = GOLDENS / "squash"
    folder.mkdir(parents=True, exist_ok=True)
    for width, height, side in SQUASHED:
        picture = Image.fromarray(made(width, height)).resize((side, side), Image.Resampling.BILINEAR)
        picture.save(folder / f"{width}x{height}-{side}.png", optimize=True)


def smooth(width: int, height: int) -> Image.Image:
    """A picture that JPEG keeps well."""
    y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    channels = [255 * x / width, 255 * y / height, 255 - 255 * (x + y) / (width + height)]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def on_white(picture: Image.Image) -> Image.Image:
    """RGB; what is transparent is blended with white, as transformers' image processors do."""
    if "A" not in picture.getbands() and picture.info.get("transparency") is None:
        return picture.convert("RGB")
    white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")


def kinds() -> None:
    folder = GOLDENS / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    picture = smooth(24, 16)
    alpha = Image.fromarray(np.arange(24 * 16, dtype=np.uint16).reshape(16, 24).astype(np.uint8))
    transparent = picture.copy()
    transparent.putalpha(alpha)
    other = ImageOps.invert(picture)
    animated = {"save_all": True, "append_images": [other], "duration": 100}
    sixteen = Image.fromarray((np.arange(24 * 16, dtype=np.uint32) * 170).astype(np.uint16).reshape(16, 24))

    picture.save(folder / "plain.jpg", quality=90, subsampling=0)
    picture.save(folder / "subsampled.jpg", quality=90)
    picture.save(folder / "progressive.jpg", quality=90, progressive=True, subsampling=0)
    picture.save(folder / "half-across.jpg", quality=75, subsampling=1)
    # Sides that end within a block, and within a sample of chroma.
    smooth(37, 21).save(folder / "progressive-subsampled.jpg", quality=60, progressive=True)
    smooth(37, 21).save(folder / "restarts.jpg", quality=80, restart_marker_blocks=2)
    smooth(3, 5).save(folder / "narrow.jpg", quality=80)
    picture.convert("L").save(folder / "grey.jpg", quality=90)
    picture.convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    for orientation in range(2, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture.save(folder / f"orientation-{orientation}.jpg", quality=90, subsampling=0, exif=exif)
    picture.save(folder / "plain.png")
    transparent.save(folder / "alpha.png")
    sixteen.save(folder / "grey16.png")
    picture.quantize(16).save(folder / "palette.png")
    picture.convert("1").save(folder / "one-bit.png")
    transparent.convert("LA").save(folder / "grey-alpha.png")
    picture.save(folder / "animated.png", **animated)
    picture.quantize(64).save(folder / "animated.gif", **animated)
    picture.save(folder / "animated.webp", lossless=True, **animated)
    transparent.save(folder / "alpha.webp", lossless=True, exact=True)
    picture.save(folder / "plain.bmp")

    for path in sorted(folder.iterdir()):
        if not path.name.endswith(".rgb.png"):
            with Image.open(path) as read:
                if read.mode == "I;16":
                    # Of 16-bit grey Pillow keeps what is below 256, which nobody wants. As of its 16-bit RGB, the high byte is kept here.
                    read = Image.fromarray((np.asarray(read) >> 8).astype(np.uint8))
                on_white(ImageOps.exif_transpose(read)).save(folder / f"{path.name}.rgb.png", optimize=True)


if __name__ == "__main__":
    squashed()
    kinds()
