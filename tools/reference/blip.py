"""Goldens of BLIP: captions, how well a text fits a picture, and answers.

    python tools/reference/blip.py                                              # tests/goldens/blip/*
    python tools/reference/blip.py --out DIR --preset caption-base --seed 7     # one checkpoint, and DIR.expected
"""

import unicodedata
from collections import Counter

import torch
from common import CORPUS, TEXTS, Taps, arguments, compact, open_picture, pictures, randomize, reload, save_model, write_expected
from generation import BEAMS, PENALTIES, Generator, level, out_of, plain_text, settled, stages, strictness, tapped
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipForImageTextRetrieval,
    BlipForQuestionAnswering,
    BlipImageProcessor,
    BlipProcessor,
)

# width, heads, inner, layers of both. The vocabulary is two larger than the tokenizer's, as in Salesforce's repositories: what starts a text
# ([DEC] of the original) is the first id the tokenizer does not have.
PRESETS = {
    "caption": {"golden": "blip", "model": BlipForConditionalGeneration, "vision": (32, 4, 48, 2), "text": (24, 3, 40, 2), "patch": 8, "image": 24, "positions": 80, "words": 60, "stored": torch.float16, "first": 11},
    "itm": {"golden": "blip", "model": BlipForImageTextRetrieval, "vision": (24, 2, 40, 2), "text": (32, 4, 48, 2), "patch": 6, "image": 24, "positions": 48, "words": 60, "dim": 20, "stored": torch.float16},
    "vqa": {"golden": "blip", "model": BlipForQuestionAnswering, "vision": (24, 3, 40, 2), "text": (24, 2, 40, 2), "patch": 8, "image": 32, "positions": 80, "words": 60, "stored": torch.float16, "first": 181},
    "caption-base": {"model": BlipForConditionalGeneration, "vision": (768, 12, 3072, 12), "text": (768, 12, 3072, 12), "patch": 16, "image": 384, "positions": 512, "words": 200, "vocabulary": 30524},
    "itm-base": {"model": BlipForImageTextRetrieval, "vision": (768, 12, 3072, 12), "text": (768, 12, 3072, 12), "patch": 16, "image": 384, "positions": 512, "words": 200, "dim": 256, "vocabulary": 30524},
    "vqa-base": {"model": BlipForQuestionAnswering, "vision": (768, 12, 3072, 12), "text": (768, 12, 3072, 12), "patch": 16, "image": 384, "positions": 512, "words": 200, "vocabulary": 30524},
}  # fmt: skip
PROMPTS = ["a photo of", "A Red bus, near the"]
QUESTIONS = ["how many dogs are there?", "What is the man in the red shirt doing?", "where is the café"]
FITTING = [text for text in TEXTS[:10] if len(text) < 80]

SCALES = [
    (r"word_embeddings", 0.8),
    (r"text.*position_embeddings", 1.5),
    (r"text.*(query|key)\.weight", out_of(2.0)),
    (r"text.*layer\.\d+\.output\.dense\.weight", out_of(2.0)),
    (r"itm_head\.weight", out_of(2.0)),
]


def bert_tokenizer(words):
    """BERT's kind: lower case without accents, the most frequent words whole, the others from letters."""
    plain = "".join(c for c in unicodedata.normalize("NFD", CORPUS.lower()) if not unicodedata.combining(c))
    letters = sorted(set(plain) - set(" \n"))
    often = Counter(word for word in plain.replace(".", " ").replace(",", " ").split() if len(word) > 1 and word.isalpha())
    whole = [word for word, _ in sorted(often.items(), key=lambda item: (-item[1], item[0]))[:words]]
    tokens = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters), *whole, "##s", "##ing", "##er", "##ed"]
    tokens = list(dict.fromkeys(tokens))
    return BertTokenizer(vocab={token: i for i, token in enumerate(tokens)}, model_max_length=512)


def config(p, tokenizer):
    names = ("hidden_size", "num_attention_heads", "intermediate_size", "num_hidden_layers")
    size = p.get("vocabulary", len(tokenizer) + 2)
    text = dict(zip(names, p["text"])) | {
        "vocab_size": size, "max_position_embeddings": p["positions"], "bos_token_id": size - 2, "eos_token_id": 2,
        "pad_token_id": tokenizer.pad_token_id, "sep_token_id": tokenizer.sep_token_id,
    }  # fmt: skip
    vision = dict(zip(names, p["vision"])) | {"patch_size": p["patch"], "image_size": p["image"]}
    return BlipConfig(text_config=text, vision_config=vision, image_text_hidden_size=p.get("dim", 256))


