"""What clip.py, siglip.py and owl.py share: small tokenizers of the real kinds, pictures, weights that are not degenerate, and the files.

A checkpoint is a folder as a Hugging Face repository has it. What the reference computes with it goes to two files:

    expected.safetensors    tensors, float32 and int64
    expected.json           texts, names, thresholds, detections, versions

Everything is computed in float32, in eval mode, with eager attention and one thread, from the reference's own pixels. The checkpoint is read back
before, so that a value which storage rounded (float16, bfloat16) is rounded in what is expected too.
"""

import argparse
import gzip
import importlib.metadata
import io
import json
import math
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import processors
from transformers import CLIPTokenizer, Siglip2Tokenizer, SiglipTokenizer

GOLDENS = Path(__file__).resolve().parents[2] / "tests" / "goldens"

# What tokenizers are trained on. Enough for a few dozen merges; accents and kana so that vocabularies know some and must fall back for others.
CORPUS = """
a photo of a cat . a photo of a dog . a photo of two cats on a red couch . a photo of a red bus near the river .
a man in a red shirt is riding a bicycle down a dirt path . two dogs are playing in the snow . a black dog runs through the water .
a woman holds an umbrella in the rain . children play soccer on a green field . a yellow taxi on a busy street at night .
a plate of food on a wooden table . a giraffe eats leaves from a tall tree . an astronaut in a white suit . a cup of coffee .
the rocket stands on the launch pad . a person with a camera . the temple is old . it's a sunny day , isn't it ? we'll see what they've done .
a photo of the small house . a photo of the large building . a drawing of a bird . a close-up photo of a flower . the number 2 and the number 10 .
ein kleiner Hund läuft über die Straße . una niña come una piña . le café est naïf . 赤い バス . 犬 と 猫 . where is the remote control ?
""".strip()

# Plain, capitals and punctuation, letters and signs beyond ASCII, nothing left after normalisation, far more tokens than any model has room for.
TEXTS = [
    "a photo of a cat",
    "A Red BUS, near the river!",
    "two dogs are playing in the snow",
    "it's 3 o'clock: we'll go (maybe)?",
    "Ein Mädchen läuft über die Straße — naïve café cafe\u0301",
    "赤いバス と 犬 \U0001f436",
    "  tabs\tand\n new   lines ",
    "...",
    "",
    "\ufb01sh \u2460 \u00bd \u00a0 x\u200by",
    " ".join(["a yellow taxi on a busy street at night, seen from behind;"] * 12),
]


