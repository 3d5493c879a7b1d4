"""Writes tests/goldens/prompts/: small tokenizers of every kind that is imported, and what transformers and sentencepiece make of texts.

    pip install -r tools/reference/requirements.txt transformers==5.23.0 sentencepiece==0.2.3 protobuf
    python tools/reference/prompt_tokenizers.py

    siglip_unigram.model, siglip_bpe.model    transformers' SiglipTokenizer
    gemma.model                               sentencepiece itself, on texts in lower case, as Siglip2Tokenizer has them
    clip.vocab.json, clip.merges.txt          transformers' CLIPTokenizer
    cases.jsonl                               {"tokenizer", "text", "ids"}: cut and padded as each model's processor does
"""

import contextlib
import io
import json
import logging
import random
import tempfile
from collections import Counter
from pathlib import Path

import sentencepiece
from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer, SiglipTokenizer

FOLDER = Path(__file__).resolve().parents[2] / "tests" / "goldens" / "prompts"
LENGTH = {"siglip_unigram": 64, "siglip_bpe": 64, "gemma": 64, "clip": 77}

CORPUS = """
a photo of a cat . a photo of a dog . a photo of two cats on a red couch . a photo of a red bus near the river .
a man in a red shirt is riding a bicycle down a dirt path . two dogs are playing in the snow . a black dog runs through the water .
a woman holds an umbrella in the rain . children play soccer on a green field . a yellow taxi on a busy street at night .
a plate of food on a wooden table . a giraffe eats leaves from a tall tree . the number 2 and the number 10 . it's a sunny day , isn't it ?
ein kleiner hund läuft über die straße . una niña come una piña . le café est naïf . 赤い バス . 犬 と 猫 . <b> x > y & z
""".strip().splitlines()

# A few of the rules of `nmt_nfkc`, whose whole map would be 200 kB: code points, tab, code points.
RULES = [("ﬁ", "fi"), ("①", "1"), ("½", "1⁄2"), ("\u3000", " "), ("\u00a0", " "), ("\u200b", " "), ("▁", " "), ("e\u0301", "é"), ("Ａ", "a"), ("\u00ad", "")]

WORDS = (
    "a photo of two cats über straße CAFÉ naïve 赤い привет ΣΟΦΟΣ don't re-do <pad> ... !!! 🙂 👩‍👩‍👧 ❤️ ﬁne ① ½ e\u0301a\u0300 \u200b \u00a0 \u3000 ▁ ▁▁ "
    "\x00 \x1c \x7f \x85 \u2028 İstanbul ǅ Ａ हिन्दी ไทย 한국어 a\u0328\u0301 \ufffd \ufeff \u202e 10% $5 C++ @user #tag 3.14 \t \n — “quoted” ’s ß ẞ \U0001f1e9\U0001f1ea"
).split(" ")

TEXTS = [
    "a photo of a cat", "A Red BUS, near the river!", "!!!", "   hey", "hey   ", "\thello\nworld", "!a!b!", "!!! hey", "▁a", "a▁b", "a ▁ b", "A" * 500,
    "a yellow taxi at night; " * 40, "ΑΣ ΟΔΟΣ. ΣΑΣ", "🙂🙂 赤い", "\u200bhey\u200b", "\u00a0hey\u00a0", "caf\u00e9 cafe\u0301", "x\u00ady", "\x00x\x00", "it isn't",
    # Special tokens that are typed.
    "a cat </s>", "a</s> dog", "<unk> red bus", "<|endoftext|> a cat", "a cat <|startoftext|>", "<eos> a",
]  # fmt: skip


def sentences(kind, out, **options):
    # The path of the rules is kept in the model, so it has to be the same every time.
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        with open("rules.tsv", "w", encoding="utf-8") as rules:
            for source, target in RULES:
                rules.write(" ".join(f"{ord(c):X}" for c in source) + "\t" + " ".join(f"{ord(c):X}" for c in target) + "\n")
        if options.pop("mapped", True):
            options["normalization_rule_tsv"] = "rules.tsv"
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS * 3), model_writer=model, model_type=kind, character_coverage=1.0, minloglevel=2, num_threads=1, **options
        )
    out.write_bytes(model.getvalue())


def merges_of(words, count):
    """The most frequent pairs, one after another (Sennrich et al. 2016); of equals the first in alphabetical order, so that it is always the same."""
    words = Counter(tuple(word[:-1]) + (word[-1] + "</w>",) for word in words)
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
        joined = Counter()
        for word, times in words.items():
            letters, i = [], 0
            while i < len(word):
                pair = word[i : i + 2] == best
                letters.append("".join(best) if pair else word[i])
                i += 2 if pair else 1
            joined[tuple(letters)] += times
        words = joined
    return merges


def clip():
    start, end = "<|startoftext|>", "<|endoftext|>"
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    split = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words = [split.pre_tokenize_str(word)[0][0] for line in CORPUS for word in line.split()]
    merges = merges_of(words, 180)
    tokens = letters + [letter + "</w>" for letter in letters] + ["".join(merge) for merge in merges] + [start, end]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    lines = ["#version: 0.2"] + [" ".join(merge) for merge in merges]
    (FOLDER / "clip.vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False) + "\n", encoding="utf-8")
    (FOLDER / "clip.merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return CLIPTokenizer(vocab=vocabulary, merges=[tuple(merge) for merge in merges])


def main():
    logging.disable(logging.WARNING)
    FOLDER.mkdir(parents=True, exist_ok=True)
    ids = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
    sentences("unigram", FOLDER / "siglip_unigram.model", vocab_size=112, **ids)
    sentences("bpe", FOLDER / "siglip_bpe.model", vocab_size=200, **ids)
    plain = {"mapped": False, "normalization_rule_name": "identity", "add_dummy_prefix": False, "remove_extra_whitespaces": False}
    gemma = {"pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3, "pad_piece": "<pad>", "eos_piece": "<eos>", "bos_piece": "<bos>"}
    sentences("bpe", FOLDER / "gemma.model", vocab_size=460, byte_fallback=True, split_digits=True, user_defined_symbols=["<mask>"], **plain, **gemma)

    chance = random.Random(11)
    texts = TEXTS + [chance.choice([" ", "", "  "]).join(chance.choices(WORDS, k=chance.randint(1, 10))) for _ in range(150)]
    processor = sentencepiece.SentencePieceProcessor(model_file=str(FOLDER / "gemma.model"))
    siglip = {kind: SiglipTokenizer(str(FOLDER / f"{kind}.model"), model_max_length=64) for kind in ("siglip_unigram", "siglip_bpe")}
    clips = clip()

    def gemma_ids(text):
        # Letter by letter, as the `tokenizers` library does it: no other sigma at a word's end.
        lowered = "".join(letter.lower() for letter in text)
        found = processor.encode(lowered)[: LENGTH["gemma"] - 1] + [1]
        return found + [0] * (LENGTH["gemma"] - len(found))

    with open(FOLDER / "cases.jsonl", "w", encoding="utf-8") as cases:
        for text in texts:
            found = {kind: slow(text, padding="max_length", truncation=True, max_length=64)["input_ids"] for kind, slow in siglip.items()}
            # sentencepiece does not know special tokens in a text.
            if "<" not in text:
                found["gemma"] = gemma_ids(text)
            found["clip"] = clips(text, truncation=True, max_length=77)["input_ids"]
            for kind, numbers in found.items():
                # Padding is said once, by the first 64 ids being all there are.
                cases.write(json.dumps({"tokenizer": kind, "text": text, "ids": numbers}, ensure_ascii=True, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
