"""GGUF files, and what the gguf package, transformers and llama.cpp make of them.

    pip install gguf==0.19.0 llama-cpp-python==0.3.36 numpy safetensors sentencepiece protobuf tokenizers torch==2.15.0 transformers==5.23.0
    python tools/reference/gguf_files.py                                # tests/goldens/gguf/*
    python tools/reference/gguf_files.py --out DIR --type Q8_0          # a model of SmolLM2-135M's shape, 145 MB

    types.gguf, types.safetensors       a tensor of every type that is read, and its floats
    llama.gguf, llama.json              a language model: its config.json, shapes and digests of its tensors as transformers has them
    projector.gguf, projector.json      an mmproj file of Idefics 3's kind: likewise
    words-*.gguf, pieces.gguf           vocabularies alone: byte-level BPE of several kinds, and sentencepiece
    ids.jsonl                           {"file", "text", "ids"}: what llama.cpp makes of texts, special tokens included

With --out, DIR/model.gguf has random weights and a made-up vocabulary of byte pairs, DIR/expected.json the ids of a text of 200 tokens and, for
every place, llama.cpp's five likeliest tokens with their logits; DIR/logits.safetensors has all logits. llama.cpp rounds activations to 8 bits
before it multiplies them with quantized weights, and so do ocelli's kernels, each in its own way. How far that alone carries is seen from
llama.cpp beside itself ("itself" in expected.json): with Q8_0 the first token is the same at 193 of 200 places token by token, at 192 with a
cache in single precision and at 189 with flash attention; with F16 at all 200. ocelli: 191 with Q8_0, 193 with Q4_0, 200 with F16.
"""

import argparse
import hashlib
import json
import random
import tempfile
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import save_file

FOLDER = Path(__file__).resolve().parents[2] / "tests" / "goldens" / "gguf"
PIECES = FOLDER.parent / "prompts" / "gemma.model"
Type = gguf.GGMLQuantizationType

# Blocks of 32 can be made of floats; those of 256 are made of random bytes with scales that are numbers.
SMALL = [Type.F32, Type.F16, Type.BF16, Type.Q8_0, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1]
LARGE = {Type.Q2_K: [80, 82], Type.Q3_K: [108], Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208]}

# Their words are parted differently.
WORDS = ["smollm", "gpt-2", "llama-bpe", "qwen2", "default", "falcon"]
CHAT = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
CORPUS = """
a photo of a cat . a photo of a dog . a photo of two cats on a red couch . a photo of a red bus near the river .
a man in a red shirt is riding a bicycle down a dirt path . it's a sunny day , isn't it ? we'll see what they've done .
the numbers 2024 , 1000 , 1234567 and 3.14 . ein kleiner Hund läuft über die Straße . le café est naïf . 赤い バス . 犬 と 猫 .
def main():\n    print("hello")\n\n\n    return 0\n
""".strip()
PARTS = (
    "a photo of two cats über Straße CAFÉ naïve 赤い привет don't WE'LL we'Ve i'm ... !!! 🙂 👩‍👩‍👧 ❤️ ½ ① e\u0301 \u200b \u00a0 \u3000 ▁ 10% $5 C++ @user #tag 3.14 1234567 "
    "٣٤٥ Ⅷ \t \n \n\n \r\n — “quoted” ’s (x) [y] {z} a_b x==y <= `code` हिन्दी ไทย 한국어 <|im_start|> <|im_end|> <image> <unk> <bos> <mask>"
).split(" ")


def texts(seed=3, count=40):
    chance = random.Random(seed)
    plain = ["a photo of a cat", "  two  spaces   and three", "it's 2024, isn't it? WE'LL see 1234567 things", "tabs\tand\nnew\n\n\nlines   \n x"]
    chat = ["<|im_start|>user\nwhat is this?<image><|im_end|>\n<|im_start|>assistant\n", "<bos>a cat<eos> \n"]
    mixed = [chance.choice([" ", "", "  "]).join(chance.choices(PARTS, k=chance.randint(1, 9))) for _ in range(count)]
    return [text for text in plain + chat + mixed if text.strip()]


def writer(path, architecture, name):
    file = gguf.GGUFWriter(path, architecture)
    file.add_name(name)
    file.add_license("apache-2.0")
    return file


def close(file):
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()


def put(file, name, values, kind):
    """Writes a tensor; the floats that come back of it."""
    data = gguf.quants.quantize(values.astype(np.float32), kind)
    file.add_tensor(name, data, raw_shape=data.shape if data.dtype == np.uint8 else None, raw_dtype=kind)
    return gguf.quants.dequantize(data, kind).reshape(values.shape)