def arguments(description, presets, main):
    """Runs `main(preset, folder, expected, seed)` for all small goldens, or for one preset into a folder of the caller's."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write one checkpoint here, and what is expected of it to OUT.expected (default: all goldens of the repository)")
    parser.add_argument("--preset", choices=sorted(presets), help="which shapes (with --out)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.out:
        if not given.preset:
            parser.error("--out needs --preset")
        main(given.preset, fresh(given.out), fresh(given.out.with_name(given.out.name + ".expected")), given.seed)
        return
    for number, preset in enumerate(presets):
        if presets[preset].get("golden"):
            folder = fresh(GOLDENS / presets[preset]["golden"] / preset)
            main(preset, folder, folder, 10 * number + given.seed)


def fresh(folder):
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


# Weights.


@torch.no_grad()
def randomize(model, seed, scales=()):
    """Weights under which no tensor can be missing or swapped unnoticed, and activations stay of order 1.

    A fresh model has norms at 1 and 0 and biases at 0, so that leaving one out changes nothing.
    `scales`: pairs of a pattern of names and a standard deviation, or a function from the weight to it; the first that matches counts.
    """
    g = torch.Generator().manual_seed(seed)
    norms = {id(p): True for m in model.modules() if isinstance(m, torch.nn.LayerNorm) or type(m).__name__.endswith("RMSNorm") for p in m.parameters()}

    def normal(p, std, mean=0.0):
        p.copy_(mean + std * torch.randn(p.shape, generator=g))

    def between(p, low, high):
        p.copy_(low + (high - low) * torch.rand(p.shape, generator=g))

    for name, p in model.named_parameters():
        leaf = name.rsplit(".", 1)[-1]
        scale = next((scale for pattern, scale in scales if re.search(pattern, name)), None)
        if scale is not None:
            normal(p, scale(p) if callable(scale) else scale)
        elif name == "logit_scale" or name.endswith(("vit.logit_scale", "owlv2.logit_scale")):
            between(p, math.log(8), math.log(30))
        elif name == "logit_bias":
            between(p, -6, -2)
        elif id(p) in norms or ".ln_" in name or name.startswith("ln_"):
            normal(p, 0.2, 1.0) if leaf == "weight" else normal(p, 0.2)
        elif "position" in name:
            normal(p, 0.4)
        elif "token_embedding" in name or "class_embedding" in name or "probe" in name:
            normal(p, 0.7)
        elif leaf.endswith("bias"):
            normal(p, 0.15)
        elif "logit_shift" in name or "class_head.logit_scale" in name:
            normal(p, p.shape[1] ** -0.5)
        elif "box_head.dense2" in name:
            normal(p, 1.5 * p.shape[1] ** -0.5)
        elif name.endswith(("q_proj.weight", "k_proj.weight")):
            normal(p, 1.4 * p.shape[1] ** -0.5)
        elif "in_proj_weight" in name:
            normal(p, 1.2 * p.shape[1] ** -0.5)
        elif leaf in ("proj", "text_projection"):  # open_clip's, [in, out]
            normal(p, p.shape[0] ** -0.5)
        else:
            normal(p, p[0].numel() ** -0.5)
    return model


# Tokenizers.


def letters_of_bytes():
    """GPT-2's letters for the 256 bytes, in the order in which CLIP's vocabulary has them: `!` is 0."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(0x100 + i) for i in range(len(others))]


def clip_vocabulary(merges):
    letters = letters_of_bytes()
    tokens = letters + [letter + "</w>" for letter in letters] + ["".join(m) for m in merges] + ["<|startoftext|>", "<|endoftext|>"]
    return {token: i for i, token in enumerate(tokens)}


def learn_merges(words, count):
    """`count` merges by frequency, and by the alphabet among equals (the `tokenizers` library decides those differently every time)."""
    words = Counter(tuple(word) for word in words)
    merges = []
    while len(merges) < count:
        pairs = Counter()
        for word, times in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += times
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        merged = Counter()
        for word, times in words.items():
            out = []
            for symbol in word:
                if out and (out[-1], symbol) == best:
                    out[-1] += symbol
                else:
                    out.append(symbol)
            merged[tuple(out)] += times
        words = merged
    return merges


def clip_merges(count):
    """`count` merges learnt from the corpus, or all 48894 of OpenAI's file, which open_clip brings with it."""
    if count is None:
        import open_clip

        file = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
        lines = gzip.open(file, "rt", encoding="utf-8").read().split("\n")
        return [tuple(line.split()) for line in lines[1 : 49152 - 256 - 2 + 1]]
    splitter = CLIPTokenizer()._tokenizer
    words = [word for word, _ in splitter.pre_tokenizer.pre_tokenize_str(splitter.normalizer.normalize_str(CORPUS))]
    return learn_merges([[*word[:-1], word[-1] + "</w>"] for word in words], count)


def clip_tokenizer(merges=96, max_length=77, pad_token="<|endoftext|>", added=()):
    """CLIP's kind: byte-level BPE over lower-cased words that end in `</w>`."""
    merges = clip_merges(merges)
    tokenizer = CLIPTokenizer(vocab=clip_vocabulary(merges), merges=merges, pad_token=pad_token, model_max_length=max_length)
    if added:
        tokenizer.add_tokens(list(added))
    return tokenizer


