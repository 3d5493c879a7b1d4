"""Compares ocelli with the reference on checkpoints of random shapes and weights, made on the spot.

    python tools/reference/parity.py --ocelli target/release/ocelli                        # one checkpoint of each family
    python tools/reference/parity.py --ocelli … --seed 7 --rounds 5 --families siglip owl  # others
    python tools/reference/parity.py --ocelli … --dtype int8 --checkpoint DIR …            # a folder that another script of this folder wrote

Prints a line for everything compared and ends with exit code 1 where a bar is missed, 2 where nothing could be compared.

Each checkpoint is imported, then asked from the reference's own pixels (`--pixels`, the strict bars: what differs is the network's) and from
the picture file (what differs is reading and resizing as well).
"""

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
from PIL import Image
from safetensors.numpy import load_file, save_file

# A grey level, as part of the range before normalisation; of how many values it may be more; and the mean.
PIXEL, PIXEL_SHARE, PIXEL_MEAN = 1 / 255, 0.001, 0.1 / 255
# Of float32, from the reference's pixels.
COSINE, RELATIVE, LOGIT, BOX_PX, SCORE = 0.99999, 1e-4, 1e-3, 0.5, 1e-4
COSINE_FILE, COSINE_INT8 = 0.9999, 0.999
# Of what is written: the sum of log-probabilities per token, a beam's score, a score and a cosine of matching, and boxes made of places.
LOGPROB, BEAM, MATCH, PLACE_PX = 1e-3, 1e-3, 1e-3, 1.0
FAMILIES = ["clip", "open_clip", "siglip", "naflex", "owlvit", "owlv2", "encoder_decoder", "blip", "smolvlm", "florence2"]
TASKS = {
    "<CAPTION>": "caption", "<DETAILED_CAPTION>": "detailed_caption", "<MORE_DETAILED_CAPTION>": "more_detailed_caption", "<OCR>": "ocr",
    "<OCR_WITH_REGION>": "ocr_with_region", "<OD>": "object_detection", "<DENSE_REGION_CAPTION>": "dense_region_caption", "<REGION_PROPOSAL>": "region_proposal",
}  # fmt: skip
OPTIONS = {"max_new_tokens": "--max-tokens", "num_beams": "--beams", "length_penalty": "--length-penalty", "repetition_penalty": "--repetition-penalty", "no_repeat_ngram_size": "--no-repeat-ngram"}


# Shapes.


def tower(rng, layers=3):
    heads = int(rng.integers(1, 6))
    width = heads * int(rng.choice([8, 12, 16, 20, 32]))
    return (width, heads, 4 * int(rng.integers(6, 60)), int(rng.integers(1, layers + 1)))


