"""Goldens of Idefics3 and SmolVLM, which answer questions about pictures cut into tiles, and of the Llama that writes their text.

    python tools/reference/smolvlm.py                                           # tests/goldens/smolvlm/*
    python tools/reference/smolvlm.py --out DIR --preset smolvlm-256m --seed 7  # one checkpoint, and DIR.expected
"""

import json

import torch
from common import TEXTS, Taps, arguments, compact, letters_of_bytes, open_picture, pictures, randomize, reload, save_model, write_expected, write_vocabulary
from generation import BEAMS, PENALTIES, Generator, byte_merges, out_of, plain_text, settled, stages, strictness, tapped
from tokenizers import pre_tokenizers
from transformers import (
    AutoProcessor,
    AutoTokenizer,
    GenerationConfig,
    GPT2Tokenizer,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    LlamaConfig,
    LlamaForCausalLM,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

# width, heads, inner, layers of both, then the heads of keys and values; tiles as large as `image`, pictures first as large as `longest`.
# hub: files and config.json as HuggingFaceTB's repositories have them, written before transformers 5.
PRESETS = {
    "idefics3": {"golden": "smolvlm", "vision": (24, 3, 40, 2), "text": (24, 4, 40, 2), "kv": 2, "patch": 4, "image": 16, "longest": 40, "scale": 2, "positions": 512, "merges": 40, "tied": True, "hub": True, "stored": torch.bfloat16, "first": 3},
    "smolvlm": {"golden": "smolvlm", "smolvlm": True, "vision": (20, 2, 40, 2), "text": (32, 4, 48, 2), "kv": 1, "patch": 3, "image": 18, "longest": 36, "scale": 3, "positions": 512, "merges": 40, "tied": False, "stored": torch.float16, "first": 3},
    "text": {"golden": "smolvlm", "text": (36, 3, 64, 2), "kv": 1, "positions": 256, "merges": 40, "tied": True, "stored": torch.float16, "first": 0},
    "smolvlm-256m": {"vision": (768, 12, 3072, 12), "text": (576, 9, 1536, 30), "kv": 3, "patch": 16, "image": 512, "longest": 2048, "scale": 4, "positions": 8192, "merges": 400, "tied": False, "hub": True, "vocabulary": 49280},
    "smolvlm2-256m": {"smolvlm": True, "vision": (768, 12, 3072, 12), "text": (576, 9, 1536, 30), "kv": 3, "patch": 16, "image": 512, "longest": 2048, "scale": 4, "positions": 8192, "merges": 400, "tied": False, "hub": True, "vocabulary": 49280},
    "smollm2-135m": {"text": (576, 9, 1536, 30), "kv": 3, "positions": 8192, "merges": 400, "tied": True, "vocabulary": 49152},
}  # fmt: skip
SEEN = "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
SAID = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
SIDE = 6  # the most tiles on a side that have tokens
THETA = 100000.0

SCALES = [
    (r"vision.*position_embedding", 0.4),
    (r"embed_tokens|lm_head", 0.8),
    (r"(text_model|model)\.layers\.\d+\.self_attn\.[qk]_proj", out_of(1.8)),
    (r"(text_model|model)\.layers\.\d+\.(self_attn\.o|mlp\.down)_proj", out_of(3.0)),
    (r"(text_model|model)\.layers\.\d+\.mlp\.(gate|up)_proj", out_of(1.5)),
    (r"connector", out_of(0.8)),
]


def smol_tokenizer(merges, pictures):
    """SmolLM2's kind: three special tokens, 256 bytes, merges; digits one by one. With what stands around pictures, added after it."""
    merges = [*byte_merges(merges), ("Ċ", "Ċ")]
    if not pictures:
        # Never used, as digits stand alone.
        merges += [("Ġ", "1"), ("1", "2")]
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *letters_of_bytes(), *("".join(m) for m in merges)]
    tokenizer = GPT2Tokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=merges, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>", unk_token="<|endoftext|>")
    tokenizer._tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    if pictures:
        places = [f"<row_{row}_col_{column}>" for row in range(1, SIDE + 1) for column in range(1, SIDE + 1)]
        added = ["<global-img>", *places, "<fake_token_around_image>", "<image>", "<end_of_utterance>"]
        tokenizer.add_special_tokens({"additional_special_tokens": added, "eos_token": "<end_of_utterance>"})
    tokenizer.chat_template = SEEN if pictures else SAID
    return tokenizer