def types():
    rng = np.random.default_rng(1)
    file = writer(FOLDER / "types.gguf", "types", "Every type")
    expected = {}
    for kind in SMALL:
        values = rng.standard_normal((3, 64)).astype(np.float32)
        # All zeros, one extreme, and both ends.
        values[1, :32], values[2, 5], values[2, 40] = 0, 30, -30
        expected[kind.name] = put(file, kind.name, values, kind)
    for kind, scales in LARGE.items():
        size = gguf.GGML_QUANT_SIZES[kind][1]
        blocks = rng.integers(0, 256, (2, size), dtype=np.uint8)
        for at in scales:
            blocks[:, at : at + 2] = rng.uniform(-0.1, 0.1, (2, 1)).astype(np.float16).view(np.uint8)
        file.add_tensor(kind.name, blocks, raw_dtype=kind)
        expected[kind.name] = gguf.quants.dequantize(blocks, kind)
    close(file)
    save_file({name: np.ascontiguousarray(values, np.float32) for name, values in expected.items()}, FOLDER / "types.safetensors")


def interleaved(weight, heads):
    """Rows of queries and keys as llama.cpp has them: channel i of a head beside channel i + head / 2."""
    head = weight.shape[0] // heads
    return weight.reshape(heads, 2, head // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def restored(weight, heads):
    head = weight.shape[0] // heads
    return weight.reshape(heads, head // 2, 2, -1).swapaxes(1, 2).reshape(weight.shape)


def digests(tensors):
    def one(values):
        values = np.ascontiguousarray(values, "<f4")
        return {"shape": list(values.shape), "sha256": hashlib.sha256(values.tobytes()).hexdigest(), "first": [float(v) for v in values.ravel()[:3]]}

    return {name: one(values) for name, values in sorted(tensors.items())}


def language(path, config, kinds, rng, vocabulary):
    """Writes a language model with random weights; its tensors as transformers has them."""
    file = writer(path, "llama", "Random Llama")
    file.add_block_count(config.num_hidden_layers)
    file.add_context_length(config.max_position_embeddings)
    file.add_embedding_length(config.hidden_size)
    file.add_feed_forward_length(config.intermediate_size)
    file.add_head_count(config.num_attention_heads)
    file.add_head_count_kv(config.num_key_value_heads)
    file.add_layer_norm_rms_eps(config.rms_norm_eps)
    file.add_rope_freq_base(config.rope_parameters["rope_theta"])
    file.add_rope_dimension_count(config.head_dim)
    file.add_vocab_size(config.vocab_size)
    vocabulary(file)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    tensors = {}
    for name, shape in shapes(config).items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        if len(shape) == 1:
            values = 1 + 0.1 * rng.standard_normal(shape, dtype=np.float32)
        else:
            values = rng.standard_normal(shape, dtype=np.float32) * (0.1 if "embed" in name else shape[1] ** -0.5)
        part = name.split(".")[-2]
        kind = Type.F32 if len(shape) == 1 else kinds.get(part, kinds["other"])
        if part in heads:
            values = interleaved(values, heads[part])
        values = put(file, names.get_name(name, try_suffixes=(".weight", ".bias")), values, kind)
        tensors[name] = restored(values, heads[part]) if part in heads else values
    close(file)
    return tensors


def shapes(config):
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in AutoModelForCausalLM.from_config(config).state_dict().items()}


def llama_config(**changes):
    from transformers import LlamaConfig

    config = LlamaConfig(**changes)
    config.architectures = ["LlamaForCausalLM"]
    return config


def logits_of(path, ids, together=None, **options):
    """llama.cpp's logits at every place of a text that it reads so many tokens at a time."""
    from llama_cpp import Llama

    model = Llama(str(path), n_ctx=len(ids) + 8, n_batch=len(ids), logits_all=True, verbose=False, n_threads=2, **options)
    together = together or len(ids)
    for at in range(0, len(ids), together):
        model.eval(ids[at : at + together])
    return np.array(model.scores[: len(ids)], np.float32)


def llama(vocabulary, size):
    import torch
    from transformers import LlamaForCausalLM

    config = llama_config(
        vocab_size=size, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
        max_position_embeddings=64, rms_norm_eps=1e-5, rope_parameters={"rope_type": "default", "rope_theta": 100000.0}, tie_word_embeddings=True,
        bos_token_id=1, eos_token_id=2, pad_token_id=2,
    )  # fmt: skip
    kinds = {"embed_tokens": Type.Q8_0, "q_proj": Type.Q4_0, "k_proj": Type.Q8_0, "v_proj": Type.Q4_1, "o_proj": Type.Q5_0, "gate_proj": Type.Q5_1, "up_proj": Type.BF16, "other": Type.F16}
    tensors = language(FOLDER / "llama.gguf", config, kinds, np.random.default_rng(2), vocabulary)
    keys = ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", "rms_norm_eps", "vocab_size",
            "max_position_embeddings", "tie_word_embeddings", "hidden_act", "attention_bias", "mlp_bias", "bos_token_id", "eos_token_id", "pad_token_id"]  # fmt: skip
    said = config.to_dict()
    expected = {"config": {key: said[key] for key in keys}, "rope_theta": config.rope_parameters["rope_theta"], "chat_template": CHAT, "tensors": digests(tensors)}
    (FOLDER / "llama.json").write_text(json.dumps(expected, indent=1) + "\n")

    # That llama.cpp reads the rows of queries and keys as this script writes them: the same function, in single precision.
    ids = [int(i) for i in np.random.default_rng(4).integers(0, size, 24)]
    with tempfile.TemporaryDirectory() as folder:
        tensors = language(Path(folder) / "f32.gguf", config, {"other": Type.F32}, np.random.default_rng(2), vocabulary)
        model = LlamaForCausalLM(config).eval()
        model.load_state_dict({name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in tensors.items()}, strict=False)
        with torch.no_grad():
            wanted = model(torch.tensor([ids])).logits[0].numpy()
        found = logits_of(Path(folder) / "f32.gguf", ids)
    error = np.abs(found - wanted).max() / np.abs(wanted).max()
    print(f"llama.cpp and transformers differ by {error:.1e} of the greatest logit")
    assert error < 1e-3, error


