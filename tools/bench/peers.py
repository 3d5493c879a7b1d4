#!/usr/bin/env python3
"""Measures ocelli beside its peers: same shapes, same machine, same minutes, by turns.

    python3 tools/bench/peers.py                                  # everything; makes its environment the first time
    python3 tools/bench/peers.py --arch clip-vit-b32 --peer onnxruntime --rounds 3 --no-record

| file | what |
|---|---|
| environment.py | the pinned virtual environment |
| models.py | architectures with random weights |
| export.py | their files: ONNX, quantized ONNX, GGUF |
| worker.py | one peer with one model, in its own process |
| contenders.py | whose turn it is: a worker, or `ocelli bench` |
| report.py | tables, the project's bars, the recorded CSV |
"""

import argparse
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import environment
import report
from contenders import Contender, Failed, Ocelli, Worker, last_line
from models import ARCHITECTURES, GGUF_TYPES

ROOT = Path(__file__).resolve().parents[2]
MODELS = Path("~/.cache/ocelli/peers-models").expanduser()
# Peer, the package it comes in, and its dtypes for image towers and for the decoder.
PEERS = {
    "onnxruntime": ("onnxruntime", ("f32", "int8"), ("f32", "int8")),
    "openvino": ("openvino", ("f32", "bf16"), ("f32", "bf16")),
    "torch": ("torch", ("f32", "bf16"), ("f32", "bf16")),
    "llama.cpp": ("llama-cpp-python", (), GGUF_TYPES),
}
OCELLI_NAMES = {"nano-backbone": "nano"}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--arch", nargs="+", choices=ARCHITECTURES, default=list(ARCHITECTURES), metavar="A", help=", ".join(ARCHITECTURES))
    parser.add_argument("--peer", nargs="+", choices=PEERS, default=list(PEERS), metavar="P", help=", ".join(PEERS))
    parser.add_argument("--ocelli", type=Path, metavar="PATH", help="the program; default: target/release/ocelli, or the one in PATH")
    parser.add_argument("--rounds", type=positive, default=10, metavar="N", help="turns of each; default 10")
    parser.add_argument("--runs", type=positive, default=3, metavar="N", help="counted runs a turn; default 3")
    parser.add_argument("--threads", type=positive, default=1, metavar="N", help="for image towers; default 1")
    parser.add_argument("--decoder-threads", type=positive, default=2, metavar="N", help="for the decoder; default 2")
    parser.add_argument("--venv", type=Path, default=environment.DEFAULT, metavar="DIR", help=f"default {environment.DEFAULT}")
    parser.add_argument("--models", type=Path, default=MODELS, metavar="DIR", help=f"where made models are kept; default {MODELS}")
    parser.add_argument("--reinstall", action="store_true", help="install again, peers that failed included")
    parser.add_argument("--no-record", action="store_true", help="write no CSV under tools/bench/record")
    return parser.parse_args()


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


def ocelli_program(given: Path | None) -> Path:
    if given:
        return given.resolve()
    built = ROOT / "target" / "release" / "ocelli"
    found = shutil.which("ocelli")
    return built if built.exists() or not found else Path(found)


def make_models(arch: str, folder: Path) -> None:
    """In another process: what exporting leaves behind is gone before anything is measured."""
    print(f"\n{arch}: making models, unless they are there", file=sys.stderr)
    command = [sys.executable, str(Path(__file__).with_name("export.py")), arch, str(folder)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        print(f"  not all could be made: {last_line(done.stderr)}", file=sys.stderr)


def enlist_peers(arch: str, args: argparse.Namespace, missing: dict[str, str], out: list[str]) -> list[Worker]:
    """Starts a worker for each peer and dtype. Who cannot take part is put on `out`, with why."""
    is_decoder = ARCHITECTURES[arch].is_decoder
    workers = []
    for peer in args.peer:
        package, *dtypes = PEERS[peer]
        for dtype in dtypes[is_decoder]:
            worker = Worker(peer, dtype, arch, args.decoder_threads if is_decoder else args.threads)
            if package in missing:
                out.append(f"{worker}: not installed: {missing[package]}")
            elif attempt(worker, lambda w=worker: w.start(args.models), out):
                workers.append(worker)
    return workers


def enlist_ocelli(arch: str, args: argparse.Namespace) -> list[Ocelli]:
    """int8 for image towers, with two threads as well; int8 and int4 for the decoder."""
    program = ocelli_program(args.ocelli)
    base = Ocelli(report.OCELLI, "int8", arch, args.threads, program=program, name=OCELLI_NAMES.get(arch, arch), stages=("image_encode",))
    if ARCHITECTURES[arch].is_decoder:
        base = replace(base, threads=args.decoder_threads, stages=("prefill", "decode"))
        return [replace(base, dtype=dtype, turns={}) for dtype in ("int8", "int4")]
    return [replace(base, threads=threads, turns={}) for threads in sorted({1, 2, args.threads})]


def attempt(contender: Contender, action, out: list[str]) -> bool:
    """Whether it worked; a contender that failed is ended and put on `out`."""
    try:
        action()
    except Failed as why:
        contender.close()
        out.append(f"{contender}: {why}")
        print(f"  {contender}: {why}", file=sys.stderr)
        return False
    return True


def take_turns(contenders: list[Contender], args: argparse.Namespace, out: list[str]) -> list[Contender]:
    """Everyone once a round; each round begins with another one. Returns who stayed to the end."""
    for number in range(args.rounds):
        print(f"  round {number + 1} of {args.rounds}", file=sys.stderr)
        first = number % max(len(contenders), 1)
        order = contenders[first:] + contenders[:first]
        failed = [one for one in order if not attempt(one, lambda c=one: c.turn(args.runs), out)]
        contenders = [one for one in contenders if one not in failed]
    return contenders


def measure(arch: str, args: argparse.Namespace, missing: dict[str, str]) -> list[report.Row]:
    """One architecture: its contenders, their turns, its table."""
    out: list[str] = []
    make_models(arch, args.models)
    workers: list[Worker] = enlist_peers(arch, args, missing, out)
    try:
        stayed = take_turns([*enlist_ocelli(arch, args), *workers], args, out)
    finally:
        for worker in workers:
            worker.close()
    rows = [row for contender in stayed for row in report.rows_of(contender)]
    report.show_table(arch, rows)
    for contender in stayed:
        if contender.note:
            print(f"  {contender}: {contender.note}")
    for who_and_why in out:
        print(f"  not measured: {who_and_why}")
    return rows


def main() -> None:
    args = parse()
    missing = environment.enter(args.venv, args.reinstall)
    rows = [row for arch in args.arch for row in measure(arch, args, missing)]
    report.show_bars(rows, args.threads, args.decoder_threads)
    if rows and not args.no_record:
        print(f"\nrecorded in {report.record(rows)}")


if __name__ == "__main__":
    main()