def vision_stages(model):
    vision = model.vision_model
    return stages("vision.", [("embeddings", vision.embeddings), *((f"layers.{i}", layer) for i, layer in enumerate(vision.encoder.layers))])


def text_stages(prefix, bert):
    return stages(prefix, [("embeddings", bert.embeddings), *((f"layers.{i}", layer) for i, layer in enumerate(bert.encoder.layer))])


@torch.no_grad()
def liven(model, end, by):
    """Makes texts that vary, and that end now and then."""
    config = model.config
    g = torch.Generator().manual_seed(1)
    ids = torch.randint(0, config.text_config.vocab_size, (4, 40), generator=g)
    seen = model.vision_model.eval()(torch.randn((4, 3, *[config.vision_config.image_size] * 2), generator=g))[0]
    if hasattr(model, "text_encoder"):
        seen = model.text_encoder.eval()(ids[:, :9], encoder_hidden_states=seen)[0]
    head = model.text_decoder.cls.predictions
    with Taps(last=head.transform) as taps:
        model.text_decoder.eval()(ids, encoder_hidden_states=seen)
    level(head.transform.LayerNorm.bias, taps["last"])
    head.bias[end] += by


@torch.no_grad()
def of_pictures(model, processor, files, tensors):
    """Pixels of all pictures, stages of the first, and what the encoder says of each."""
    seen = {}
    for n, (name, file) in enumerate(files.items()):
        pixels = processor.image_processor(open_picture(file), return_tensors="pt")["pixel_values"]
        tensors[f"pixel_values.{name}"] = pixels
        with Taps(**vision_stages(model)) as taps:
            seen[name] = model.vision_model(pixels)[0]
        if n == 0:
            tensors |= {key.replace("vision.", f"vision.{name}."): t for key, t in tapped(taps).items()} | {f"vision.{name}.post_norm": seen[name]}
    return seen