def writing(family, rng):
    """The same of models that write text."""
    patch = int(rng.choice([4, 7, 8, 14, 16]))
    heads = int(rng.integers(1, 5))
    text = (heads * int(rng.choice([6, 8, 12, 16])), heads, 4 * int(rng.integers(6, 40)), int(rng.integers(1, 4)))
    p = {"clear": True, "vision": tower(rng), "text": text, "patch": patch, "image": patch * int(rng.integers(2, 6)), "positions": 128, "merges": int(rng.integers(8, 90)), "stored": [torch.float32, torch.float16, torch.bfloat16][rng.integers(3)]}
    if family == "encoder_decoder":
        p |= {"deit": bool(rng.random() < 0.4), "qkv_bias": bool(rng.random() < 0.5)}
        if rng.random() < 0.6:
            learned = bool(rng.random() < 0.6)
            said = {"scale_embedding": bool(rng.random() < 0.5), "activation_function": str(rng.choice(["relu", "gelu"])), "layernorm_embedding": bool(rng.random() < 0.5), "use_learned_position_embeddings": learned, "tie_word_embeddings": bool(rng.random() < 0.5)}
            return p | {"trocr": said, "cross": bool(rng.random() < 0.5)}
        return p | {"text": (*text[:2], None if rng.random() < 0.5 else text[2], text[3])}
    if family == "blip":
        p |= {"words": int(rng.integers(20, 90)), "dim": 4 * int(rng.integers(3, 20))}
        kind = ["BlipForConditionalGeneration", "BlipForImageTextRetrieval", "BlipForQuestionAnswering"][rng.integers(3)]
        if kind == "BlipForQuestionAnswering":
            # What answers looks at what the question became by the width of the vision.
            p["text"] = (p["vision"][0], p["vision"][1], *text[2:])
        return p | {"model": getattr(transformers, kind)}
    if family == "smolvlm":
        scale = int(rng.choice([1, 2, 3]))
        side = patch * scale * int(rng.integers(1, 4) if scale > 1 else rng.integers(2, 5))
        kv = int(rng.choice([n for n in range(1, heads + 1) if heads % n == 0]))
        p |= {"smolvlm": bool(rng.random() < 0.5), "kv": kv, "image": side, "scale": scale, "longest": int(side * rng.uniform(1.2, 3)), "tied": bool(rng.random() < 0.5), "hub": bool(rng.random() < 0.5)}
        return p | {"positions": 4096}
    stages = [(1, 2), (2, 3), (3, 4), (4, 6)]
    multiples = sorted(int(rng.integers(1, 5)) for _ in stages)
    widths = tuple(12 * n for n in multiples)
    p |= {"depths": tuple(int(rng.integers(1, 3)) for _ in stages), "widths": widths, "heads": tuple(h for h, _ in stages), "groups": tuple(g for _, g in stages), "window": int(rng.integers(2, 8)), "image": int(rng.integers(33, 130))}
    return p


def shapes(family, rng):
    """A preset for `clip.write` and its like, drawn at random."""
    if family in ("encoder_decoder", "blip", "smolvlm", "florence2"):
        return writing(family, rng)
    patch = int(rng.choice([5, 7, 8, 14, 16, 32]))
    image = patch * int(rng.integers(3, 7)) + int(rng.choice([0, 0, 1, patch - 1]))
    p = {"vision": tower(rng), "text": tower(rng), "patch": patch, "image": image, "stored": [torch.float32, torch.float16, torch.bfloat16][rng.integers(3)]}
    clip_like = {"act": str(rng.choice(["quick_gelu", "gelu"])), "dim": 4 * int(rng.integers(3, 20)), "positions": int(rng.choice([16, 33, 77])), "merges": int(rng.integers(8, 90))}
    if family == "clip":
        extra = {"eos": 2} if rng.random() < 0.5 else {"eos": "own", "added": ["rocket", "snow"]}
        files = [{}, {"shards": "200KB"}, {"bin": True}, {"processor": True}][rng.integers(4)]
        return p | clip_like | extra | files
    if family == "open_clip":
        ratio = {side: (*p[side][:2], 4 * p[side][0], p[side][3]) for side in ("vision", "text")}
        return p | clip_like | ratio | {"open_clip": True}
    if family == "siglip":
        return p | {"act": "gelu_pytorch_tanh", "positions": int(rng.choice([16, 40, 64])), "tokenizer": str(rng.choice(["spiece", "gemma", "gemma-hub"])), "sparse": bool(rng.random() < 0.5)}
    if family == "naflex":
        del p["image"]
        return p | {"act": "gelu_pytorch_tanh", "positions": int(rng.choice([16, 64])), "tokenizer": str(rng.choice(["gemma", "gemma-hub"])), "grid": int(rng.integers(2, 7)) ** 2, "patches": int(rng.integers(9, 70)), "sparse": bool(rng.random() < 0.5)}
    return p | {"v2": family == "owlv2", "merges": int(rng.integers(8, 90)), "only_vocabulary": bool(rng.random() < 0.5)}