def write_vocabulary(tokenizer, folder):
    """vocab.json and merges.txt beside tokenizer.json, as the repositories on the Hub have them."""
    model = json.loads(tokenizer._tokenizer.to_str())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(m) for m in model["merges"]), ""]
    (folder / "merges.txt").write_text("\n".join(lines), encoding="utf-8")


def siglip_tokenizer(folder, size=220, max_length=64):
    """SigLIP's kind: a SentencePiece unigram model with T5's ids (pad 0, end 1, unknown 2), lower case, no punctuation, padded with `</s>`."""
    import sentencepiece

    file = folder / "spiece.model"
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS.lower().replace("straße", "strasse").split("\n")), model_writer=written, model_type="unigram", vocab_size=size,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, hard_vocab_limit=False, num_threads=1, character_coverage=1.0, minloglevel=2,
    )  # fmt: skip
    file.write_bytes(written.getvalue())
    return SiglipTokenizer(str(file), model_max_length=max_length, model_input_names=["input_ids"])


def gemma_tokenizer(merges=120, max_length=64, padding_side="right"):
    """Gemma's kind, as SigLIP2 has it: BPE over whole texts with `▁` for blanks, bytes for what it does not know, `<eos>` after and nothing before."""
    words = ["▁" + word for word in CORPUS.lower().split()]
    merges = learn_merges(words, merges)
    letters = sorted(set("".join(words)) | set("▁-.,!?'\""))
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{b:02X}>" for b in range(256)), *letters]
    tokens += [token for token in ("".join(m) for m in merges) if token not in set(tokens)]
    tokenizer = Siglip2Tokenizer(
        vocab={token: i for i, token in enumerate(tokens)}, merges=merges, model_max_length=max_length, padding_side=padding_side, model_input_names=["input_ids"]
    )
    tokenizer._tokenizer.post_processor = processors.TemplateProcessing(single="$A:0 <eos>:0", special_tokens=[("<eos>", 1)])
    return tokenizer


def as_gemma(folder):
    """The tokenizer's files as Google's SigLIP2 repositories have them: said to be GemmaTokenizer, and without lower-casing in tokenizer.json.

    transformers lower-cases all the same where the model is a Siglip2Model (NaFlex), and does not where it is a SiglipModel.
    """
    said = json.loads((folder / "tokenizer_config.json").read_text())
    said.pop("backend")
    said |= {"tokenizer_class": "GemmaTokenizer", "add_bos_token": False, "add_eos_token": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(said, indent=2) + "\n")
    model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    (model["normalizer"],) = (n for n in model["normalizer"]["normalizers"] if n["type"] == "Replace")
    (folder / "tokenizer.json").write_text(json.dumps(model, ensure_ascii=False), encoding="utf-8")


def compact(folder):
    """tokenizer.json without its blanks: a third of the size."""
    file = folder / "tokenizer.json"
    if file.exists():
        text = json.dumps(json.loads(file.read_text(encoding="utf-8")), ensure_ascii=False, separators=(",", ":"))
        file.write_text(text, encoding="utf-8")


# Pictures.