def text_config(p, tokenizer):
    width, heads, inner, layers = p["text"]
    return LlamaConfig(
        hidden_size=width, num_attention_heads=heads, num_key_value_heads=p["kv"], intermediate_size=inner, num_hidden_layers=layers, max_position_embeddings=p["positions"],
        vocab_size=p.get("vocabulary", len(tokenizer)), rms_norm_eps=1e-5, rope_parameters={"rope_theta": THETA, "rope_type": "default"}, tie_word_embeddings=p["tied"],
        bos_token_id=1, eos_token_id=2, pad_token_id=2,
    )  # fmt: skip


def parts(p, tokenizer):
    """Config, model class and processor."""
    text = text_config(p, tokenizer)
    if "vision" not in p:
        return text, LlamaForCausalLM, None
    vision = dict(zip(("hidden_size", "num_attention_heads", "intermediate_size", "num_hidden_layers"), p["vision"])) | {"patch_size": p["patch"], "image_size": p["image"]}
    config_class, model_class = (SmolVLMConfig, SmolVLMForConditionalGeneration) if p.get("smolvlm") else (Idefics3Config, Idefics3ForConditionalGeneration)
    config = config_class(text_config=text.to_dict(), vision_config=vision, scale_factor=p["scale"], image_token_id=tokenizer.convert_tokens_to_ids("<image>"), tie_word_embeddings=p["tied"], pad_token_id=2)
    sizes = {"size": {"longest_edge": p["longest"]}, "max_image_size": {"longest_edge": p["image"]}}
    length = (p["image"] // p["patch"]) ** 2 // p["scale"] ** 2
    if p.get("smolvlm"):
        processor = SmolVLMProcessor(SmolVLMImageProcessor(**sizes), tokenizer, SmolVLMVideoProcessor(**sizes), image_seq_len=length, chat_template=SEEN)
    else:
        processor = Idefics3Processor(Idefics3ImageProcessor(**sizes), tokenizer, image_seq_len=length, chat_template=SEEN)
    return config, model_class, processor


def as_fast(folder):
    """GPT2Tokenizer of transformers 5 has its own splitting into words, without the digits of tokenizer.json; the plain class has the file's."""
    said = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(said | {"tokenizer_class": "PreTrainedTokenizerFast"}, indent=2) + "\n")


def as_hub(folder):
    """Files and keys as they were before transformers 5."""
    whole = json.loads((folder / "processor_config.json").read_text())
    images = whole.pop("image_processor") | {"processor_class": whole["processor_class"]}
    whole.pop("video_processor", None)
    template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    (folder / "chat_template.jinja").unlink()
    (folder / "preprocessor_config.json").write_text(json.dumps(images, indent=2) + "\n")
    (folder / "processor_config.json").write_text(json.dumps(whole, indent=2) + "\n")
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}, indent=2) + "\n", encoding="utf-8")


def config_as_hub(folder):
    config = json.loads((folder / "config.json").read_text())
    config["text_config"] |= {"rope_theta": config["text_config"].pop("rope_parameters")["rope_theta"], "rope_scaling": None, "torch_dtype": config["dtype"]}
    config |= {"torch_dtype": config.pop("dtype"), "pad_token_id": config.pop("_pad_token_id")}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def body(model):
    return model.model.text_model if hasattr(model.model, "text_model") else model.model


@torch.no_grad()
def liven(model, ends, by):
    """Takes out of the head what all positions have in common, so that no token wins everywhere; ending gets louder."""
    text, head = body(model), model.lm_head.weight
    g = torch.Generator().manual_seed(1)
    ids = torch.randint(0, head.shape[0], (4, 60), generator=g)
    for _ in range(3):
        mean = text.eval()(inputs_embeds=text.embed_tokens(ids))[0].flatten(0, 1).mean(0)
        head -= torch.outer(head @ mean, mean) / mean.dot(mean)
    for end in ends:
        head[end] *= by


def text_stages(model):
    text = body(model)
    return stages("decoder.", [(f"layers.{i}", layer) for i, layer in enumerate(text.layers)])


