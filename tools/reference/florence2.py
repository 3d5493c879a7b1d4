"""Goldens of Florence-2, whose tasks are questions and whose boxes are tokens, and of reading those.

    python tools/reference/florence2.py                                 # tests/goldens/florence2/*
    python tools/reference/florence2.py --out DIR --preset base --seed 7    # one checkpoint, and DIR.expected
"""

import json

import torch
from common import GOLDENS, Taps, arguments, compact, flatten, open_picture, pictures, randomize, reload, save_model, write_expected, write_vocabulary
from generation import BEAMS, PENALTIES, WORTHWHILE, Generator, Unclear, level, out_of, plain_text, roberta_tokenizer, settled, stages, strictness, tapped
from transformers import (
    AutoProcessor,
    BartConfig,
    BartTokenizer,
    CLIPImageProcessor,
    Florence2Config,
    Florence2ForConditionalGeneration,
    Florence2Processor,
    Florence2VisionConfig,
    GenerationConfig,
)

# Of pictures: depths, widths, heads and groups of the four stages, and the window; of text: width, heads, inner, layers.
PRESETS = {
    # 40 gives 10, 5, 3 and 2 places a side, none of them a multiple of the window.
    "tiny": {"golden": "florence2", "depths": (1, 1, 2, 1), "widths": (8, 8, 12, 16), "heads": (2, 1, 3, 4), "groups": (2, 4, 3, 8), "window": 4, "text": (16, 2, 32, 2), "image": 40, "positions": 80, "merges": 30, "stored": torch.float16, "first": 47},
    "base": {"depths": (1, 1, 9, 1), "widths": (128, 256, 512, 1024), "heads": (4, 8, 16, 32), "groups": (4, 8, 16, 32), "window": 12, "text": (768, 12, 3072, 6), "image": 768, "positions": 1024, "merges": 400, "vocabulary": 51328},
    "large": {"depths": (1, 1, 9, 1), "widths": (256, 512, 1024, 2048), "heads": (8, 16, 32, 64), "groups": (8, 16, 32, 64), "window": 12, "text": (1024, 16, 4096, 12), "image": 768, "positions": 4096, "merges": 400, "vocabulary": 51328},
}  # fmt: skip
PARTS = ["od", "ocr"], ["cap", "ncap", "dcap", "grounding", "seg"], ["region_cap", "region_to_desciption", "proposal", "poly"]
BINS = 1000
BANNED = ["it", "they", "one", "the", "them", "this", "the image", "image", "a", "an", "a group", "other objects", "a set"]
RULES = {
    "ocr": {"pattern": r"(.+?)" + r"<loc_(\d+)>" * 8, "area_threshold": 0.0},
    "phrase_grounding": {"banned_grounding_tokens": BANNED},
    "pure_text": {}, "description_with_bboxes": {}, "description_with_polygons": {}, "polygons": {}, "bboxes": {}, "description_with_bboxes_or_polygons": {},
}  # fmt: skip
REGION = "<loc_52><loc_332><loc_932><loc_774>"
TASKS = [
    "<CAPTION>", "<DETAILED_CAPTION>", "<MORE_DETAILED_CAPTION>", "<OD>", "<DENSE_REGION_CAPTION>", "<REGION_PROPOSAL>", "<OCR>", "<OCR_WITH_REGION>",
    "<CAPTION_TO_PHRASE_GROUNDING>A red bus near the river.", "<OPEN_VOCABULARY_DETECTION>a black dog", "<REFERRING_EXPRESSION_SEGMENTATION>the dog in the snow",
    "<REGION_TO_SEGMENTATION>" + REGION, "<REGION_TO_CATEGORY>" + REGION, "<REGION_TO_DESCRIPTION>" + REGION, "<REGION_TO_OCR>" + REGION, "what is this ?",
]  # fmt: skip