def picture(rng, width, height, channels):
    """Fields of colour, a few hard-edged rectangles and a patch of noise: what resizing gets wrong shows on each of them differently."""
    grid = rng.integers(0, 256, (4, 5, channels), dtype=np.uint8)
    soft = np.stack([np.asarray(Image.fromarray(grid[..., c]).resize((width, height), Image.Resampling.BICUBIC)) for c in range(channels)], axis=-1)
    out = soft.copy()
    for _ in range(4):
        x0, y0 = rng.integers(0, width), rng.integers(0, height)
        x1, y1 = x0 + rng.integers(1, max(2, width // 3)), y0 + rng.integers(1, max(2, height // 3))
        out[y0:y1, x0:x1] = rng.integers(0, 256, channels)
    h, w = min(height // 3, 64), min(width // 3, 64)
    out[height - h :, width - w :] = rng.integers(0, 256, (h, w, channels))
    return out


def pictures(folder, seed, scale):
    """Writes PNG files of each kind into `folder`/pictures and gives their names: wide, tall, grey, with alpha, and tiny."""
    rng = np.random.default_rng(seed)
    folder = folder / "pictures"
    folder.mkdir()
    kinds = {"wide": (43, 27, 3), "tall": (21, 46, 3), "grey": (38, 31, 1), "alpha": (29, 35, 4), "tiny": (3, 2, 3)}
    for name, (width, height, channels) in kinds.items():
        if name != "tiny":
            width, height = round(width * scale), round(height * scale)
        data = picture(rng, width, height, channels)
        Image.fromarray(data[..., 0] if channels == 1 else data).save(folder / f"{name}.png", optimize=True)
    return {name: folder / f"{name}.png" for name in kinds}


def open_picture(path):
    with Image.open(path) as read:
        read.load()
        return read


# Values.


class Taps:
    """Keeps what modules give while a `with` lasts: `Taps(name=module)`, then `taps["name"]`."""

    def __init__(self, **modules):
        self.modules, self.kept = modules, {}

    def __enter__(self):
        def keep(name):
            def hook(module, inputs, output):
                self.kept[name] = (output[0] if isinstance(output, tuple) else output).detach().clone()

            return hook

        self.handles = [module.register_forward_hook(keep(name)) for name, module in self.modules.items()]
        return self

    def __exit__(self, *error):
        for handle in self.handles:
            handle.remove()

    def __getitem__(self, name):
        return self.kept[name]


def reload(model_class, folder):
    model = model_class.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    return model


def save_model(model, folder, stored=torch.float32, shards=None, as_bin=False, position_ids=()):
    """`shards`: the size of one shard, such as "100KB". `as_bin`: pytorch_model.bin, with the position ids that old checkpoints carry along."""
    model.to(stored)
    if as_bin:
        model.config.dtype = stored
        model.config.architectures = [type(model).__name__]
        model.config.save_pretrained(folder)
        state = dict(model.state_dict())
        for name, count in position_ids:
            state[name] = torch.arange(count)[None]
        torch.save(state, folder / "pytorch_model.bin")
    else:
        model.save_pretrained(folder, **({"max_shard_size": shards} if shards else {}))


def sparse(folder, config):
    """config.json without what is as the class has it anyway. Google's SigLIP repositories say no more than that of their two halves."""
    said = json.loads((folder / "config.json").read_text())
    for part in ("text_config", "vision_config"):
        usual = type(getattr(config, part))().to_dict()
        said[part] = {key: value for key, value in said[part].items() if key == "model_type" or usual.get(key) != value}
    (folder / "config.json").write_text(json.dumps(said, indent=2) + "\n")


def write_expected(folder, tensors, facts, family, preset, seed):
    def plain(t):
        t = t.detach().cpu().contiguous()
        return t.to(torch.float32) if t.is_floating_point() else t.to(torch.int64)

    tensors = {name: plain(t) for name, t in tensors.items()}
    assert all(torch.isfinite(t).all() for n, t in tensors.items() if t.is_floating_point()), "not finite"
    save_file(tensors, folder / "expected.safetensors")
    versions = {name: importlib.metadata.version(name) for name in ("transformers", "torch", "torchvision")}
    head = {"family": family, "preset": preset, "seed": seed, "versions": versions}
    shapes = {name: list(t.shape) for name, t in sorted(tensors.items())}
    text = json.dumps(short(head | facts) | {"tensors": shapes}, indent=1, ensure_ascii=False)
    # Lists of numbers on one line each.
    (folder / "expected.json").write_text(flatten(text) + "\n", encoding="utf-8")


def short(value):
    """Numbers with the nine digits that a float32 has."""
    if isinstance(value, dict):
        return {key: short(v) for key, v in value.items()}
    if isinstance(value, list):
        return [short(v) for v in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


def flatten(text):
    number = r"-?[\d.]+(?:[eE][-+]?\d+)?"
    return re.sub(rf"\[\s*({number}(?:,\s*{number})*)\s*\]", lambda m: "[" + re.sub(r"\s+", " ", m.group(1)) + "]", text)