def forcing(model, inputs):
    """Prompt and text at once. The text may have a token that stands for a picture, which then is a token like any other."""
    embed = body(model).embed_tokens
    prompt = embed(inputs["input_ids"])
    if "pixel_values" in inputs:
        seen = model.model.get_image_features(inputs["pixel_values"], inputs["pixel_attention_mask"], return_dict=True).pooler_output
        places = inputs["input_ids"] == model.config.image_token_id
        prompt[places] = torch.cat(seen)

    def forced(ids):
        return model(inputs_embeds=torch.cat([prompt, embed(torch.tensor([ids], dtype=torch.long))], 1)).logits[0]

    return forced


def generations(gen, full, longest=64):
    greedy = gen.greedy(max_new_tokens=longest)
    if full:
        gen.require(not greedy["ended"], "the first text ends")
        gen.varied(greedy)
        return [greedy] + [gen.greedy(max_new_tokens=32, **o) for o in PENALTIES] + [gen.beams(max_new_tokens=20, **o) for o in BEAMS]
    return [greedy, gen.beams(max_new_tokens=20, **BEAMS[0])]


def kept_of(model, gen, name, inputs, greedy, tensors):
    """What the decoder computes; logits only where the text is."""
    with Taps(**text_stages(model), last=body(model).norm) as taps:
        logits = gen.forced(greedy["tokens"])
    kept = tapped(taps)
    tensors |= {f"decoder.{name}.hidden": kept.pop("last"), f"decoder.{name}.logits": logits[None, inputs["input_ids"].shape[1] - 1 :]}
    tensors |= {key.replace("decoder.", f"decoder.{name}."): t[:, :8] for key, t in kept.items()}


# Pictures.


def user(*content):
    return {"role": "user", "content": [{"type": "image"} if part is None else {"type": "text", "text": part} for part in content]}


def assistant(text):
    return {"role": "assistant", "content": [{"type": "text", "text": text}]}


# name, pictures, messages (None: a picture), options of the processor.
WHOLE = {"do_image_splitting": False}
ASKED = [
    ("whole", ["wide"], [user(None, "What is this?")], WHOLE),
    ("tiles", ["wide"], [user(None, "What is this?")], {}),
    ("tall", ["tall"], [user(None, "How many dogs? 12 or 3?")], {}),
    ("two", ["grey", "tall"], [user(None, None, "Which picture is red?")], WHOLE),
    ("few-shot", ["tall", "alpha"], [user(None, "What is this?"), assistant("A red bus."), user(None, "And this?")], WHOLE),
    ("two-tiles", ["tiny", "grey"], [user("First:", None, "Second:", None, "What changed?")], {}),
    ("system", ["alpha"], [{"role": "system", "content": [{"type": "text", "text": "Be brief."}]}, user(None, "a café?")], WHOLE),
    ("none", [], [user("Where is the river?")], {}),
]


@torch.no_grad()
def answered(model, processor, files, strict):
    tensors, cases = {}, []
    ends = model.generation_config.eos_token_id
    ends = set(ends) if isinstance(ends, list) else {ends}
    decode = plain_text(processor.tokenizer)
    for n, (name, shown, messages, options) in enumerate(ASKED):
        prompt = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        images = [open_picture(files[picture]) for picture in shown]
        inputs = dict(processor(text=prompt, images=images or None, return_tensors="pt", **options))
        inputs.pop("token_type_ids", None)
        facts = {"name": name, "pictures": shown, "messages": messages, "options": options, "prompt": prompt, "input_ids": inputs["input_ids"][0].tolist()}
        if images:
            sizes = processor.image_processor(images=[images], return_tensors="pt", return_row_col_info=True, **options)
            facts |= {"rows": sizes["rows"][0], "cols": sizes["cols"][0]}
            tensors |= {f"{key}.{name}": inputs[key] for key in ("pixel_values",)}
            assert inputs["pixel_attention_mask"].bool().all()
        gen = Generator(model, inputs, inputs["input_ids"].shape[1], ends, decode, forcing(model, inputs), strict)
        facts["generations"] = generations(gen, n == 0, 64 if n < 4 else 24)
        if n == 0:
            kept_of(model, gen, name, inputs, facts["generations"][0], tensors)
        cases.append(facts)
    gen.worth_it(cases)
    of_vision(model, tensors)
    return tensors, {"cases": cases}


