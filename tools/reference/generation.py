"""What encoder_decoder.py, blip.py, smolvlm.py and florence2.py share: byte-level BPE as GPT-2 has it, and what is generated under which options.

A generation is kept as

    options         as `generate` takes them
    tokens, text    without prompt, start and end tokens; the text without special tokens
    ended           whether the end token came, rather than the length ran out
    logprob         of what was generated, end token included, by the raw distribution; token_logprobs: each
    score           of beams: `sequences_scores`; beams: all of them, best first
"""

import re
from collections import Counter

import torch
import transformers
from common import CORPUS, learn_merges, letters_of_bytes
from tokenizers import pre_tokenizers
from transformers import GPT2Tokenizer, LogitsProcessor, LogitsProcessorList, RobertaTokenizer

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

# Two tokens that are nearer than this could change places by rounding alone.
GAP = 1e-3


class Unclear(Exception):
    """These weights will not do: something hangs on rounding, or nothing worth comparing is generated."""


# How much is asked of a random model: nothing, that nothing hangs on rounding, and that there is something to compare.
ANY, CLEAR, WORTHWHILE = 0, 1, 2


def strictness(preset):
    return WORTHWHILE if preset.get("golden") else CLEAR if preset.get("clear") else ANY


def settled(strict, fresh, values, save, seed, stored=torch.float32, first=0, attempts=2000):
    """What `values(model, strict)` gives of the first random model that does.

    `fresh(number)` makes a model, `save(model)` writes it and reads it back. `first` saves the search: the attempt that is known to do.
    """
    reasons = Counter()
    for attempt in range(first, attempts):
        try:
            model = fresh(1000 * seed + attempt)
            if strict:
                model = model.to(stored).float().eval()
                model.set_attn_implementation("eager")
                values(model, strict)
            found = values(save(model), strict)
        except Unclear as reason:
            reasons[re.sub(r"\b\d\S* ", "", str(reason))] += 1
            if attempt % 50 == 49:
                print(f"seed {seed}, attempt {attempt}: {dict(reasons)}", flush=True)
            continue
        print(f"seed {seed}: attempt {attempt} ({dict(reasons)})", flush=True)
        return found
    raise SystemExit(f"no seed of {attempts} will do: {dict(reasons)}")


# Tokenizers.


def byte_merges(count):
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return learn_merges([list(word) for word, _ in splitter.pre_tokenize_str(CORPUS)], count)


def gpt2_tokenizer(merges=40, added=(), **options):
    """GPT-2's kind: 256 bytes, merges, `<|endoftext|>` last, then what is added."""
    merges = byte_merges(merges)
    tokens = letters_of_bytes() + ["".join(m) for m in merges] + ["<|endoftext|>"]
    tokenizer = GPT2Tokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=merges, **options)
    if added:
        tokenizer.add_special_tokens({"additional_special_tokens": list(added)})
    return tokenizer


def roberta_tokenizer(merges=40, kind=RobertaTokenizer, **options):
    """RoBERTa's and BART's kind: `<s>` 0, `<pad>` 1, `</s>` 2, `<unk>` 3, bytes, merges, `<mask>` last; texts between `<s>` and `</s>`."""
    merges = byte_merges(merges)
    tokens = ["<s>", "<pad>", "</s>", "<unk>"] + letters_of_bytes() + ["".join(m) for m in merges] + ["<mask>"]
    return kind(vocab={token: i for i, token in enumerate(tokens)}, merges=merges, **options)


# Weights: what `randomize` takes for a standard deviation.


def out_of(wide):
    """So that outputs have this deviation where inputs have 1."""
    return lambda p: wide * p[0].numel() ** -0.5


def fan_in(wide=1.0):
    """The same for GPT-2's weights, which lie the other way round."""
    return lambda p: wide * p.shape[0] ** -0.5


# Generating.


@torch.no_grad()
def level(bias, hidden, row=None, by=0.0):
    """Takes what all positions have in common out of the last norm's bias, or one token would win everywhere; the token of `row` gets `by` more, so that texts end."""
    bias -= hidden.flatten(0, -2).mean(0)
    if row is not None:
        bias += by * row / row.dot(row)


class Shaken(LogitsProcessor):
    """Adds a little to every score, as another order of summing might."""

    def __init__(self, seed, by=GAP / 2):
        self.g, self.by = torch.Generator().manual_seed(seed), by

    def __call__(self, input_ids, scores):
        return scores + self.by * (2 * torch.rand(scores.shape, generator=self.g) - 1)


