"""Goldens of VisionEncoderDecoderModel: a ViT or DeiT that is read by GPT-2 or by TrOCR's decoder.

    python tools/reference/encoder_decoder.py                                           # tests/goldens/encoder_decoder/*
    python tools/reference/encoder_decoder.py --out DIR --preset distilvit --seed 7     # one checkpoint, and DIR.expected
"""

import torch
from common import Taps, arguments, compact, open_picture, pictures, randomize, reload, save_model, write_expected, write_vocabulary
from generation import BEAMS, PENALTIES, Generator, fan_in, gpt2_tokenizer, level, out_of, plain_text, roberta_tokenizer, settled, stages, strictness, tapped
from transformers import (
    DeiTConfig,
    DeiTImageProcessor,
    GenerationConfig,
    GPT2Config,
    TrOCRConfig,
    TrOCRProcessor,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTImageProcessor,
)

# width, heads, inner, layers of both; GPT-2's inner width None: four times the width.
PRESETS = {
    # As nlpconnect/vit-gpt2-image-captioning: one token starts, ends and pads.
    "vit_gpt2": {"golden": "encoder_decoder", "vision": (24, 3, 40, 2), "text": (24, 3, None, 2), "patch": 8, "image": 24, "positions": 80, "merges": 30, "stored": torch.float16, "first": 175},
    # As microsoft/trocr-small: keys and values of another width than the queries, embeddings times the root of the width.
    "deit_trocr": {"golden": "encoder_decoder", "deit": True, "trocr": {"scale_embedding": True, "activation_function": "relu"}, "cross": True, "vision": (32, 4, 48, 2), "text": (24, 2, 40, 2), "patch": 8, "image": 32, "positions": 80, "merges": 30, "stored": torch.float16, "first": 13},
    # As microsoft/trocr-base-stage1 in its decoder (sines, no norm of embeddings, a head of its own), without biases in the encoder as trocr-base,
    # and with a projection between the two.
    "vit_trocr": {"golden": "encoder_decoder", "trocr": {"scale_embedding": True, "activation_function": "relu", "layernorm_embedding": False, "use_learned_position_embeddings": False, "tie_word_embeddings": False}, "qkv_bias": False, "vision": (20, 2, 40, 2), "text": (24, 4, 40, 2), "patch": 12, "image": 24, "positions": 80, "merges": 20, "stored": torch.float16, "first": 42},
    "gpt2": {"vision": (768, 12, 3072, 12), "text": (768, 12, None, 12), "patch": 16, "image": 224, "positions": 1024, "merges": 400, "vocabulary": 50257},
    "distilvit": {"vision": (768, 12, 3072, 12), "text": (768, 12, None, 6), "patch": 16, "image": 224, "positions": 1024, "merges": 400, "vocabulary": 50257},
    "trocr-small": {"deit": True, "trocr": {"scale_embedding": True, "activation_function": "relu"}, "cross": True, "vision": (384, 6, 1536, 12), "text": (256, 8, 1024, 6), "patch": 16, "image": 384, "positions": 512, "merges": 400, "vocabulary": 64044},
    "trocr-base": {"trocr": {}, "cross": True, "qkv_bias": False, "vision": (768, 12, 3072, 12), "text": (1024, 16, 4096, 12), "patch": 16, "image": 384, "positions": 512, "merges": 400, "vocabulary": 50265},
    "trocr-stage1": {"trocr": {"scale_embedding": True, "activation_function": "relu", "layernorm_embedding": False, "use_learned_position_embeddings": False, "tie_word_embeddings": False}, "cross": True, "qkv_bias": False, "vision": (768, 12, 3072, 12), "text": (1024, 16, 4096, 12), "patch": 16, "image": 384, "positions": 1024, "merges": 400, "vocabulary": 50265},
}  # fmt: skip