def projector():
    import torch
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration

    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 16, "patch_size": 4, "layer_norm_eps": 1e-6, "hidden_act": "gelu_pytorch_tanh"}
    text = {"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 64}
    config = Idefics3Config(vision_config=vision, text_config=text, scale_factor=2)
    with torch.device("meta"):
        model = Idefics3ForConditionalGeneration(config)
    file = writer(FOLDER / "projector.gguf", "clip", "Random projector")
    file.add_type(gguf.GGUFType.MMPROJ)
    file.add_clip_has_vision_encoder(True)
    file.add_clip_projector_type(gguf.VisionProjectorType.IDEFICS3)
    file.add_vision_projection_dim(text["hidden_size"])
    file.add_vision_image_size(vision["image_size"])
    file.add_vision_patch_size(vision["patch_size"])
    file.add_vision_embedding_length(vision["hidden_size"])
    file.add_vision_feed_forward_length(vision["intermediate_size"])
    file.add_vision_block_count(vision["num_hidden_layers"])
    file.add_vision_head_count(vision["num_attention_heads"])
    file.add_vision_image_mean([0.5, 0.5, 0.5])
    file.add_vision_image_std([0.5, 0.5, 0.5])
    file.add_vision_attention_layernorm_eps(vision["layer_norm_eps"])
    file.add_vision_projector_scale_factor(config.scale_factor)
    file.add_vision_use_gelu(True)
    file.add_vision_preproc_image_size(32)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.MMPROJ, vision["num_hidden_layers"])
    rng = np.random.default_rng(5)
    tensors = {}
    for name, shape in ((name, tuple(tensor.shape)) for name, tensor in model.state_dict().items()):
        if "text_model" in name or name == "lm_head.weight":
            continue
        values = rng.standard_normal(shape, dtype=np.float32) * 0.1
        kind = Type.F32 if len(shape) == 1 or "embeddings" in name else Type.Q8_0 if "proj" in name else Type.F16
        tensors[name] = put(file, names.get_name(name, try_suffixes=(".weight", ".bias")), values, kind)
    close(file)
    expected = {"vision_config": vision, "scale_factor": config.scale_factor, "text_width": text["hidden_size"], "tensors": digests(tensors)}
    (FOLDER / "projector.json").write_text(json.dumps(expected, indent=1) + "\n")


