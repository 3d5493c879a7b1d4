"""Writes tools/eval/tests/goldens/caption_metrics.json: published implementations' values on sentences of our own.

    pip install pycocoevalcap==1.2      # needs Java for the PTB tokenizer
    python tools/reference/caption_metrics.py

Words come from Stanford's PTBTokenizer, BLEU, CIDEr-D (pycocoevalcap calls it Cider) and ROUGE-L from pycocoevalcap.
"""

import json
from pathlib import Path

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

# (candidate, references): short and long, repeated words, no overlap, one reference, clitics, hyphens, numbers, punctuation.
SAMPLES = [
    ("a dog runs through the shallow water", ["A dog is running through shallow water .", "The wet dog splashes along the shore .", "A dog runs in the water", "Brown dog, running; water everywhere!"]),
    ("two men in red shirts play soccer on a field", ["Two men play soccer .", "Two players in red shirts fight for the ball on a green field .", "Men playing soccer on the field ."]),
    ("a man a man a man a man", ["A man sits alone on a bench .", "An old man is reading a newspaper ."]),
    ("a kitchen with a sink and a stove", ["A kitchen that has a white stove and a sink .", "There's a sink next to the stove in this kitchen .", "The kitchen isn't very large , but it's clean ."]),
    ("people", ["A crowd of people waits at the station .", "Many people are standing on the platform ."]),
    ("a giraffe eats leaves from a tall tree in the zoo while people watch it from behind a fence", ["A giraffe eating leaves .", "The giraffe reaches for a tall tree ."]),
    ("the red bus drives down the street", ["Purple elephants dream quietly"]),
    ("a boy wearing a t-shirt jumps off the three-foot wall", ["A boy in a T-shirt jumps off a wall .", "The boy's jumping off a three-foot high wall .", "a boy ( about 10 ) jumps from a wall"]),
    ("a plate of food on a table", ["A plate of food on a table", "Food is on a plate .", "A table with a plate of pasta and a glass of wine"]),
    ("a woman holds an umbrella in the rain", ["A woman holding an umbrella .", "A woman is walking in the rain with a black umbrella", "She's holding a umbrella: it rains"]),
]

# Only for the tokenizer.
SENTENCES = [
    "The dog doesn't like the man's hat .", "They're here ; we've won !", "A \"big\" dog , a 'small' cat", "It's 5:30 on the clock and 1,000 people wait .",
    "A black-and-white photo of St. Mary's church", "The U.S. flag waves .", "he cannot see", "kids' toys lie on the floor", "A man... running--fast", "A sign that says \"STOP!\"",
    "mother/daughter walk & talk", "Number #23 scores 100% of the points", "I'd say she'll win, and I'm sure", "the 1980's car", "A dog ,jumping", "They are gonna play",
]


def main():
    ptb = PTBTokenizer()
    texts = [text for candidate, references in SAMPLES for text in [candidate, *references]] + SENTENCES
    words = ptb.tokenize({i: [{"caption": text}] for i, text in enumerate(texts)})
    tokens = [{"text": text, "words": words[i][0].split()} for i, text in enumerate(texts)]
    of = {entry["text"]: " ".join(entry["words"]) for entry in tokens}
    candidates = {i: [of[candidate]] for i, (candidate, _) in enumerate(SAMPLES)}
    references = {i: [of[text] for text in references] for i, (_, references) in enumerate(SAMPLES)}
    bleu, _ = Bleu(4).compute_score(references, candidates, verbose=0)
    cider, each = Cider().compute_score(references, candidates)
    rouge, _ = Rouge().compute_score(references, candidates)
    golden = {
        "source": "pycocoevalcap 1.2",
        "samples": [{"candidate": candidate, "references": references} for candidate, references in SAMPLES],
        "tokens": tokens,
        "bleu": [float(x) for x in bleu],
        "cider_d": float(cider),
        "cider_d_each": [float(x) for x in each],
        "rouge_l": float(rouge),
    }
    path = Path(__file__).resolve().parents[1] / "eval/tests/goldens/caption_metrics.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(golden, indent=1) + "\n")
    print(path, golden["bleu"], golden["cider_d"], golden["rouge_l"])


if __name__ == "__main__":
    main()
