"""Those who are measured, one turn at a time: a peer in its worker process, or ocelli through its own `bench` command.

A turn runs every stage once uncounted and then a few times. Between its turns a worker is stopped (SIGSTOP): whatever its threads would do
while they wait, they take nothing from the one whose turn it is.
"""

import json
import os
import selectors
import signal
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

WORKER = Path(__file__).with_name("worker.py")
# To load a model and warm up, or to run a stage once, on a slow machine that does other things besides.
PATIENCE_S = 900
# Thread counts as each library's thread pool reads them at start.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Failed(Exception):
    """Why a contender is out, in one line."""


@dataclass(frozen=True)
class Turn:
    """What one turn says of one stage."""

    cpu_ms_min: float
    cpu_ms_median: float
    wall_ms_min: float
    wall_ms_median: float
    tokens_per_s: float | None = None


@dataclass
class Contender:
    """Who, with which dtype, model and threads; and the turns of each stage so far."""

    peer: str
    dtype: str
    arch: str
    threads: int
    version: str = ""
    note: str = ""
    isa: str = ""
    turns: dict[str, list[Turn]] = field(default_factory=dict)

    def __str__(self):
        return f"{self.peer} {self.dtype}, {self.threads} thread{'s' * (self.threads > 1)}"

    def turn(self, runs: int) -> None:
        """Runs every stage and adds to `turns`."""
        raise NotImplementedError

    def close(self) -> None:
        """Ends what was started."""

    def add(self, stage: str, turn: Turn) -> None:
        self.turns.setdefault(stage, []).append(turn)


class Worker(Contender):
    """A peer."""

    def start(self, models: Path) -> None:
        """Starts the worker and waits until it is warm."""
        command = [sys.executable, str(WORKER), self.peer, self.dtype, self.arch, str(self.threads), str(models)]
        settings = os.environ | dict.fromkeys(THREAD_VARIABLES, str(self.threads)) | {"HF_HUB_OFFLINE": "1"}
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            command, env=settings, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, bufsize=1
        )
        hello = self.answer()
        self.version, self.note, self.isa, self.stages = (hello[key] for key in ("version", "note", "isa", "stages"))
        self.process.send_signal(signal.SIGSTOP)

    def turn(self, runs: int) -> None:
        self.process.send_signal(signal.SIGCONT)
        for stage, tokens in self.stages.items():
            self.run(stage)
            answers = [self.run(stage) for _ in range(runs)]
            self.add(stage, turn_of([a["cpu_ms"] for a in answers], [a["wall_ms"] for a in answers], tokens))
        self.process.send_signal(signal.SIGSTOP)

    def run(self, stage: str) -> dict:
        try:
            self.process.stdin.write(stage + "\n")
        except OSError as error:
            raise Failed(self.last_words()) from error
        return self.answer()

    def answer(self) -> dict:
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if not selector.select(PATIENCE_S):
                raise Failed(f"no answer within {PATIENCE_S} s")
        line = self.process.stdout.readline()
        if not line:
            raise Failed(self.last_words())
        return json.loads(line)

    def last_words(self) -> str:
        self.process.wait()
        self.errors.seek(0)
        return last_line(self.errors.read()) or f"the worker ended with code {self.process.returncode} and said nothing"

    def close(self) -> None:
        self.process.kill()  # Ends a stopped process, too.
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        self.errors.close()


@dataclass
class Ocelli(Contender):
    """`ocelli bench`, a process a turn; it loads and warms up itself."""

    program: Path = Path("ocelli")
    # What `--arch` is called there, and the stages that are compared.
    name: str = ""
    stages: tuple[str, ...] = ()

    def turn(self, runs: int) -> None:
        command = [str(self.program), "bench", "--arch", self.name, "--dtype", self.dtype, "--threads", str(self.threads)]
        try:
            done = subprocess.run([*command, "--runs", str(runs), "--json"], capture_output=True, text=True, timeout=PATIENCE_S)
        except OSError as error:
            raise Failed(f"{self.program}: {error.strerror}; build it (cargo build --release) or name it (--ocelli PATH)") from error
        except subprocess.TimeoutExpired as error:
            raise Failed(f"`{' '.join(command)}` did not end within {PATIENCE_S} s") from error
        if done.returncode != 0:
            raise Failed(f"`{' '.join(command)}`: {last_line(done.stderr) or f'ended with code {done.returncode}'}")
        lines = [line for line in json_lines(done.stdout) if line.get("type") == "bench" and line.get("stage") in self.stages]
        if missing := set(self.stages) - {line["stage"] for line in lines}:
            raise Failed(f"`{' '.join(command)}` does not report {', '.join(sorted(missing))}")
        self.version = self.version or self.program_version()
        for line in lines:
            self.isa = str(line.get("isa", ""))
            self.add(line["stage"], self.turn_in(line))

    def program_version(self) -> str:
        said = subprocess.run([str(self.program), "--version"], capture_output=True, text=True).stdout.split()
        return said[-1] if said else ""

    @staticmethod
    def turn_in(line: dict) -> Turn:
        try:
            times = [float(line[key]) for key in ("cpu_ms_min", "cpu_ms_median", "ms_min", "ms_median")]
            speed = line.get("tokens_per_s")
            return Turn(*times, None if speed is None else float(speed))
        except (KeyError, TypeError, ValueError) as error:
            raise Failed(f"ocelli bench: not a number, or missing, in stage {line['stage']}: {error}") from error


def turn_of(cpu_ms: list[float], wall_ms: list[float], tokens: int | None) -> Turn:
    """Tokens a second are of the turn's median, as `ocelli bench` gives them."""
    median_ms = statistics.median(wall_ms)
    speed = None if tokens is None else tokens / median_ms * 1e3
    return Turn(min(cpu_ms), statistics.median(cpu_ms), min(wall_ms), median_ms, speed)


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def json_lines(text: str) -> list[dict]:
    """Every line that is a JSON object; others are passed over."""
    objects = []
    for line in text.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            objects.append(value)
    return objects
