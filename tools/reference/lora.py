"""Goldens of LoRA: adapters that peft wrote for the small SmolVLM of smolvlm.py, and what transformers with peft makes of them.

    python tools/reference/lora.py      # tests/goldens/lora/*

A folder is what peft saves (`adapter_config.json`, `adapter_model.safetensors`). Beside it `expected.json` and `expected.safetensors`: for every
scale and case the text that is written, and `SCALE.CASE.hidden` and `.logits` of prompt and text at once. Pixels and prompts are those of
tests/goldens/smolvlm/smolvlm.
"""

import json

import torch
from common import GOLDENS, Taps, flatten, fresh, reload, save_file, short
from generation import Generator, Unclear, plain_text
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from smolvlm import forcing
from transformers import AutoTokenizer, SmolVLMForConditionalGeneration

BASE = GOLDENS / "smolvlm" / "smolvlm"
CASES = ["whole", "none", "two"]
SCALES = [1.0, 0.5]
LONGEST = 20

# q_proj and v_proj are in both towers.
ADAPTERS = {
    "plain": {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "gate_proj", "down_proj", "fc1", "out_proj"]},
    "rslora": {
        "r": 3, "lora_alpha": 5, "use_rslora": True, "rank_pattern": {"k_proj": 2, "fc2": 5}, "alpha_pattern": {"text_model.layers.1.mlp.up_proj": 9},
        "target_modules": ["k_proj", "o_proj", "up_proj", "fc2", "modality_projection.proj", "lm_head", "patch_embedding"],
    },
}  # fmt: skip


@torch.no_grad()
def adapter(options, seed):
    model = get_peft_model(reload(SmolVLMForConditionalGeneration, BASE), LoraConfig(lora_dropout=0.1, **options))
    g = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        if "lora_A" in name:
            p.copy_(torch.randn(p.shape, generator=g) * p[0].numel() ** -0.5)
        elif "lora_B" in name:
            p.copy_(torch.randn(p.shape, generator=g) * 0.3 * p.shape[1] ** -0.5)
    return model


@torch.no_grad()
def expected(folder):
    """As whoever has the folders alone reads them."""
    model = PeftModel.from_pretrained(reload(SmolVLMForConditionalGeneration, BASE), folder).eval()
    facts = {case["name"]: case for case in json.loads((BASE / "expected.json").read_text())["cases"]}
    pixels = load_file(BASE / "expected.safetensors")
    decode = plain_text(AutoTokenizer.from_pretrained(BASE))
    ends = {model.generation_config.eos_token_id}
    inner, tensors, cases = model.base_model.model, {}, []
    for scale in SCALES:
        for module in model.modules():
            if isinstance(module, LoraLayer):
                module.set_scale("default", scale)
        for name in CASES:
            ids = torch.tensor([facts[name]["input_ids"]])
            inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            if facts[name]["pictures"]:
                values = pixels[f"pixel_values.{name}"]
                inputs |= {"pixel_values": values, "pixel_attention_mask": torch.ones_like(values[:, :, 0], dtype=torch.long)}
            gen = Generator(inner, inputs, ids.shape[1], ends, decode, forcing(inner, inputs))
            greedy = gen.greedy(max_new_tokens=LONGEST)
            without = facts[name]["generations"][0]["tokens"][:LONGEST]
            gen.require(greedy["tokens"] != without, f"{name}: the adapter changes nothing")
            with Taps(last=inner.model.text_model.norm) as taps:
                logits = gen.forced(greedy["tokens"])
            tensors |= {f"{scale}.{name}.hidden": taps["last"], f"{scale}.{name}.logits": logits[None, ids.shape[1] - 1 :]}
            cases.append({"name": name, "scale": scale, **{key: greedy[key] for key in ("tokens", "text", "ended", "logprob", "gap")}})
    for case in CASES:
        full, half = (next(c["tokens"] for c in cases if (c["name"], c["scale"]) == (case, scale)) for scale in SCALES)
        if full == half:
            raise Unclear(f"{case}: the scale changes nothing")
    return tensors, cases


def write(name, number):
    folder = fresh(GOLDENS / "lora" / name)
    for seed in range(1000 * number, 1000 * number + 200):
        adapter(ADAPTERS[name], seed).save_pretrained(folder)
        try:
            tensors, cases = expected(folder)
        except Unclear as reason:
            print(f"{name}, seed {seed}: {reason}", flush=True)
            continue
        config = json.loads((folder / "adapter_config.json").read_text())
        config["base_model_name_or_path"] = "ocelli/smolvlm"
        # A set, whose order is another every time.
        config["target_modules"] = sorted(config["target_modules"])
        (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        (folder / "README.md").unlink(missing_ok=True)
        save_file({key: t.contiguous() for key, t in tensors.items()}, folder / "expected.safetensors")
        facts = {"reference": "transformers SmolVLMForConditionalGeneration with peft", "seed": seed, "cases": cases}
        (folder / "expected.json").write_text(flatten(json.dumps(short(facts), indent=1, ensure_ascii=False)) + "\n", encoding="utf-8")
        return
    raise SystemExit(f"{name}: no seed will do")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for number, name in enumerate(ADAPTERS):
        write(name, number)