class Generator:
    """A model with one prompt.

    `inputs`: what `generate` takes. `prompt`: how many ids at the start of a sequence were not generated. `ends`: the ids that end.
    `forced(ids)`: logits of prompt and ids fed at once, the last of which is for what would follow; [prompt + ids, vocabulary].
    """

    def __init__(self, model, inputs, prompt, ends, decode, forced, strict=WORTHWHILE, begins=0, last_forced=False):
        """`begins`: how many of the ids after the prompt are given, and not chosen; they are not among the tokens. `last_forced`: the end comes when the length runs out."""
        self.model, self.inputs, self.prompt, self.ends = model, inputs, prompt + begins, ends
        self.begins, self.last_forced = begins, last_forced
        self.decode, self.forced, self.strict = decode, forced, strict

    def require(self, condition, reason, above=WORTHWHILE):
        if self.strict >= above and not condition:
            raise Unclear(reason)

    def split(self, sequence, options):
        """The ids up to the end token, and that one, if it came by itself."""
        ids = sequence[self.prompt :].tolist()
        end = next((i for i, token in enumerate(ids) if token in self.ends), None)
        if end is not None and self.last_forced and self.begins + end + 1 == options["max_new_tokens"]:
            return ids[:end], None
        return (ids, None) if end is None else (ids[:end], ids[end])

    def generate(self, options, **more):
        return self.model.generate(**self.inputs, **options, do_sample=False, return_dict_in_generate=True, output_scores=True, output_logits=True, **more)

    def raw(self, ids, end):
        """The log-probability of each token by what the model says itself."""
        ids = ids + ([] if end is None else [end])
        if not ids:
            return []
        logits = self.forced(ids)[-len(ids) - 1 : -1].log_softmax(-1)
        return [float(row[token]) for row, token in zip(logits, ids)]

    def greedy(self, **options):
        out = self.generate(options)
        ids, end = self.split(out.sequences[0], options)
        tops = [scores[0].topk(2).values for scores in out.scores]
        gap = min((float(top[0] - top[1]) for top in tops), default=1.0)
        self.require(gap > GAP, f"greedy: two tokens {gap:.1e} apart", CLEAR)
        chosen = ids + ([] if end is None else [end])
        each = [float(logits[0].log_softmax(-1)[token]) for logits, token in zip(out.logits[self.begins :], chosen)]
        # Step by step and all at once must be the same.
        assert all(abs(a - b) < 2e-3 for a, b in zip(each, self.raw(ids, end))), (each, self.raw(ids, end))
        return {"options": options, "tokens": ids, "text": self.decode(ids), "ended": end is not None, "logprob": sum(each), "token_logprobs": each, "gap": gap}

    def beams(self, **options):
        beams = options.get("num_beams", self.model.generation_config.num_beams)
        out = self.generate(options, num_return_sequences=beams)
        kept = []
        for sequence, score in zip(out.sequences, out.sequences_scores):
            ids, end = self.split(sequence, options)
            each = self.raw(ids, end)
            kept.append({"tokens": ids, "text": self.decode(ids), "ended": end is not None, "logprob": sum(each), "score": float(score)})
        if self.strict:
            for shake in range(4):
                shaken = self.generate(options, num_return_sequences=beams, logits_processor=LogitsProcessorList([Shaken(shake)]))
                same = [self.split(s, options)[0] for s in shaken.sequences] == [beam["tokens"] for beam in kept]
                self.require(same, "beams: rounding decides", CLEAR)
        best = kept[0]
        return {"options": options, **{key: best[key] for key in ("tokens", "text", "ended", "logprob")}, "token_logprobs": self.raw_of(best), "score": best["score"], "beams": kept}

    def raw_of(self, beam):
        return self.raw(beam["tokens"], next(iter(self.ends)) if beam["ended"] else None)

    def varied(self, generation, least=12):
        self.require(len(set(generation["tokens"])) >= least, f"only {len(set(generation['tokens']))} different tokens of {len(generation['tokens'])}")


    def worth_it(self, cases):
        """Some text must end, pictures must matter, and so must the length penalty."""
        first, greedy = cases[0]["generations"], [case["generations"][0] for case in cases]
        self.require(any(g["ended"] and len(g["tokens"]) > 3 for g in greedy[1:]), "no text ends by itself")
        self.require(len({tuple(g["tokens"]) for g in first if "beams" in g}) > 1, "the length penalty changes nothing")
        self.require(any(beam["ended"] for g in first for beam in g.get("beams", [])), "no beam ends")
        self.require(len({tuple(g["tokens"]) for g in greedy}) == len(cases), "two cases have one text")


BEAMS = [
    {"num_beams": 3, "length_penalty": 1.0, "early_stopping": False},
    {"num_beams": 3, "length_penalty": 0.0, "early_stopping": False},
    {"num_beams": 3, "length_penalty": 2.0, "early_stopping": True},
]
PENALTIES = [{"repetition_penalty": 1.3}, {"no_repeat_ngram_size": 2}]


def plain_text(tokenizer):
    return lambda ids: tokenizer.decode(ids, skip_special_tokens=True)


def stages(prefix, pairs):
    """Modules by their names, for `Taps`: dots are not for keywords."""
    return {f"{prefix}{name}".replace(".", "__"): module for name, module in pairs}


def tapped(taps):
    return {re.sub("__", ".", name): tensor for name, tensor in taps.kept.items()}