def make(family, folder, seed):
    """A checkpoint in `folder`, what is expected of it in `folder`.expected."""
    scripts = {"open_clip": "clip", "naflex": "siglip", "owlvit": "owl", "owlv2": "owl"}
    module = importlib.import_module(scripts.get(family, family))
    name = f"random-{family}-{seed}"
    module.PRESETS[name] = shapes(family, np.random.default_rng([seed, FAMILIES.index(family)]))
    print(f"{folder.name}: {module.PRESETS[name]}", flush=True)
    expected = folder.with_name(folder.name + ".expected")
    folder.mkdir(parents=True)
    expected.mkdir()
    module.write(name, folder, expected, seed)


# ocelli.


class CommandFailed(Exception):
    pass


class Ocelli:
    def __init__(self, program, options):
        self.program, self.options = program, options

    def run(self, *words):
        command = [str(self.program), *map(str, words), *self.options]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise CommandFailed(f"{words[0]}: exit code {done.returncode}: " + " ".join(done.stderr.split())[-300:])
        return done.stdout

    def lines(self, *words):
        lines = [json.loads(line) for line in self.run(*words, "--json").splitlines() if line.strip()]
        if not lines:
            raise CommandFailed(f"{words[0]}: no output")
        return lines


def each(option, values):
    return [word for value in values for word in (option, value)]


# What was compared.


class Report:
    def __init__(self):
        self.rows, self.missed = [], 0

    def add(self, checkpoint, what, value, bar=None, good=None, remark=""):
        """`bar` None: only reported."""
        word = "" if bar is None else "ok" if good else "MISSED"
        self.missed += word == "MISSED"
        shown = f"{value:.3g}" if isinstance(value, float) and "cosine" not in what else f"{value:.8f}" if isinstance(value, float) else str(value)
        self.rows.append((checkpoint, what, shown, "" if bar is None else bar, word, remark))
        print("{:22} {:44} {:>12} {:>14} {:7} {}".format(*self.rows[-1]), flush=True)

    def most(self, checkpoint, what, value, bar, remark=""):
        value = float(value)
        self.add(checkpoint, what, value, None if bar is None else f"<= {bar:.3g}", bar is None or value <= bar, remark)

    def least(self, checkpoint, what, value, bar, remark=""):
        value = float(value)
        self.add(checkpoint, what, value, None if bar is None else f">= {bar}", bar is None or value >= bar, remark)

    def failure(self, checkpoint, what, error):
        self.add(checkpoint, what, "failed", "works", False, str(error))


def cosine(a, b):
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-30))


def relative(a, b):
    return float(np.linalg.norm(a - b) / (np.linalg.norm(b) + 1e-30))