@torch.no_grad()
def written(model, processor, files, strict):
    """Captions or answers."""
    tensors, cases = {}, []
    seen = of_pictures(model, processor, files, tensors)
    asks = isinstance(model, BlipForQuestionAnswering)
    text = model.config.text_config
    tokenizer, names = processor.tokenizer, list(files)
    decode = plain_text(tokenizer)
    if asks:
        todo = [(f"{name}-{q}", name, question) for q, question in enumerate(QUESTIONS) for name in (names if q == 0 else names[:1])]
    else:
        todo = [(name, name, None) for name in names] + [(f"{names[0]}-prompt-{i}", names[0], prompt) for i, prompt in enumerate(PROMPTS)]
    for case, name, words in todo:
        inputs = {"pixel_values": tensors[f"pixel_values.{name}"]}
        encoder, start = seen[name], [text.bos_token_id]
        facts = {"name": case, "pictures": [name]}
        if words is not None:
            encoded = processor(text=words, return_tensors="pt")
            inputs |= {"input_ids": encoded["input_ids"].clone(), "attention_mask": encoded["attention_mask"]}
            facts |= {"question" if asks else "prompt": words, "input_ids": encoded["input_ids"][0].tolist()}
            if asks:
                kind = text_stages("question.", model.text_encoder)
                with Taps(**kind) as taps:
                    encoder = model.text_encoder(input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"], encoder_hidden_states=encoder)[0]
                tensors |= {key.replace("question.", f"question.{case}."): t for key, t in tapped(taps).items()} if case == todo[0][0] else {f"question.{case}.hidden": encoder}
            else:
                start = start + encoded["input_ids"][0, 1:-1].tolist()
        facts["decoder_input_ids"] = start

        def forced(ids, encoder=encoder, start=start):
            return model.text_decoder(torch.tensor([start + ids]), encoder_hidden_states=encoder).logits[0]

        gen = Generator(model, inputs, len(start), {text.sep_token_id}, decode, forced, strict)
        greedy = gen.greedy(max_new_tokens=64)
        generations = [greedy]
        full = case == todo[0][0] or case.endswith("prompt-0")
        if case == todo[0][0]:
            gen.require(not greedy["ended"], "the first text ends")
            gen.varied(greedy)
            generations += [gen.greedy(max_new_tokens=32, **options) for options in PENALTIES]
            generations += [gen.beams(max_new_tokens=20, **options) for options in BEAMS]
        else:
            generations.append(gen.beams(max_new_tokens=20, **BEAMS[0]))
        if full:
            kind = text_stages("decoder.", model.text_decoder.bert)
            with Taps(**kind) as taps:
                hidden = model.text_decoder.bert(torch.tensor([start + greedy["tokens"]]), encoder_hidden_states=encoder, is_decoder=True)[0]
            tensors |= {f"decoder.{case}.hidden": hidden, f"decoder.{case}.logits": forced(greedy["tokens"])[None]}
            if case == todo[0][0]:
                tensors |= {key.replace("decoder.", f"decoder.{case}."): t[:, :8] for key, t in tapped(taps).items()}
        for generation in generations:
            # What people print: the prompt is part of it.
            generation["whole"] = decode(start + generation["tokens"])
        cases.append(facts | {"generations": generations})
    gen.worth_it(cases)
    return tensors, {"cases": cases}


@torch.no_grad()
def matched(model, processor, files, strict):
    """Both ways of matching: the head that reads text and picture together, and the cosine of the two alone."""
    tensors, cases = {}, []
    seen = of_pictures(model, processor, files, tensors)
    first = next(iter(files))
    unit = torch.nn.functional.normalize
    encoded = [processor(text=words, return_tensors="pt") for words in FITTING]
    alone = [model.text_encoder(**e)[0] for e in encoded]
    tensors |= {f"text.{i}.hidden": hidden for i, hidden in enumerate(alone)}
    tensors["text_embeds"] = texts = torch.cat([unit(model.text_proj(hidden[:, 0])) for hidden in alone])
    with Taps(**text_stages("text.0.", model.text_encoder)) as taps:
        model.text_encoder(**encoded[0])
    tensors |= tapped(taps)
    for name in files:
        pixels = tensors[f"pixel_values.{name}"]
        tensors[f"image_embeds.{name}"] = unit(model.vision_proj(seen[name][:, 0]))
        with Taps(**text_stages(f"joint.{name}.0.", model.text_encoder)) as taps:
            logits = [model(pixel_values=pixels, **encoded[0]).itm_score]
        if name == first:
            tensors |= tapped(taps)
        logits = torch.cat(logits + [model(pixel_values=pixels, **e).itm_score for e in encoded[1:]])
        cosines = torch.cat([model(pixel_values=pixels, use_itm_head=False, **e).itm_score for e in encoded])[:, 0]
        assert torch.allclose(cosines, texts @ tensors[f"image_embeds.{name}"][0], atol=1e-5)
        tensors |= {f"itm_logits.{name}": logits, f"cosine.{name}": cosines}
        scores = [{"text": words, "score": s, "cosine": c} for words, s, c in zip(FITTING, logits.softmax(-1)[:, 1].tolist(), cosines.tolist())]
        cases.append({"name": name, "pictures": [name], "scores": scores})
    return tensors, {"texts": FITTING, "ids": [e["input_ids"][0].tolist() for e in encoded], "cases": cases}


def write(preset, folder, expected, seed):
    p = PRESETS[preset]
    tokenizer = bert_tokenizer(p["words"])
    processor = BlipProcessor(BlipImageProcessor(size={"height": p["image"], "width": p["image"]}), tokenizer)
    processor.save_pretrained(folder)
    compact(folder)
    files = pictures(expected, seed + 1, 1 if p.get("golden") else 11)
    whole, kind, stored = config(p, tokenizer), p["model"], p.get("stored", torch.float32)

    def fresh(number):
        model = randomize(kind(whole), number, SCALES)
        if hasattr(model, "text_decoder"):
            liven(model, tokenizer.sep_token_id, p.get("end", 3.0))
        return model

    def save(model):
        save_model(model, folder, stored)
        return reload(kind, folder)

    def of(model, strict):
        return (written if hasattr(model, "text_decoder") else matched)(model, processor, files, strict)

    tensors, facts = settled(strictness(p), fresh, of, save, seed, stored, p.get("first", 0))
    facts = {"reference": f"transformers {kind.__name__}", "pictures": {name: f"pictures/{file.name}" for name, file in files.items()}} | facts
    write_expected(expected, tensors, facts, "blip", preset, seed)


if __name__ == "__main__":
    arguments(__doc__, PRESETS, write)