# A head that shares its weights with the embeddings says again what it was fed, unless the layers speak louder than the embeddings.
SCALES = [
    (r"(cls|distillation)_token", 0.7),
    (r"position_embeddings", 0.4),
    (r"wte\.weight|embed_tokens\.weight|output_projection\.weight", 0.8),
    (r"wpe\.weight", 2.0),
    (r"embed_positions\.weight", 4.0),
    (r"c_proj\.weight", fan_in(2.5)),
    (r"h\.\d+\..*\.weight", fan_in(1.4)),
    (r"decoder.*fc2\.weight", out_of(2.0)),
    (r"decoder.*[qk]_proj\.weight", out_of(2.0)),
    (r"enc_to_dec_proj\.weight", out_of(1.0)),
]


def config(p, tokenizer):
    names = ("hidden_size", "num_attention_heads", "intermediate_size", "num_hidden_layers")
    kind = DeiTConfig if p.get("deit") else ViTConfig
    encoder = kind(**dict(zip(names, p["vision"])), patch_size=p["patch"], image_size=p["image"], qkv_bias=p.get("qkv_bias", True))
    width, heads, inner, layers = p["text"]
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    size = p.get("vocabulary", len(tokenizer))
    if "trocr" in p:
        ids |= {"pad_token_id": tokenizer.pad_token_id, "decoder_start_token_id": tokenizer.eos_token_id}
        decoder = TrOCRConfig(
            vocab_size=size, d_model=width, decoder_attention_heads=heads, decoder_ffn_dim=inner, decoder_layers=layers, max_position_embeddings=p["positions"],
            cross_attention_hidden_size=encoder.hidden_size if p.get("cross") else None, **p["trocr"], **ids,
        )  # fmt: skip
    else:
        decoder = GPT2Config(vocab_size=size, n_embd=width, n_head=heads, n_inner=inner, n_layer=layers, n_positions=p["positions"], **ids)
        ids |= {"pad_token_id": tokenizer.eos_token_id, "decoder_start_token_id": tokenizer.bos_token_id}
    whole = VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder, **ids)
    return whole, GenerationConfig(**ids, **({} if "trocr" in p else {"max_length": 64}))


def modules(model):
    encoder, decoder = model.encoder, model.decoder
    vision = [("embeddings", encoder.embeddings), *((f"layers.{i}", layer) for i, layer in enumerate(encoder.layers)), ("post_norm", encoder.layernorm)]
    if hasattr(model, "enc_to_dec_proj"):
        vision.append(("projected", model.enc_to_dec_proj))
    if hasattr(decoder, "transformer"):
        text = [("embeddings", decoder.transformer.drop), *((f"layers.{i}", layer) for i, layer in enumerate(decoder.transformer.h))]
        last = decoder.transformer.ln_f
    else:
        body = decoder.model.decoder
        text = [(f"layers.{i}", layer) for i, layer in enumerate(body.layers)]
        text += [("embeddings", body.layernorm_embedding)] if body.layernorm_embedding is not None else []
        last = body.layers[-1]
    return stages("vision.", vision), stages("decoder.", text), last