SCALES = [
    (r"vision_tower.*conv[12]\.weight", lambda p: 0.25),
    (r"(row|column)_embeddings", 0.7),
    (r"language_model\.shared|lm_head", 0.8),
    (r"embed_positions", 1.5),
    (r"encoder_attn\.(v|out)_proj\.weight", out_of(1.8)),
    (r"decoder.*[qk]_proj\.weight", out_of(2.0)),
    (r"decoder.*fc2\.weight", out_of(2.0)),
]


def florence_tokenizer(merges):
    """BART's, with a token for each place and each kind of text, and one for the picture."""
    tokenizer = roberta_tokenizer(merges, BartTokenizer)
    first, second, third = ([f"<{slash}{part}>" for part in parts for slash in ("", "/")] for parts in PARTS)
    places = [f"<loc_{i}>" for i in range(BINS)]
    added = [*first, *places, *second, "<sep>", *third, "<and>", "<image>"]
    tokenizer.add_special_tokens({"additional_special_tokens": added})
    tokenizer.image_token, tokenizer.image_token_id = "<image>", tokenizer.convert_tokens_to_ids("<image>")
    return tokenizer


def parts(p):
    tokenizer = florence_tokenizer(p["merges"])
    width, heads, inner, layers = p["text"]
    side = p["image"]
    for stride in (4, 2, 2, 2):
        side = -(-side // stride)
    images = CLIPImageProcessor(size={"height": p["image"], "width": p["image"]}, do_center_crop=False, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])
    images.image_seq_length = side * side + 1
    processor = Florence2Processor(images, tokenizer, post_processor_config=RULES)
    # Native checkpoints have a table that is a multiple of 64 long.
    size = p.get("vocabulary", -(-len(tokenizer) // 64) * 64)
    text = BartConfig(
        vocab_size=size, d_model=width, encoder_layers=layers, decoder_layers=layers, encoder_attention_heads=heads, decoder_attention_heads=heads,
        encoder_ffn_dim=inner, decoder_ffn_dim=inner, max_position_embeddings=p["positions"], scale_embedding=False,
    )  # fmt: skip
    vision = Florence2VisionConfig(
        depths=p["depths"], embed_dim=p["widths"], num_heads=p["heads"], num_groups=p["groups"], window_size=p["window"], projection_dim=width,
    )  # fmt: skip
    config = Florence2Config(text_config=text.to_dict(), vision_config=vision.to_dict(), image_token_id=tokenizer.image_token_id)
    # As Microsoft's: three beams, no three words twice, `<s>` first and `</s>` last.
    generation = GenerationConfig(
        bos_token_id=0, pad_token_id=1, eos_token_id=2, decoder_start_token_id=2, forced_bos_token_id=0, forced_eos_token_id=2,
        num_beams=3, early_stopping=True, no_repeat_ngram_size=3,
    )  # fmt: skip
    return tokenizer, processor, config, generation


def name_image_token(folder):
    """Which token stands for the picture, as the repositories say it; that the others are special is in tokenizer.json."""
    file = folder / "tokenizer_config.json"
    said = json.loads(file.read_text()) | {"extra_special_tokens": {"image_token": "<image>"}}
    file.write_text(json.dumps(said, indent=2) + "\n")


def vision_stages(model):
    tower = model.model.vision_tower
    found = [(f"convs.{i}", conv) for i, conv in enumerate(tower.convs)]
    found += [(f"blocks.{i}.{j}.{half}", getattr(block, half)) for i, blocks in enumerate(tower.blocks) for j, block in enumerate(blocks) for half in ("spatial_block", "channel_block")]
    return stages("vision.", [*found, ("projected", model.model.multi_modal_projector)])


def text_stages(model):
    halves = {"encoder": model.model.language_model.encoder, "decoder": model.model.language_model.decoder}
    return stages("", [pair for name, half in halves.items() for pair in [(f"{name}.embeddings", half.layernorm_embedding), *((f"{name}.layers.{i}", layer) for i, layer in enumerate(half.layers))]])


@torch.no_grad()
def liven(model, end, by):
    """Makes texts that vary, and that end now and then."""
    # A thousand places would leave little room for words.
    table, first = model.lm_head.weight, len(model.lm_head.weight) // 4
    table[first:] *= 0.6
    g = torch.Generator().manual_seed(1)
    decoder = model.model.language_model.decoder
    ids = torch.randint(0, model.lm_head.weight.shape[0], (4, 40), generator=g)
    hidden = model.eval().model.language_model(input_ids=ids, decoder_input_ids=ids)[0]
    level(decoder.layers[-1].final_layer_norm.bias, hidden, model.lm_head.weight[end], by)


GREEDY = {"num_beams": 1, "early_stopping": False, "no_repeat_ngram_size": 0}


@torch.no_grad()
def values(model, processor, files, strict):
    tensors, cases = {}, []
    tokenizer, names = processor.tokenizer, list(files)
    decode, start, bos = plain_text(tokenizer), 2, 0
    todo = [(f"{names[0]}-{i}", names[0], task) for i, task in enumerate(TASKS)]
    todo += [(f"{name}-{i}", name, TASKS[i]) for name in names[1:] for i in (0, 3)]
    for n, (case, name, task) in enumerate(todo):
        image = open_picture(files[name])
        inputs = dict(processor(text=task, images=image, return_tensors="pt"))
        tensors[f"pixel_values.{name}"] = inputs["pixel_values"]
        prompt = processor._construct_prompts(task)[0]
        facts = {"name": case, "pictures": [name], "task": task, "prompt": prompt, "input_ids": inputs["input_ids"][0].tolist(), "size": list(image.size)}

        embeds = model.get_input_embeddings()(inputs["input_ids"])
        seen = model.get_image_features(inputs["pixel_values"], return_dict=True).pooler_output
        embeds[inputs["input_ids"] == model.config.image_token_id] = seen[0]

        def forced(ids, embeds=embeds):
            encoded = model.model.language_model.encoder(inputs_embeds=embeds)
            return model(encoder_outputs=encoded, decoder_input_ids=torch.tensor([[start, bos, *ids]])).logits[0]

        gen = Generator(model, inputs, 1, {tokenizer.eos_token_id}, decode, forced, strict, begins=1, last_forced=True)
        try:
            greedy = gen.greedy(max_new_tokens=66 if n == 0 else 32, **GREEDY)
            generations = [greedy, gen.beams(max_new_tokens=24)]
        except Unclear:
            if n == 0 or strict == WORTHWHILE:
                raise
            continue
        if n == 0:
            gen.require(not greedy["ended"], "the first text ends")
            gen.varied(greedy)
            generations += [gen.greedy(max_new_tokens=32, **{**GREEDY, **options}) for options in PENALTIES]
            generations += [gen.beams(max_new_tokens=20, **{"no_repeat_ngram_size": 0, **options}) for options in BEAMS]
            with Taps(**vision_stages(model), **text_stages(model)) as taps:
                model.get_image_features(inputs["pixel_values"])
                logits = forced(greedy["tokens"])
            kept = tapped(taps)
            last = max(key for key in kept if key.startswith("decoder.layers."))
            tensors |= {f"decoder.{case}.hidden": kept[last].clone(), f"decoder.{case}.logits": logits[None, :6]}
            tensors |= {key.replace("vision.", f"vision.{name}."): t for key, t in kept.items() if key.startswith("vision.")}
            tensors |= {key.replace("encoder.", f"encoder.{case}."): t for key, t in kept.items() if key.startswith("encoder.")}
            tensors |= {key.replace("decoder.", f"decoder.{case}."): t[:, :8] for key, t in kept.items() if key.startswith("decoder.")}
        for generation in generations:
            ids = [start, bos, *generation["tokens"], *([tokenizer.eos_token_id] if generation["ended"] else [])]
            generation["whole"] = tokenizer.decode(ids, skip_special_tokens=False)
            kind = task[: task.index(">") + 1] if task.startswith("<") else task
            generation["read"] = processor.post_process_generation(text=generation["whole"], task=kind, image_size=image.size)[kind]
        cases.append(facts | {"generations": generations})
    gen.worth_it(cases)
    return tensors, cases


# Texts with places, of which the boxes are read: task, size of the picture, text.
def places(*numbers):
    return "".join(f"<loc_{n}>" for n in numbers)


WRITTEN = [
    ("<OD>", (640, 480), "</s><s>car" + places(52, 332, 932, 774) + "door" + places(710, 203, 856, 640) + "</s>"),
    ("<OD>", (640, 480), "</s><s>wheel" + places(708, 556, 774, 776, 156, 554, 234, 770) + "red bus" + places(0, 0, 999, 999) + "</s><pad><pad>"),
    ("<OD>", (43, 27), "</s><s>cat" + places(1, 2, 3) + "dog" + places(10, 20, 30, 40, 50) + " a big  bird " + places(500, 500, 501, 501) + "</s>"),
    ("<OD>", (1280, 721), "</s><s>" + places(1, 2, 3, 4) + "left over</s>"),
    ("<OD>", (1280, 721), "</s><s>café 犬" + places(999, 0, 0, 999) + "naïve—" + places(333, 333, 666, 666) + "</s>"),
    ("<OD>", (640, 480), "</s><s>nothing here</s>"),
    ("<OD>", (640, 480), "</s><s></s>"),
    ("<OD>", (3, 2), "</s><s>a" + places(0, 0, 500, 500) + "b" + places(166, 250, 167, 251) + "</s>"),
    ("<OD>", (640, 480), "</s><s>a < b" + places(1, 2, 3, 4) + "<od>x" + places(5, 6, 7, 8) + "</od>y<sep>" + places(9, 10, 11, 12) + "</s>"),
    ("<OD>", (640, 480), "<s>one\nline" + places(1, 2, 3, 4) + "two\n" + places(5, 6, 7, 8) + "</s>"),
    ("<DENSE_REGION_CAPTION>", (640, 480), "</s><s>turquoise Volkswagen Beetle" + places(52, 332, 932, 774) + "wheel" + places(708, 556, 774, 776) + "wheel" + places(156, 554, 234, 770) + "</s>"),
    ("<REGION_PROPOSAL>", (640, 480), "</s><s>" + places(52, 332, 932, 774, 710, 203, 856, 640) + places(1, 1, 2) + "</s>"),
    ("<REGION_PROPOSAL>", (640, 480), "</s><s>" + places(52, 332, 932, 774) + "text" + places(1, 2, 3, 4) + "</s>"),
    ("<REGION_PROPOSAL>", (640, 480), "</s><s>" + places(52, 332, 932) + "</s>"),
    ("<CAPTION_TO_PHRASE_GROUNDING>", (640, 480), "</s><s>A green car" + places(53, 334, 931, 774) + "a yellow building with brown doors" + places(3, 2, 999, 801, 100, 100, 200, 200) + "</s>"),
    ("<CAPTION_TO_PHRASE_GROUNDING>", (640, 480), "</s><s>the image" + places(0, 0, 9, 9) + "it" + places(1, 1, 9, 9) + "The" + places(2, 2, 9, 9) + " a " + places(3, 3, 9, 9) + "is parked in front of a wall" + places(4, 4, 9, 9) + "</s>"),
    ("<CAPTION_TO_PHRASE_GROUNDING>", (21, 46), "</s><s>Ein Mädchen" + places(10, 20, 30, 40, 50, 60, 70, 80, 90) + "...</s>"),
    ("<CAPTION_TO_PHRASE_GROUNDING>", (640, 480), "</s><s><ground>a dog<obj>" + places(1, 2, 3, 4) + "</s>"),
    ("<OCR_WITH_REGION>", (640, 480), "</s><s>CUDA" + places(122, 83, 550, 83, 550, 164, 122, 164) + "FOR" + places(236, 165, 451, 165, 451, 220, 236, 220) + "ENGINEERS</s>"),
    ("<OCR_WITH_REGION>", (30, 40), "</s><s>a <b> c" + places(1, 2, 3, 4, 5, 6, 7, 8, 9) + "d" + places(10, 20, 30, 40, 50, 60, 70, 80) + "</s>"),
    ("<OCR_WITH_REGION>", (640, 480), "</s><s>short" + places(1, 2, 3, 4) + "long" + places(1, 2, 3, 4, 5, 6, 7, 8) + "\nnext" + places(8, 7, 6, 5, 4, 3, 2, 1) + "</s>"),
    ("<OCR_WITH_REGION>", (640, 480), "</s><s>naïve 犬" + places(0, 0, 999, 0, 999, 999, 0, 999) + "</s>"),
    ("<OCR>", (640, 480), "</s><s>CUDA FOR\nENGINEERS </s>"),
    ("<CAPTION>", (640, 480), "</s><s>A green car parked in front of a yellow building.</s>"),
    ("<MORE_DETAILED_CAPTION>", (640, 480), "</s><s> Two dogs.  A cat.</s><pad>"),
    ("<OPEN_VOCABULARY_DETECTION>", (640, 480), "</s><s>a green car" + places(56, 331, 932, 775) + "</s>"),
    ("<OPEN_VOCABULARY_DETECTION>", (640, 480), "</s><s>a car<poly>" + places(1, 2, 3, 4, 5, 6) + "<sep>" + places(7, 8, 9, 10, 11, 12) + "</poly></s>"),
    ("<REFERRING_EXPRESSION_SEGMENTATION>", (640, 480), "</s><s>" + places(283, 320, 298, 310, 315, 300, 330) + "</s>"),
    ("<REGION_TO_SEGMENTATION>", (640, 480), "</s><s><poly>" + places(1, 2, 3, 4, 5, 6) + "<sep>" + places(7, 8, 9, 10) + "</poly></s>"),
    ("<REGION_TO_CATEGORY>", (640, 480), "</s><s>car" + places(52, 332, 932, 774) + "</s>"),
]  # fmt: skip


def write_read(processor):
    """What is read from texts that people wrote."""
    cases = [{"task": task, "size": list(size), "text": text, "read": processor.post_process_generation(text=text, task=task, image_size=size)[task]} for task, size, text in WRITTEN]
    text = flatten(json.dumps({"banned": BANNED, "cases": cases}, indent=1, ensure_ascii=False))
    (GOLDENS / "florence2" / "read.json").write_text(text + "\n", encoding="utf-8")


def write(preset, folder, expected, seed):
    p = PRESETS[preset]
    tokenizer, processor, config, generation = parts(p)
    processor.save_pretrained(folder)
    name_image_token(folder)
    if not p.get("golden"):
        write_vocabulary(tokenizer, folder)
    compact(folder)
    files = pictures(expected, seed + 1, 1 if p.get("golden") else 11)
    reader = AutoProcessor.from_pretrained(folder)
    stored = p.get("stored", torch.float32)

    def fresh(number):
        model = randomize(Florence2ForConditionalGeneration(config), number, SCALES)
        liven(model, tokenizer.eos_token_id, p.get("end", 3.0))
        model.generation_config = generation
        return model

    def save(model):
        save_model(model, folder, stored)
        return reload(Florence2ForConditionalGeneration, folder)

    def of(model, strict):
        return values(model, reader, files, strict)

    tensors, cases = settled(strictness(p), fresh, of, save, seed, stored, p.get("first", 0))
    facts = {"reference": "transformers Florence2ForConditionalGeneration", "pictures": {name: f"pictures/{file.name}" for name, file in files.items()}, "cases": cases}
    write_expected(expected, tensors, facts, "florence2", preset, seed)
    if p.get("golden"):
        write_read(reader)


if __name__ == "__main__":
    arguments(__doc__, PRESETS, write)
