"""Writes tests/goldens/tokenizer.jsonl: token ids of texts, by byte-level BPE written out.

    pip install -r tools/reference/requirements.txt
    python tools/reference/tokenizer.py TOKENIZER_JSON

TOKENIZER_JSON is nano's, as `ocelli-train tokenizer` leaves it. Nothing of the `tokenizers` library is used: the vocabulary and the merges are
read from the file, and the algorithm is that of Sennrich et al. 2016 (https://arxiv.org/abs/1508.07909) over GPT-2's words and bytes.
"""

import json
import sys
import unicodedata
from pathlib import Path

import regex

TEXTS = [
    "a dog",
    "A dog",
    "  a   dog  ",
    "a man in a red shirt is riding a bicycle down a dirt path.",
    "two children's toys",
    "it isn't a t-shirt, it's a coat",
    "a 3-year-old with 2 balloons",
    "croissant",
    "antidisestablishmentarianism",
    "Ein kleiner Hund läuft über die Straße",
    "una niña come una piña",
    "赤いバス",
    "a dog \U0001f436 and a cat \U0001f431",
    "caf\u00e9 cafe\u0301 \ufb01sh \u2460",
    "tabs\tand\nnew lines",
    "semi;colons:and/slashes_underscores",
    "HTTP://EXAMPLE.COM/?q=1",
    "\u00a0non-breaking\u00a0space\u00a0",
    "<start> a dog <end>",
    "!!!",
]

WORDS = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")


def byte_letters():
    """A printable letter for each byte: itself where it is printable, else one from U+0100 on (GPT-2)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (b for b in range(256) if b not in printable)
    return {b: chr(b) for b in printable} | {b: chr(0x100 + i) for i, b in enumerate(others)}


class Tokenizer:
    def __init__(self, path):
        self.json = json.loads(Path(path).read_text(encoding="utf-8"))
        model = self.json["model"]
        self.vocabulary = model["vocab"]
        self.ranks = {tuple(m if isinstance(m, list) else m.split(" ")): i for i, m in enumerate(model["merges"])}
        self.letters = byte_letters()
        self.special = {token["content"]: token["id"] for token in self.json["added_tokens"]}

    def word(self, word):
        parts = [self.letters[b] for b in word.encode("utf-8")]
        while len(parts) > 1:
            pairs = [(self.ranks.get(pair, 1 << 30), i) for i, pair in enumerate(zip(parts, parts[1:]))]
            rank, i = min(pairs)
            if rank == 1 << 30:
                break
            parts[i:i + 2] = [parts[i] + parts[i + 1]]
        return [self.vocabulary[part] for part in parts]

    def piece(self, text):
        text = unicodedata.normalize("NFKC", text).strip().lower()
        if not text:
            return []
        return [id for word in WORDS.findall(text if text.startswith(" ") else " " + text) for id in self.word(word)]

    def encode(self, text):
        ids = []
        for part in regex.split("(" + "|".join(map(regex.escape, self.special)) + ")", text):
            ids += [self.special[part]] if part in self.special else self.piece(part)
        return ids

    def decode(self, ids):
        bytes_of = {letter: b for b, letter in self.letters.items()}
        tokens = {id: token for token, id in self.vocabulary.items()}
        text = "".join(tokens[id] for id in ids if id not in self.special.values())
        return bytes(bytes_of[letter] for letter in text).decode("utf-8", errors="replace").strip()


def main():
    tokenizer = Tokenizer(sys.argv[1])
    out = Path(__file__).parents[2] / "tests/goldens/tokenizer.jsonl"
    with out.open("w", encoding="utf-8") as file:
        for text in TEXTS:
            ids = tokenizer.encode(text)
            file.write(json.dumps({"text": text, "ids": ids, "decoded": tokenizer.decode(ids)}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
