"""Goldens of decoding alone: what scores become, and which sequences beams find, without a network.

    python tools/reference/decode.py        # tests/goldens/decode/cases.json

processors: ids so far and scores go in, scores come out, null for what cannot be chosen. beams: the logits depend on the last token alone and stand
in a table, so that a search is all there is.
"""

import json

import torch
import transformers
from common import GOLDENS, fresh, short
from transformers import GenerationConfig, GenerationMixin, LogitsProcessorList, PreTrainedConfig, PreTrainedModel
from transformers.generation.logits_process import (
    ForcedBOSTokenLogitsProcessor,
    ForcedEOSTokenLogitsProcessor,
    MinLengthLogitsProcessor,
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.modeling_outputs import CausalLMOutput

transformers.logging.set_verbosity_error()


def numbers(t):
    return [None if v == float("-inf") else float(v) for v in t.tolist()]


def processed(name, options, processor, ids, scores):
    out = processor(torch.tensor([ids]), torch.tensor([scores]))[0]
    return {"processor": name, "options": options, "input_ids": ids, "scores": scores, "expected": numbers(out)}


def processors():
    g = torch.Generator().manual_seed(1)
    wide = [round(v, 3) for v in (3 * torch.randn(12, generator=g)).tolist()]
    spread = [round(v, 3) for v in (1.5 * torch.randn(16, generator=g)).tolist()]
    ties = [1.0, 2.0, 2.0, -1.0, 2.0, 0.0, 1.0, -3.0]
    repeated = [4, 1, 7, 4, 1, 4, 1]
    cases = []

    def add(name, kind, options, ids=repeated, scores=wide, **more):
        cases.append(processed(name, options, kind(**options, **more), ids, scores))

    for penalty in (1.3, 2.0, 0.8, 1.0):
        add("repetition_penalty", RepetitionPenaltyLogitsProcessor, {"penalty": penalty})
    add("repetition_penalty", RepetitionPenaltyLogitsProcessor, {"penalty": 1.3}, ids=[0])
    # Beams: log-probabilities, none above 0.
    add("repetition_penalty", RepetitionPenaltyLogitsProcessor, {"penalty": 1.3}, scores=[float(f"{v:.6f}") for v in torch.tensor(wide).log_softmax(-1).tolist()])
    for size in (1, 2, 3, 4):
        add("no_repeat_ngram_size", NoRepeatNGramLogitsProcessor, {"ngram_size": size})
    add("no_repeat_ngram_size", NoRepeatNGramLogitsProcessor, {"ngram_size": 2}, ids=[3])
    add("no_repeat_ngram_size", NoRepeatNGramLogitsProcessor, {"ngram_size": 2}, ids=[5, 5])
    add("no_repeat_ngram_size", NoRepeatNGramLogitsProcessor, {"ngram_size": 3}, ids=[1, 2, 3, 1, 2, 4, 1, 2])
    for length in (8, 7):
        add("min_length", MinLengthLogitsProcessor, {"min_length": length, "eos_token_id": 2})
    for new in (3, 2):
        add("min_new_tokens", MinNewTokensLengthLogitsProcessor, {"prompt_length_to_skip": 5, "min_new_tokens": new, "eos_token_id": [2, 9]})
    for temperature in (0.5, 0.7, 1.0, 2.5):
        add("temperature", TemperatureLogitsWarper, {"temperature": temperature})
    for k in (1, 3, 50):
        add("top_k", TopKLogitsWarper, {"top_k": k})
    add("top_k", TopKLogitsWarper, {"top_k": 2}, scores=ties)
    for top in (0.1, 0.5, 0.9, 0.99, 1.0):
        add("top_p", TopPLogitsWarper, {"top_p": top}, scores=spread)
    add("top_p", TopPLogitsWarper, {"top_p": 0.9})
    for least in (0.02, 0.1, 0.5):
        add("min_p", MinPLogitsWarper, {"min_p": least}, scores=spread)
    add("suppress_tokens", SuppressTokensLogitsProcessor, {"suppress_tokens": [0, 3, 11]})
    add("begin_suppress_tokens", SuppressTokensAtBeginLogitsProcessor, {"begin_suppress_tokens": [2, 5], "begin_index": 7})
    add("begin_suppress_tokens", SuppressTokensAtBeginLogitsProcessor, {"begin_suppress_tokens": [2, 5], "begin_index": 1})
    words = [[3], [4, 1, 8], [1, 9], [1, 4, 1, 10], [7, 7, 7, 7, 7, 7, 7, 7, 7, 0]]
    add("bad_words_ids", NoBadWordsLogitsProcessor, {"bad_words_ids": words, "eos_token_id": 2})
    add("bad_words_ids", NoBadWordsLogitsProcessor, {"bad_words_ids": [[2], [1, 5]], "eos_token_id": 2})
    add("forced_bos_token_id", ForcedBOSTokenLogitsProcessor, {"bos_token_id": 6}, ids=[2])
    add("forced_bos_token_id", ForcedBOSTokenLogitsProcessor, {"bos_token_id": 6}, ids=[2, 6])
    add("forced_eos_token_id", ForcedEOSTokenLogitsProcessor, {"max_length": 8, "eos_token_id": 2})
    add("forced_eos_token_id", ForcedEOSTokenLogitsProcessor, {"max_length": 9, "eos_token_id": 2})
    # All at once, in the order in which generate has them.
    config = GenerationConfig(repetition_penalty=1.2, no_repeat_ngram_size=2, suppress_tokens=[5], temperature=0.8, top_k=6, top_p=0.9, min_p=0.01, do_sample=True)
    model = Table(torch.zeros(12, 12).tolist())
    chosen = model._get_logits_processor(config, input_ids_seq_length=1, encoder_input_ids=None)
    assert isinstance(chosen, LogitsProcessorList)
    options = {key: getattr(config, key) for key in ("repetition_penalty", "no_repeat_ngram_size", "suppress_tokens", "temperature", "top_k", "top_p", "min_p")}
    cases.append(processed("all", options, chosen, repeated, wide) | {"order": [type(one).__name__ for one in chosen]})
    return cases


class TableConfig(PreTrainedConfig):
    model_type = "table"


class Table(PreTrainedModel, GenerationMixin):
    """A model whose logits are the row of the last token."""

    config_class = TableConfig
    main_input_name = "input_ids"

    def __init__(self, rows):
        super().__init__(TableConfig(vocab_size=len(rows), is_encoder_decoder=False))
        self.rows = torch.nn.Parameter(torch.tensor(rows), requires_grad=False)
        self.generation_config = GenerationConfig()

    def _init_weights(self, module):
        pass

    def prepare_inputs_for_generation(self, input_ids, **kwargs):
        return {"input_ids": input_ids}

    def forward(self, input_ids=None, **kwargs):
        return CausalLMOutput(logits=self.rows[input_ids])


def search(name, model, prompt, options):
    out = model.generate(torch.tensor([prompt]), **options, pad_token_id=0, do_sample=False, use_cache=False, return_dict_in_generate=True, output_scores=True, output_logits=True)
    scores = out.sequences_scores.tolist() if options.get("num_beams", 1) > 1 else None
    ends = options["eos_token_id"]
    ends = set(ends) if isinstance(ends, list) else {ends}
    found = []
    for i, sequence in enumerate(out.sequences):
        ids = sequence[len(prompt) :].tolist()
        end = next((k for k, token in enumerate(ids) if token in ends), None)
        # Those that are shorter than the longest are filled up with 0 after their end.
        found.append({"tokens": ids if end is None else ids[: end + 1], **({"score": scores[i]} if scores else {})})
    return {"table": name, "prompt": prompt, "options": options, "sequences": found}


def beams():
    tables, cases = {}, []
    for number, (size, wide) in enumerate(((6, 1.5), (9, 1.0), (12, 2.0), (20, 1.2))):
        g = torch.Generator().manual_seed(100 + number)
        rows = [[round(v, 3) for v in row] for row in (wide * torch.randn(size, size, generator=g)).tolist()]
        # No sequence goes on for ever, and the end is not always the best.
        for row in rows:
            row[2] = round(row[2] + 0.5, 3)
        tables[f"t{size}"] = rows
    models = {name: Table(rows) for name, rows in tables.items()}
    for name, model in models.items():
        for count in (1, 2, 3, 5):
            for prompt in ([1], [3, 1, 4]):
                for penalty, early in ((1.0, False), (0.0, False), (2.0, False), (-1.0, False), (1.0, True), (2.0, True), (0.5, "never"), (-0.5, "never")):
                    for new in (8, 20):
                        if count == 1 and (penalty, early) != (1.0, False):
                            continue
                        options = {"max_new_tokens": new, "eos_token_id": 2}
                        if count > 1:
                            options |= {"num_beams": count, "num_return_sequences": count, "length_penalty": penalty, "early_stopping": early}
                        cases.append(search(name, model, prompt, options))
    name, model = "t12", models["t12"]
    wide = {"num_beams": 3, "num_return_sequences": 3, "length_penalty": 1.0, "early_stopping": False, "max_new_tokens": 10}
    for more in ({"eos_token_id": [2, 7]}, {"eos_token_id": 2, "min_new_tokens": 5}, {"eos_token_id": 2, "repetition_penalty": 1.3}, {"eos_token_id": 2, "no_repeat_ngram_size": 2}, {"eos_token_id": 2, "forced_eos_token_id": 2}, {"eos_token_id": 2, "suppress_tokens": [5, 6]}, {"eos_token_id": 2, "no_repeat_ngram_size": 1, "num_beams": 5, "num_return_sequences": 5, "max_new_tokens": 9}, {"eos_token_id": 2, "max_new_tokens": 1}):
        for prompt in ([1], [3, 1, 4]):
            cases.append(search(name, model, prompt, wide | more))
    return tables, cases


def clear(cases, tables):
    """Whether the same sequences come out when every logit is a little another one; those that hang on it are left out."""
    kept = []
    for case in cases:
        same = True
        for shake in range(3):
            g = torch.Generator().manual_seed(shake)
            rows = torch.tensor(tables[case["table"]])
            model = Table((rows + 2e-4 * (2 * torch.rand(rows.shape, generator=g) - 1)).tolist())
            other = search(case["table"], model, case["prompt"], case["options"])
            same &= [s["tokens"] for s in other["sequences"]] == [s["tokens"] for s in case["sequences"]]
        if same:
            kept.append(case)
    return kept


def main():
    torch.set_num_threads(1)
    folder = fresh(GOLDENS / "decode")
    tables, found = beams()
    kept = clear(found, tables)
    print(f"{len(kept)} of {len(found)} searches do not hang on rounding")
    facts = {"versions": {"transformers": transformers.__version__, "torch": torch.__version__.split("+")[0]}, "processors": processors(), "tables": tables, "beams": kept}
    # A line for each case.
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in short({key: facts[key] for key in ("versions", "tables")}).items()]
    for key in ("processors", "beams"):
        lines.append(f"{json.dumps(key)}: [\n" + ",\n".join(json.dumps(case) for case in short(facts[key])) + "\n]")
    (folder / "cases.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
