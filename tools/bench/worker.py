"""One peer with one model, in a process of its own: loads, warms up, then runs once for every line on standard input.

    python worker.py PEER DTYPE ARCH THREADS MODELS

It answers with JSON lines. First what it is: {"version", "note", "isa", "stages": {stage: tokens or null}}; then, for each line with
the name of a stage: {"wall_ms", "cpu_ms"}. CPU time is the whole process's, of all its threads. A peer is imported only in its worker.
"""

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import models

WARM_UP_RUNS = 2
# Runs of each variant of an int8 model before the quickest is chosen.
CHOICE_RUNS = 3
# A prompt to be read, and tokens to be made after a short one.
PREFILL_TOKENS = 512
PROMPT_TOKENS = 32
DECODE_TOKENS = 64
# <sys/prctl.h>
PR_SET_PDEATHSIG = 1


@dataclass
class Stage:
    """`run` is timed, `prepare` before it is not."""

    run: Callable[[], object]
    prepare: Callable[[], object] = lambda: None
    tokens: int | None = None


@dataclass
class Peer:
    """What a loaded peer is, and what it can run."""

    version: str
    stages: dict[str, Stage]
    note: str = ""
    isa: str = ""


@dataclass
class Job:
    """What to load, as the command line says."""

    dtype: str
    arch: str
    threads: int
    folder: Path

    @cached_property
    def pixels(self):
        return models.pixels(self.arch)


def load_onnxruntime(job: Job) -> Peer:
    if job.dtype == "int8":
        candidates = {name: models.int8_file(job.folder, job.arch, name) for name in models.int8_variants(job.arch)}
    else:
        candidates = {"": models.onnx_file(job.folder, job.arch)}
    loaded = {name: graph_stages(job, onnxruntime_run(path, job)) for name, path in candidates.items()}
    took_ms = {name: quickest_ms(stages, job.threads) for name, stages in loaded.items()} if len(loaded) > 1 else {"": 0}
    quickest = min(took_ms, key=took_ms.get)
    others = ", ".join(f"{name} {ms:.1f}" for name, ms in took_ms.items() if name != quickest)
    note = f"{quickest}, the quickest; ms when chosen: {took_ms[quickest]:.1f}, others: {others}" if others else ""
    return Peer(version("onnxruntime"), loaded[quickest], note)


def onnxruntime_run(path: Path, job: Job) -> Callable[[dict], list]:
    """Default graph optimisations, which is all of them."""
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = job.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(None, inputs)