class Parity:
    """One checkpoint, its bundle and what is expected of it."""

    def __init__(self, folder, expected, work, ocelli, dtype, report):
        self.folder, self.work, self.ocelli, self.report = folder, work, ocelli, report
        self.name, self.strict = folder.name, dtype == "f32"
        self.facts = json.loads((expected / "expected.json").read_text(encoding="utf-8"))
        self.tensors = {name: t.astype(np.float64) if t.dtype.kind == "f" else t for name, t in load_file(expected / "expected.safetensors").items()}
        self.bundle = work / f"{self.name}.ocelli"
        self.files = {name: expected / file for name, file in self.facts.get("pictures", {}).items()}

    def run(self, dtype):
        try:
            self.ocelli.run("import", "--force", self.folder, "-o", self.bundle, "--dtype", dtype)
        except CommandFailed as error:
            self.report.failure(self.name, "import", error)
            return
        family = self.facts["family"]
        steps = [self.pixels] if self.files and family != "smolvlm" else []
        cases = self.facts.get("cases", [])
        if family == "llama":
            self.report.add(self.name, "text alone", "no command writes it")
        elif family == "smolvlm":
            steps += [self.tiles, self.answers]
        elif cases and "scores" in cases[0]:
            steps += [self.matches]
        elif cases and "question" in cases[0]:
            steps += [self.answers]
        elif cases:
            steps += [self.captions]
        elif family.startswith("owl"):
            steps += [self.ground, self.guided]
        else:
            steps += [self.images] if self.files else []
            steps += [self.texts] if "texts" in self.facts else []
            steps += [self.classify] if "logits_per_image" in self.tensors else []
        for step in steps:
            try:
                step()
            except (CommandFailed, OSError, KeyError, IndexError, ValueError) as error:
                self.report.failure(self.name, step.__name__, f"{type(error).__name__}: {error}")

    def bar(self, value):
        """Bars of float32 are not int8's."""
        return value if self.strict else None

    # Pixels.

    def reference_pixels(self, picture):
        """The reference's pixels as a file for `--pixels`."""
        tensors = {key: self.tensors[f"{key}.{picture}"] for key in ("pixel_values", "pixel_attention_mask", "spatial_shapes") if f"{key}.{picture}" in self.tensors}
        tensors["pixel_values"] = tensors["pixel_values"].astype(np.float32)
        with Image.open(self.files[picture]) as image:
            tensors["target_sizes"] = np.array([[image.height, image.width]], dtype=np.int64)
        path = self.work / f"{self.name}.{picture}.safetensors"
        save_file(tensors, path)
        return path

    def std(self):
        for name in ("preprocessor_config.json", "processor_config.json", "open_clip_config.json"):
            if (self.folder / name).exists():
                recipe = json.loads((self.folder / name).read_text())
                recipe = recipe.get("image_processor", recipe.get("preprocess_cfg", recipe))
                return np.array(recipe.get("image_std", recipe.get("std")), dtype=np.float64)
        raise ValueError("no preprocessor_config.json")

    def pixels(self):
        std = self.std()
        for picture, file in self.files.items():
            out = self.work / f"{self.name}.{picture}.own.safetensors"
            self.ocelli.run("preprocess", "-m", self.bundle, "--image", file, "-o", out)
            own, ours = load_file(out), self.tensors
            for key in ("pixel_attention_mask", "spatial_shapes"):
                if f"{key}.{picture}" in ours:
                    same = np.array_equal(own[key].astype(np.int64).reshape(-1), ours[f"{key}.{picture}"].reshape(-1))
                    self.report.add(self.name, f"{key} {picture}", "equal" if same else "differs", "equal", same)
            expected = ours[f"pixel_values.{picture}"]
            if own["pixel_values"].size != expected.size:
                self.report.add(self.name, f"pixels {picture}", str(own["pixel_values"].shape), str(expected.shape), False)
                continue
            scale = std[:, None, None] if expected.ndim == 4 else np.resize(std, expected.shape[-1])
            differs = np.abs(own["pixel_values"].astype(np.float64).reshape(expected.shape) - expected) * scale
            # A level that float32 rounded up is still one level.
            blends = self.blends(picture)
            self.report.most(self.name, f"pixels {picture}: share off by a level", (differs > PIXEL + 1e-5).mean(), PIXEL_SHARE if blends else None, f"at most {differs.max() * 255:.2f} levels")
            self.report.most(self.name, f"pixels {picture}: mean", differs.mean(), PIXEL_MEAN if blends else None)

    def blends(self, picture):
        """open_clip resizes what is transparent before it drops it; ocelli blends it with white, as transformers does."""
        return not (picture == "alpha" and self.facts["family"] == "open_clip")

    # Embeddings.

    def embedding(self, *words):
        return [np.array(line["values"], dtype=np.float64) for line in self.ocelli.lines("embed", "-m", self.bundle, *words)]

    def images(self):
        for picture, file in self.files.items():
            expected = self.tensors[f"image_embeds.{picture}"][0]
            values = self.embedding("--raw", "--pixels", self.reference_pixels(picture))[0]
            self.report.least(self.name, f"image {picture} from pixels: cosine", cosine(values, expected), COSINE if self.strict else COSINE_INT8)
            self.report.most(self.name, f"image {picture} from pixels: relative", relative(values, expected), self.bar(RELATIVE))
            values = self.embedding("--image", file)[0]
            bar = COSINE_FILE if self.strict else COSINE_INT8
            self.report.least(self.name, f"image {picture} from file: cosine", cosine(values, expected), bar if self.blends(picture) else None)
            self.report.most(self.name, f"image {picture}: |length - 1|", abs(np.linalg.norm(values) - 1), 1e-5)

    def texts(self):
        # Texts without a visible character are refused on the command line.
        texts = [(i, text) for i, text in enumerate(self.facts["texts"]) if text.strip()]
        got = self.embedding("--raw", *each("--text", [text for _, text in texts]))
        for (i, text), values in zip(texts, got, strict=True):
            expected = self.tensors["text_embeds"][i]
            short = text if len(text) < 22 else text[:20] + "…"
            self.report.least(self.name, f"text {short!r}: cosine", cosine(values, expected), COSINE if self.strict else COSINE_INT8, f"ids {self.facts['ids'][i][:12]}" if cosine(values, expected) < COSINE_INT8 else "")
            self.report.most(self.name, f"text {short!r}: relative", relative(values, expected), self.bar(RELATIVE))

    def classify(self):
        texts = [(i, text) for i, text in enumerate(self.facts["texts"]) if text.strip()]
        for row, picture in enumerate(self.files):
            logits = self.tensors["logits_per_image"][row][[i for i, _ in texts]]
            scores = 1 / (1 + np.exp(-logits)) if self.facts["family"].startswith("siglip") else np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
            line = self.ocelli.lines("classify", "-m", self.bundle, "--pixels", self.reference_pixels(picture), *each("--label", [text for _, text in texts]))[0]
            got = {score["label"]: score for score in line["scores"]}
            self.report.most(self.name, f"classify {picture}: logits", max(abs(got[text]["logit"] - logit) for (_, text), logit in zip(texts, logits)), self.bar(LOGIT))
            self.report.most(self.name, f"classify {picture}: scores", max(abs(got[text]["score"] - score) for (_, text), score in zip(texts, scores)), self.bar(SCORE))

    # Text.

    def written(self, what, line, generation, strict=True, text=True):
        """Tokens, text, and how likely they are. `strict`: from the reference's own pixels."""
        got, wanted = line["tokens"], generation["tokens"]
        same = next((i for i, (a, b) in enumerate(zip(got, wanted)) if a != b), min(len(got), len(wanted)))
        remark = "" if got == wanted else f"{got[same : same + 3]} for {wanted[same : same + 3]}"
        bar = "all" if strict and self.strict else None
        self.report.add(self.name, f"{what}: tokens", f"{same} of {len(wanted)}", bar, got == wanted, remark)
        if got != wanted:
            return False
        if text:
            # With the prompt or without it.
            texts = [generation[key].strip() for key in ("text", "whole") if key in generation]
            self.report.add(self.name, f"{what}: text", "equal" if line["text"].strip() in texts else "differs", "equal", line["text"].strip() in texts, "" if line["text"].strip() in texts else repr(line["text"][:40]))
        count = len(wanted) + generation["ended"]
        self.report.most(self.name, f"{what}: logprob a token", abs(line["logprob"] - generation["logprob"]) / max(count, 1), self.bar(LOGPROB) if strict else None)
        if "score" in generation:
            self.report.most(self.name, f"{what}: score", abs(line["score"] - generation["score"]), self.bar(BEAM) if strict else None)
        return True

    def usual(self):
        """What the checkpoint says of generating."""
        file = self.folder / "generation_config.json"
        return json.loads(file.read_text()) if file.exists() else {}

    def generations(self, case, beams=True):
        """Those that the command line can ask for, with its words. `--max-tokens` counts all that is generated, forced ids too."""
        stops_early = bool(self.usual().get("early_stopping", False))
        for generation in case["generations"]:
            options = generation["options"]
            searches = options.get("num_beams", self.usual().get("num_beams", 1)) > 1
            if searches and (not beams or options.get("early_stopping", stops_early) != stops_early):
                continue
            words = [word for key, option in OPTIONS.items() if key in options for word in (option, options[key])]
            short = ", ".join(f"{OPTIONS[key][2:]} {options[key]}" for key in OPTIONS if key in options and key != "max_new_tokens")
            yield generation, words, short or "plain"

    def captions(self):
        for case in self.facts["cases"]:
            name = case["pictures"][0]
            task = case.get("task", "")
            head = task[: task.find(">") + 1]
            if head == "<CAPTION_TO_PHRASE_GROUNDING>":
                self.phrases(case, name, task[len(head) :])
                continue
            if task and task not in TASKS:
                continue
            asked = ["--task", TASKS[task]] if task else []
            asked += ["--prompt", case["prompt"]] if "prompt" in case and not task else []
            for generation, words, short in self.generations(case):
                for source, image in (("pixels", ["--pixels", self.reference_pixels(name)]), ("file", ["--image", self.files[name]])):
                    line = self.ocelli.lines("caption", "-m", self.bundle, *image, *asked, *words)[0]
                    what = f"caption {case['name']} {TASKS.get(task, '')} ({short}) from {source}".replace("  ", " ")
                    pure = not isinstance(generation.get("read"), dict)
                    if self.written(what, line, generation, source == "pixels", text=pure and not task) and not pure:
                        self.regions(what, line, generation["read"], case["size"], source == "pixels")

    def phrases(self, case, name, words):
        """Whatever length the command allows, a text that ended by itself is the same."""
        generation = next((g for g in case["generations"] if "num_beams" not in g["options"]), None)
        if generation is None or not generation["ended"]:
            return
        for source, image in (("pixels", ["--pixels", self.reference_pixels(name)]), ("file", ["--image", self.files[name]])):
            line = self.ocelli.lines("ground", "-m", self.bundle, *image, "--phrase", words)[0]
            self.regions(f"ground {case['name']} from {source}", line, generation["read"], case["size"], source == "pixels")

    def regions(self, what, line, read, size, strict):
        """Boxes made of places, in their order; of four corners what lies around them."""
        boxes = read.get("bboxes") or [[min(q[0::2]), min(q[1::2]), max(q[0::2]), max(q[1::2])] for q in read.get("quad_boxes", [])]
        got, wanted = line.get("detections", []), list(zip(read["labels"], boxes))
        strict = strict and self.strict
        self.report.add(self.name, f"{what}: boxes", f"{len(got)} of {len(wanted)}", "all" if strict else None, len(got) == len(wanted))
        if len(got) != len(wanted) or not wanted:
            return
        clip = lambda box: [min(max(v, 0), size[i % 2]) for i, v in enumerate(box)]  # noqa: E731
        far = max(abs(a - b) for d, (_, box) in zip(got, wanted) for a, b in zip(clip(d["box"]), clip(box)))
        self.report.most(self.name, f"{what}: box, px", far, PLACE_PX if strict else None)
        same = [(d["phrase"] or "") for d in got] == [label for label, _ in wanted]
        self.report.add(self.name, f"{what}: labels", "equal" if same else "differ", "equal" if strict else None, same)

    def question(self, case):
        """What `ask` takes: pictures first, then words, all at once. None where it cannot be said."""
        if "messages" not in case:
            return case["question"]
        content = case["messages"][0]["content"]
        kinds = [part["type"] for part in content]
        alone = len(case["messages"]) == 1 and case["pictures"] and kinds == ["image"] * len(case["pictures"]) + ["text"]
        return content[-1]["text"] if alone else None

    def answers(self):
        for case in self.facts["cases"]:
            question = self.question(case)
            if question is None:
                continue
            whole = ["--tiles", 1] if case.get("options", {}).get("do_image_splitting", True) is False else []
            images = each("--image", [self.files[name] for name in case["pictures"]])
            for generation, words, short in self.generations(case, beams=False):
                line = self.ocelli.lines("ask", "-m", self.bundle, *images, question, *whole, *words)[0]
                self.written(f"ask {case['name']} ({short})", line, generation)

    def tiles(self):
        """The tiles of one picture, as `preprocess` cuts them."""
        std = self.std()
        for case in self.facts["cases"]:
            if len(case["pictures"]) != 1 or case["options"]:
                continue
            out = self.work / f"{self.name}.{case['name']}.own.safetensors"
            self.ocelli.run("preprocess", "-m", self.bundle, "--image", self.files[case["pictures"][0]], "-o", out)
            own, expected = load_file(out)["pixel_values"], self.tensors[f"pixel_values.{case['name']}"]
            if own.size != expected.size:
                self.report.add(self.name, f"tiles {case['name']}", str(own.shape), str(expected.shape), False)
                continue
            differs = np.abs(own.astype(np.float64).reshape(expected.shape) - expected) * std[:, None, None]
            self.report.most(self.name, f"tiles {case['name']}: share off by a level", (differs > PIXEL + 1e-5).mean(), PIXEL_SHARE, f"at most {differs.max() * 255:.2f} levels")
            self.report.most(self.name, f"tiles {case['name']}: mean", differs.mean(), PIXEL_MEAN)

    def matches(self):
        for case in self.facts["cases"]:
            wanted = [score for score in case["scores"] if score["text"].strip()]
            name = case["pictures"][0]
            line = self.ocelli.lines("match", "-m", self.bundle, "--image", self.files[name], *each("--text", [score["text"] for score in wanted]))[0]
            got = {score["text"]: score for score in line["scores"]}
            for key in ("score", "cosine"):
                self.report.most(self.name, f"match {name}: {key}", max(abs(got[want["text"]][key] - want[key]) for want in wanted), self.bar(MATCH))

    # Boxes.

    def ground(self):
        phrases = self.facts["phrases"]
        for picture, file in self.files.items():
            expected = self.facts["detections"][picture]
            wanted = [{"phrase": text, "score": score, "box": box} for text, score, box in zip(expected["text_labels"], expected["scores"], expected["boxes"])]
            options = ["--nms", "1.0", "--threshold", expected["threshold"], *each("--phrase", phrases)]
            for source, words in (("pixels", ["--pixels", self.reference_pixels(picture)]), ("file", ["--image", file])):
                line = self.ocelli.lines("ground", "-m", self.bundle, *words, *options)[0]
                strict = self.strict and source == "pixels"
                self.detections(f"ground {picture} from {source}", line, wanted, expected["height_width"], strict, logits=True)
                got = line["detections"]
                order = [(phrases.index(d["phrase"]), -d["score"]) for d in got]
                self.report.add(self.name, f"ground {picture} from {source}: order", "right" if order == sorted(order) else "wrong", "right", order == sorted(order), "" if order == sorted(order) else "phrase by phrase, best first")

    def guided(self):
        for key, expected in self.facts["image_guided"].items():
            of = expected["nms_1.0"]
            line = self.ocelli.lines("ground", "-m", self.bundle, "--pixels", self.reference_pixels(expected["target"]), "--query-image", self.files[expected["query"]], "--nms", "1.0", "--threshold", expected["threshold"])[0]
            # transformers prints how far a score lies between a tenth of the best and the best; a plain score is as good.
            top = max((d["score"] for d in line["detections"]), default=0.0)
            scores = min(("scores", "sigmoid"), key=lambda kind: abs(max(of[kind], default=0.0) - top))
            wanted = [{"phrase": None, "score": score, "box": box} for score, box in zip(of[scores], of["boxes"])]
            size = self.facts["detections"][expected["target"]]["height_width"]
            # The query's pixels are read from its file, so scores are only near.
            self.detections(f"query picture {key}", line, wanted, size, False, boxes=self.bar(BOX_PX), remark=f"compared with {scores}")

    def detections(self, what, line, wanted, height_width, strict, logits=False, boxes=None, remark=""):
        got = list(line["detections"])
        # transformers leaves boxes as they are; ocelli clips them to the picture.
        height, width = height_width
        clip = lambda box: [min(max(v, 0), side) for v, side in zip(box, (width, height, width, height))]  # noqa: E731
        wanted = [{**want, "box": clip(want["box"])} for want in wanted]
        size = [line["height"], line["width"]]
        if size != height_width:
            self.report.add(self.name, f"{what}: height, width", str(size), str(height_width), False)
        same = len(got) == len(wanted)
        self.report.add(self.name, f"{what}: boxes", f"{len(got)} of {len(wanted)}", "all" if strict else None, same, remark)
        box_px = score = logit = 0.0
        missing = 0
        for want in wanted:
            # The nearest of the same phrase, by box (and score, where that must agree); each stands for one only.
            candidates = [d for d in got if want["phrase"] is None or d["phrase"] == want["phrase"]]
            if not candidates:
                missing += 1
                continue
            far = lambda d: (max(abs(a - b) for a, b in zip(d["box"], want["box"])), abs(d["score"] - want["score"]))  # noqa: E731
            best = min(candidates, key=lambda d: far(d)[0] / BOX_PX + (far(d)[1] / SCORE if strict else 0))
            got.remove(best)
            box_px, score = max(box_px, far(best)[0]), max(score, far(best)[1])
            odds = [np.log(max(s, 1e-12) / max(1 - s, 1e-12)) for s in (best["score"], want["score"])]
            # What a score next to 0 or 1 says of its logit is lost in rounding.
            if 1e-3 < want["score"] < 0.999:
                logit = max(logit, abs(odds[0] - odds[1]))
        if missing:
            self.report.add(self.name, f"{what}: without a partner", missing, "0" if strict else None, False)
        self.report.most(self.name, f"{what}: box, px", box_px, BOX_PX if strict else boxes)
        self.report.most(self.name, f"{what}: score", score, SCORE if strict else None)
        if logits:
            self.report.most(self.name, f"{what}: class logit", logit, LOGIT if strict else None)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ocelli", type=Path, required=True, help="the program to try")
    parser.add_argument("--work", type=Path, help="where checkpoints and bundles go and stay (default: a folder that is deleted)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=1, help="checkpoints of each family")
    parser.add_argument("--device", help="auto, cpu, gpu or ndarray (default: the program's)")
    parser.add_argument("--dtype", choices=["f32", "int8"], default="f32")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=FAMILIES)
    parser.add_argument("--checkpoint", nargs="+", type=Path, help="checkpoints that are there already, with expected.json in them or in CHECKPOINT.expected")
    given = parser.parse_args()
    torch.set_num_threads(1)
    program = given.ocelli.resolve()
    if not program.exists():
        parser.error(f"{program}: not there")

    report = Report()
    with tempfile.TemporaryDirectory() as temporary:
        work = given.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        ocelli = Ocelli(program, ["--device", given.device] if given.device else [])
        checkpoints = [folder.resolve() for folder in given.checkpoint or []]
        if not checkpoints:
            for seed in range(given.seed, given.seed + given.rounds):
                for family in given.families:
                    folder = work / f"{family}-{seed}"
                    if not folder.exists():
                        make(family, folder, seed)
                    checkpoints.append(folder)
        for folder in checkpoints:
            beside = folder.with_name(folder.name + ".expected")
            Parity(folder, beside if beside.exists() else folder, work, ocelli, given.dtype, report).run(given.dtype)
    print(f"{len(report.rows)} comparisons, {report.missed} missed")
    for row in report.rows:
        if row[4] == "MISSED":
            print("missed: {0}: {1}: {2} (bar {3}) {5}".format(*row))
    sys.exit(2 if not report.rows else 1 if report.missed else 0)


if __name__ == "__main__":
    main()