@torch.no_grad()
def values(model, tokenizer, processor, files, strict):
    """Tensors and cases; `Unclear` where rounding would decide."""
    tensors, cases = {}, []
    start, end = model.generation_config.decoder_start_token_id, model.generation_config.eos_token_id
    vision, text, last = modules(model)
    decode = plain_text(tokenizer)
    for n, (name, file) in enumerate(files.items()):
        pixels = processor(images=open_picture(file), do_convert_rgb=True, return_tensors="pt")["pixel_values"]
        tensors[f"pixel_values.{name}"] = pixels
        encoded = model.encoder(pixels)

        def forced(ids):
            return model(encoder_outputs=(encoded[0],), decoder_input_ids=torch.tensor([[start, *ids]])).logits[0]

        gen = Generator(model, {"pixel_values": pixels}, 1, {end}, decode, forced, strict)
        greedy = gen.greedy(max_new_tokens=64)
        if n == 0:
            gen.require(not greedy["ended"], "the first picture's text ends")
            gen.varied(greedy)
        generations = [greedy]
        if n == 0:
            generations += [gen.greedy(max_new_tokens=32, **options) for options in PENALTIES]
            generations += [gen.beams(max_new_tokens=20, **options) for options in BEAMS]
            with Taps(**vision, **text, last=last) as taps:
                logits = forced(greedy["tokens"])
                model.encoder(pixels)
            kept = tapped(taps)
            tensors |= {key.replace("vision.", f"vision.{name}."): t for key, t in kept.items() if key.startswith("vision.")}
            tensors |= {key.replace("decoder.", f"decoder.{name}."): t[:, :8] for key, t in kept.items() if key.startswith("decoder.")}
            tensors |= {f"decoder.{name}.hidden": kept["last"], f"decoder.{name}.logits": logits[None]}
        else:
            generations.append(gen.beams(max_new_tokens=20, **BEAMS[0]))
        cases.append({"name": name, "pictures": [name], "decoder_input_ids": [start], "generations": generations})
    gen.worth_it(cases)
    return tensors, cases


def write(preset, folder, expected, seed):
    p = PRESETS[preset]
    tokenizer = roberta_tokenizer(p["merges"]) if "trocr" in p else gpt2_tokenizer(p["merges"])
    size = {"height": p["image"], "width": p["image"]}
    # DeiTImageProcessor, which trocr-small names, crops after it has resized to more.
    processor = DeiTImageProcessor(size=size, do_center_crop=False) if p.get("deit") else ViTImageProcessor(size=size)
    if "trocr" in p:
        TrOCRProcessor(processor, tokenizer).save_pretrained(folder)
    else:
        processor.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    if not p.get("golden"):
        write_vocabulary(tokenizer, folder)
    compact(folder)
    files = pictures(expected, seed + 1, 1 if p.get("golden") else 11)

    whole, generation = config(p, tokenizer)

    def fresh(number):
        model = randomize(VisionEncoderDecoderModel(whole), number, SCALES)
        liven(model, tokenizer.eos_token_id, p.get("end", 3.0))
        model.generation_config = generation
        return model

    def save(model):
        save_model(model, folder, p.get("stored", torch.float32))
        model = reload(VisionEncoderDecoderModel, folder)
        positions = getattr(getattr(model.decoder, "model", None), "decoder", None)
        if positions is not None and hasattr(positions.embed_positions, "weights"):
            # from_pretrained leaves TrOCR's sines without values.
            sines = positions.embed_positions
            sines.weights = sines.get_embedding(p["positions"] + sines.padding_idx + 1, sines.embedding_dim, sines.padding_idx)
        return model

    def of(model, strict):
        return values(model, tokenizer, processor, files, strict)

    tensors, cases = settled(strictness(p), fresh, of, save, seed, p.get("stored", torch.float32), p.get("first", 0))
    facts = {"reference": "transformers VisionEncoderDecoderModel", "pictures": {name: f"pictures/{file.name}" for name, file in files.items()}, "cases": cases}
    write_expected(expected, tensors, facts, "encoder_decoder", preset, seed)


@torch.no_grad()
def liven(model, end, by):
    """Makes texts that vary, and that end now and then."""
    decoder, image = model.decoder, model.config.encoder.image_size
    last = modules(model)[2]
    g = torch.Generator().manual_seed(1)
    ids = torch.randint(0, decoder.config.vocab_size, (4, 40), generator=g)
    with Taps(last=last) as taps:
        model.eval()(pixel_values=torch.randn((4, 3, image, image), generator=g), decoder_input_ids=ids)
    norm = last if isinstance(last, torch.nn.LayerNorm) else last.final_layer_norm
    level(norm.bias, taps["last"], decoder.get_output_embeddings().weight[end], by)


if __name__ == "__main__":
    arguments(__doc__, PRESETS, write)