def pairs():
    """A small vocabulary of byte pairs: tokens, merges, types."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    trainer = trainers.BpeTrainer(vocab_size=256 + 110, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    learner.train_from_iterator(CORPUS.splitlines(), trainer)
    model = json.loads(learner.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    merges = [" ".join(pair) for pair in model["merges"]]
    # What the expressions must not, or must, let be joined.
    for left, right in [("1", "0"), ("10", "0"), ("2", "0"), ("Ċ", "Ċ"), ("Ġ", "Ġ"), ("ĠĠ", "Ġ"), (".", "."), ("..", "."), ("!", "!"), ("'", "s"), ("a", "_")]:
        if left + right not in tokens:
            tokens.append(left + right)
            merges.append(f"{left} {right}")
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>"]
    own = ["<mask>", "\t\t"]
    kinds = [3] * len(special) + [1] * len(tokens) + [4] * len(own)
    return special + tokens + own, merges, kinds


def byte_level(pre, tokens, merges, kinds):
    def write(file):
        file.add_tokenizer_model("gpt2")
        file.add_tokenizer_pre(pre)
        file.add_token_list(tokens)
        file.add_token_types(kinds)
        file.add_token_merges(merges)
        file.add_bos_token_id(1)
        file.add_eos_token_id(2)
        file.add_pad_token_id(2)
        if pre == "smollm":
            file.add_add_bos_token(False)
        file.add_chat_template(CHAT)

    return write


def sentencepiece(file):
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(PIECES.read_bytes())
    file.add_tokenizer_model("llama")
    file.add_tokenizer_pre("default")
    file.add_token_list([piece.piece for piece in model.pieces])
    file.add_token_scores([piece.score for piece in model.pieces])
    # The numbers of the two formats' types are the same.
    file.add_token_types([piece.type for piece in model.pieces])
    ids = {piece.piece: i for i, piece in enumerate(model.pieces)}
    file.add_bos_token_id(ids["<bos>"])
    file.add_eos_token_id(ids["<eos>"])
    file.add_unk_token_id(ids["<unk>"])
    file.add_pad_token_id(ids["<pad>"])


def vocabularies(tokens, merges, kinds):
    from llama_cpp import Llama

    files = {f"words-{pre}.gguf": byte_level(pre, tokens, merges, kinds) for pre in WORDS} | {"pieces.gguf": sentencepiece}
    with open(FOLDER / "ids.jsonl", "w", encoding="utf-8") as cases:
        for name, vocabulary in files.items():
            file = writer(FOLDER / name, "llama", "A vocabulary")
            file.add_embedding_length(32)
            file.add_head_count(4)
            vocabulary(file)
            close(file)
            model = Llama(str(FOLDER / name), vocab_only=True, verbose=False)
            for text in texts():
                ids = model.tokenize(text.encode(), add_bos=True, special=True)
                cases.write(json.dumps({"file": name, "text": text, "ids": ids}, separators=(",", ":")) + "\n")


def made_up(size):
    """As many tokens as SmolLM2 has, of pairs of earlier ones."""
    from tokenizers import pre_tokenizers

    chance = random.Random(9)
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>"] + [f"<special_{i}>" for i in range(13)]
    tokens = sorted(pre_tokenizers.ByteLevel.alphabet())
    known, merges = set(tokens), []
    while len(tokens) + len(special) < size:
        left, right = chance.choice(tokens), chance.choice(tokens)
        if len(left + right) <= 8 and left + right not in known:
            known.add(left + right)
            tokens.append(left + right)
            merges.append(f"{left} {right}")
    return special + tokens, merges, [3] * len(special) + [1] * len(tokens)


def whole(folder, kind, seed):
    folder.mkdir(parents=True, exist_ok=True)
    config = llama_config(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3, head_dim=64,
        max_position_embeddings=8192, rms_norm_eps=1e-5, rope_parameters={"rope_type": "default", "rope_theta": 100000.0}, tie_word_embeddings=True,
    )  # fmt: skip
    kind = Type[kind]
    # llama.cpp keeps the table of tokens, which is the output layer too, in more bits than four.
    kinds = {"other": kind, "embed_tokens": Type.Q8_0 if kind == Type.Q4_0 else kind}
    vocabulary = byte_level("smollm", *made_up(config.vocab_size))
    language(folder / "model.gguf", config, kinds, np.random.default_rng(seed), vocabulary)
    ids = [int(i) for i in np.random.default_rng(seed + 1).integers(17, config.vocab_size, 200)]
    logits = logits_of(folder / "model.gguf", ids)
    best = np.argsort(-logits, axis=1)[:, :5]
    places = [{"tokens": [int(i) for i in row], "logits": [float(logits[at, i]) for i in row]} for at, row in enumerate(best)]
    # Random weights leave many places where two tokens are almost as likely: llama.cpp itself does not agree with itself there.
    single = int(gguf.GGMLQuantizationType.F32)
    ways = {"token by token": {"together": 1}, "f32 cache": {"type_k": single, "type_v": single}, "flash attention": {"flash_attn": True}}
    same = {name: int((logits_of(folder / "model.gguf", ids, **way).argmax(1) == best[:, 0]).sum()) for name, way in ways.items()}
    print(f"{kind.name}: of {len(ids)} places llama.cpp has the same first token", same)
    (folder / "expected.json").write_text(json.dumps({"type": kind.name, "ids": ids, "places": places, "itself": same}) + "\n")
    save_file({"logits": logits}, folder / "logits.safetensors")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write a model of SmolLM2-135M's shape into this folder (default: the goldens of the repository)")
    parser.add_argument("--type", choices=["Q8_0", "Q4_0", "F16"], default="Q8_0")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.out:
        return whole(given.out, given.type, given.seed)
    FOLDER.mkdir(parents=True, exist_ok=True)
    tokens, merges, kinds = pairs()
    types()
    llama(byte_level("smollm", tokens, merges, kinds), len(tokens))
    projector()
    vocabularies(tokens, merges, kinds)


if __name__ == "__main__":
    main()