def load_openvino(job: Job) -> Peer:
    import openvino as ov

    settings = {
        "INFERENCE_PRECISION_HINT": job.dtype,
        "INFERENCE_NUM_THREADS": job.threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    model = ov.Core().compile_model(models.onnx_file(job.folder, job.arch), "CPU", settings)
    computes_in = model.get_property("INFERENCE_PRECISION_HINT").to_string()
    if computes_in != job.dtype:
        raise RuntimeError(f"OpenVINO computes in {computes_in} on this processor, not in {job.dtype}")
    request = model.create_infer_request()
    return Peer(version("openvino"), graph_stages(job, lambda inputs: list(request.infer(inputs).values())))


def graph_stages(job: Job, run: Callable[[dict], list]) -> dict[str, Stage]:
    """Of an exported graph. A decoder's cache goes in and comes out of it (`with_cache` of export.py)."""
    if not models.ARCHITECTURES[job.arch].is_decoder:
        return {"image_encode": Stage(lambda: run({"pixels": job.pixels}))}
    import numpy as np

    config = models.smollm2_config()
    names, _ = models.cache_names(config)
    empty = [np.zeros(models.cache_shape(config, 0), np.float32)] * len(names)
    tokens = np.array([some_tokens(PREFILL_TOKENS, config.vocab_size)])
    cache = empty

    def forget():
        nonlocal cache
        cache = empty

    def read(start: int, end: int):
        nonlocal cache
        _, *cache = run({"tokens": tokens[:, start:end], **dict(zip(names, cache, strict=True))})

    return decoder_stages(forget, read)


def load_torch(job: Job) -> Peer:
    import torch

    torch.set_num_threads(job.threads)
    torch.set_grad_enabled(False)
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[job.dtype]
    model = models.ARCHITECTURES[job.arch].build().to(dtype)
    if models.ARCHITECTURES[job.arch].is_decoder:
        stages = torch_decoder(model)
    else:
        pixels = torch.from_numpy(job.pixels).to(dtype)
        stages = {"image_encode": Stage(lambda: model(pixels))}
    return Peer(version("torch"), stages, isa=torch.backends.cpu.get_cpu_capability())


def torch_decoder(model) -> dict[str, Stage]:
    import torch
    from transformers import DynamicCache

    cache = DynamicCache(config=model.config)
    tokens = torch.tensor([some_tokens(PREFILL_TOKENS, model.config.vocab_size)])

    def forget():
        nonlocal cache
        cache = DynamicCache(config=model.config)

    def read(start: int, end: int):
        return model(tokens[:, start:end], past_key_values=cache, use_cache=True, logits_to_keep=1).logits

    return decoder_stages(forget, read)


def load_llama_cpp(job: Job) -> Peer:
    """Through its C API: tokens in, logits of the last one out."""
    import llama_cpp as llama

    quiet = llama.llama_log_callback(lambda level, text, data: None)
    llama.llama_log_set(quiet, None)
    llama.llama_backend_init()
    path = models.gguf_file(job.folder, job.arch, job.dtype)
    model = llama.llama_model_load_from_file(str(path).encode(), llama.llama_model_default_params())
    if not model:
        raise RuntimeError(f"llama.cpp cannot load {path}")
    parameters = llama.llama_context_default_params()
    parameters.n_ctx = 2 * PREFILL_TOKENS
    parameters.n_batch = parameters.n_ubatch = PREFILL_TOKENS
    parameters.n_threads = parameters.n_threads_batch = job.threads
    context = llama.llama_init_from_model(model, parameters)
    vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
    tokens = some_tokens(PREFILL_TOKENS, vocabulary)

    def forget():
        llama.llama_memory_clear(llama.llama_get_memory(context), True)

    def read(start: int, end: int):
        chosen = (llama.llama_token * (end - start))(*tokens[start:end])  # The batch only points to it.
        if code := llama.llama_decode(context, llama.llama_batch_get_one(chosen, end - start)):
            raise RuntimeError(f"llama_decode failed with code {code}")
        return llama.llama_get_logits(context)[0]

    features = llama.llama_print_system_info().decode()
    peer = Peer(version("llama-cpp-python"), decoder_stages(forget, read), isa=vector_extensions(features))
    peer.keep = quiet  # llama.cpp calls it until the process ends.
    return peer


def vector_extensions(features: str) -> str:
    """`CPU : SSE3 = 1 | AVX2 = 1 | ...` shortened to what there is beyond AVX2, or AVX2."""
    found = [item.split("=")[0].split(":")[-1].strip() for item in features.split("|") if item.strip().endswith("= 1")]
    wide = [name for name in found if name.startswith(("AVX512", "AVX_VNNI", "AMX", "DOTPROD", "MATMUL_INT8", "SVE"))]
    return "+".join(wide) or ("AVX2" if "AVX2" in found else "+".join(found))


def decoder_stages(forget: Callable, read: Callable) -> dict[str, Stage]:
    """`read(start, end)` runs these of the given tokens and appends them to the cache. The next token is given, not chosen."""

    def prompt():
        forget()
        read(0, PROMPT_TOKENS)

    def decode():
        for position in range(PROMPT_TOKENS, PROMPT_TOKENS + DECODE_TOKENS):
            read(position, position + 1)

    return {
        "prefill": Stage(lambda: read(0, PREFILL_TOKENS), forget, PREFILL_TOKENS),
        "decode": Stage(decode, prompt, DECODE_TOKENS),
    }


def some_tokens(count: int, vocabulary: int) -> list[int]:
    return [position * 7919 % vocabulary for position in range(1, count + 1)]


def quickest_ms(stages: dict[str, Stage], threads: int) -> float:
    """The least time of all stages together. Threads that wait for each other take CPU time as well, so of several it is wall time."""
    clock = "cpu_ms" if threads == 1 else "wall_ms"
    return sum(min(took(stage)[clock] for _ in range(CHOICE_RUNS)) for stage in stages.values())


def took(stage: Stage) -> dict[str, float]:
    stage.prepare()
    wall, cpu = time.perf_counter(), time.process_time()
    stage.run()
    return {"wall_ms": (time.perf_counter() - wall) * 1e3, "cpu_ms": (time.process_time() - cpu) * 1e3}


LOADERS = {"onnxruntime": load_onnxruntime, "openvino": load_openvino, "torch": load_torch, "llama.cpp": load_llama_cpp}


@contextlib.contextmanager
def answers() -> Iterator[Callable[[dict], None]]:
    """Says JSON lines on standard output, where nothing else may go: what libraries print goes to standard error."""
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)
        yield lambda answer: print(json.dumps(answer), file=out, flush=True)


def end_with_parent() -> None:
    """A worker is stopped most of the time, and a stopped process would not see that nobody is there any more (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    end_with_parent()
    name, dtype, arch, threads, folder = sys.argv[1:]
    with answers() as say:
        peer = LOADERS[name](Job(dtype, arch, int(threads), Path(folder)))
        for stage in peer.stages.values():
            for _ in range(WARM_UP_RUNS):
                took(stage)
        stages = {name: stage.tokens for name, stage in peer.stages.items()}
        say({"version": peer.version, "note": peer.note, "isa": peer.isa, "stages": stages})
        for line in sys.stdin:
            say(took(peer.stages[line.strip()]))


if __name__ == "__main__":
    main()