@torch.no_grad()
def of_vision(model, tensors):
    """Stages of the tiles of one picture, and of a tile of which a part is padding: no processor makes that of a single prompt."""
    vision = model.model.vision_model
    kinds = stages("vision.", [("embeddings", vision.embeddings), *((f"layers.{i}", layer) for i, layer in enumerate(vision.encoder.layers)), ("post_norm", vision.post_layernorm), ("connector", model.model.connector)])
    side = tensors["pixel_values.tiles"].shape[-1]
    mask = torch.zeros(1, 2, side, side, dtype=torch.long)
    patch = model.config.vision_config.patch_size
    mask[0, 0, : side - patch, : side // 2] = 1
    mask[0, 1, : 2 * patch - 1, :] = 1
    padded = tensors["pixel_values.tiles"][:, :2] * mask[:, :, None]
    tensors |= {"pixel_values.padded": padded, "pixel_attention_mask.padded": mask}
    for name, pixels, masked in (("tiles", tensors["pixel_values.tiles"], None), ("padded", padded, mask)):
        with Taps(**kinds) as taps:
            model.model.get_image_features(pixels, masked)
        kept = tapped(taps)
        # Of the tiles only the first and the last, which is the whole picture, between the ends.
        ends = (0, pixels.shape[1] - 1)
        tensors |= {key.replace("vision.", f"vision.{name}."): t if key.endswith("connector") else t[list(ends)] for key, t in kept.items()}


# Text alone.

SPOKEN = [
    ("raw", "A red bus near the"),
    ("chat", [{"role": "user", "content": "Where is the river?"}]),
    ("system", [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 12 + 30?"}]),
    ("turns", [{"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "Hi."}, {"role": "user", "content": "  two\n\ndogs "}]),
]


@torch.no_grad()
def spoken(model, tokenizer, strict):
    tensors, cases = {}, []
    ends, decode = {model.generation_config.eos_token_id}, plain_text(tokenizer)
    for n, (name, said) in enumerate(SPOKEN):
        chat = isinstance(said, list)
        prompt = tokenizer.apply_chat_template(said, add_generation_prompt=True, tokenize=False) if chat else said
        inputs = dict(tokenizer(prompt, return_tensors="pt"))
        facts = {"name": name, "pictures": [], **({"messages": said} if chat else {}), "prompt": prompt, "input_ids": inputs["input_ids"][0].tolist()}
        gen = Generator(model, inputs, inputs["input_ids"].shape[1], ends, decode, forcing(model, inputs), strict)
        facts["generations"] = generations(gen, n == 0)
        if n == 0:
            kept_of(model, gen, name, inputs, facts["generations"][0], tensors)
        cases.append(facts)
    gen.worth_it(cases)
    return tensors, {"texts": TEXTS, "ids": [tokenizer(text)["input_ids"] for text in TEXTS], "cases": cases}


def write(preset, folder, expected, seed):
    p = PRESETS[preset]
    tokenizer = smol_tokenizer(p["merges"], "vision" in p)
    config, kind, processor = parts(p, tokenizer)
    (processor or tokenizer).save_pretrained(folder)
    if p.get("hub"):
        as_hub(folder)
    if not processor:
        as_fast(folder)
    if not p.get("golden"):
        write_vocabulary(tokenizer, folder)
    compact(folder)
    files = pictures(expected, seed + 1, 1 if p.get("golden") else 11) if processor else {}
    # As whoever has the folder alone reads it.
    reader = AutoProcessor.from_pretrained(folder) if processor else AutoTokenizer.from_pretrained(folder)
    ends = tokenizer.eos_token_id if not p.get("hub") else [tokenizer.eos_token_id, 2]
    stored = p.get("stored", torch.float32)

    def fresh(number):
        model = randomize(kind(config), number, SCALES)
        liven(model, [tokenizer.eos_token_id], p.get("end", 1.3))
        model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=ends, pad_token_id=2)
        return model

    def save(model):
        save_model(model, folder, stored)
        if p.get("hub"):
            config_as_hub(folder)
        return reload(kind, folder)

    def of(model, strict):
        return answered(model, reader, files, strict) if processor else spoken(model, reader, strict)

    tensors, facts = settled(strictness(p), fresh, of, save, seed, stored, p.get("first", 0))
    facts = {"reference": f"transformers {kind.__name__}", "pictures": {name: f"pictures/{file.name}" for name, file in files.items()}} | facts
    write_expected(expected, tensors, facts, "smolvlm" if processor else "llama", preset, seed)


if __name__ == "__main__":
    arguments(__doc__, PRESETS, write)
