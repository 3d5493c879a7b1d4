"""What was measured: a table an architecture, the project's bars, and a CSV that is kept."""

import csv
import datetime
import platform
import re
import statistics
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from contenders import Contender

ROOT = Path(__file__).resolve().parents[2]
RECORD = Path(__file__).with_name("record")
OCELLI = "ocelli"


@dataclass(frozen=True)
class Row:
    """A contender's stage over all rounds: the least of the turns' minima, the median of their medians, the best speed."""

    arch: str
    stage: str
    peer: str
    version: str
    dtype: str
    threads: int
    cpu_ms_min: float
    cpu_ms_median: float
    wall_ms_min: float
    wall_ms_median: float
    tokens_per_s: float | None
    rounds: int
    isa: str

    def ratio_to(self, peer: "Row") -> float:
        """Of an encoder's least CPU times (less is better), or of a decoder's tokens a second (more is better)."""
        if self.tokens_per_s is not None and peer.tokens_per_s is not None:
            return self.tokens_per_s / peer.tokens_per_s
        return self.cpu_ms_min / peer.cpu_ms_min


def rows_of(contender: Contender) -> list[Row]:
    rows = []
    for stage, turns in contender.turns.items():
        speeds = [turn.tokens_per_s for turn in turns if turn.tokens_per_s is not None]
        rows.append(
            Row(
                arch=contender.arch,
                stage=stage,
                peer=contender.peer,
                version=contender.version,
                dtype=contender.dtype,
                threads=contender.threads,
                cpu_ms_min=min(turn.cpu_ms_min for turn in turns),
                cpu_ms_median=statistics.median(turn.cpu_ms_median for turn in turns),
                wall_ms_min=min(turn.wall_ms_min for turn in turns),
                wall_ms_median=statistics.median(turn.wall_ms_median for turn in turns),
                tokens_per_s=max(speeds, default=None),
                rounds=len(turns),
                isa=contender.isa,
            )
        )
    return rows


def show_table(arch: str, rows: list[Row]) -> None:
    """Every peer beside ocelli with the same number of threads: with int8, or with the dtype that a peer's corresponds to."""
    print(f"\n{arch}")
    print("  stage        peer         dtype threads   CPU min   median  wall min  tokens/s  ocelli/peer    (ms)")
    for row in sorted(rows, key=lambda row: row.stage):
        speed = "" if row.tokens_per_s is None else f"{row.tokens_per_s:.0f}"
        ours = None if row.peer == OCELLI else find(rows, row.stage, OCELLI, OURS.get(row.dtype, "int8"), row.threads)
        ratio = f"{ours.ratio_to(row):.2f}" if ours else ""
        print(
            f"  {row.stage:<13}{row.peer:<13}{row.dtype:<6}{row.threads:>7}{row.cpu_ms_min:>10.2f}{row.cpu_ms_median:>9.2f}"
            f"{row.wall_ms_min:>10.2f}{speed:>10}{ratio:>13}"
        )


# ocelli's dtype that a peer's is compared with, where that is not int8.
OURS = {"Q4_0": "int4"}


def find(rows: list[Row], stage: str, peer: str, dtype: str, threads: int | None = None) -> Row | None:
    wanted = (stage, peer, dtype)
    return next((r for r in rows if (r.stage, r.peer, r.dtype) == wanted and threads in (None, r.threads)), None)


@dataclass(frozen=True)
class Bar:
    """A ratio to reach: `measure` takes the architecture's rows and gives the ratio, or a text that says what it lacks."""

    arch: str
    what: str
    limit: float
    at_most: bool
    measure: Callable[[list[Row]], float | str]

    def line(self, rows: list[Row]) -> str:
        ratio = self.measure(rows)
        limit = f"{'<=' if self.at_most else '>='} {self.limit:.2f}"
        if isinstance(ratio, str):
            return f"  {self.arch:<15}{self.what:<40}{limit:>8}{'':>8}  not measured: {ratio}"
        reached = ratio <= self.limit if self.at_most else ratio >= self.limit
        return f"  {self.arch:<15}{self.what:<40}{limit:>8}{ratio:>8.2f}  {'reached' if reached else 'NOT reached'}"


def against(stage: str, ours: tuple[str, int], peer: str, dtype: str) -> Callable[[list[Row]], float | str]:
    """ocelli with this dtype and these threads, over this peer with as many."""

    def measure(rows: list[Row]) -> float | str:
        mine, theirs = find(rows, stage, OCELLI, *ours), find(rows, stage, peer, dtype, ours[1])
        return lacking(mine, theirs, f"{peer} {dtype}") or mine.ratio_to(theirs)

    return measure


def against_best(stage: str, ours: tuple[str, int]) -> Callable[[list[Row]], float | str]:
    def measure(rows: list[Row]) -> float | str:
        mine = find(rows, stage, OCELLI, *ours)
        peers = [row for row in rows if row.stage == stage and row.peer != OCELLI and row.threads == ours[1]]
        best = min(peers, key=lambda row: row.cpu_ms_min, default=None)
        return lacking(mine, best, "any peer") or mine.ratio_to(best)

    return measure


def two_threads_over_one(stage: str, dtype: str) -> Callable[[list[Row]], float | str]:
    """How many times as fast two threads are as one, in wall time."""

    def measure(rows: list[Row]) -> float | str:
        one, two = (find(rows, stage, OCELLI, dtype, threads) for threads in (1, 2))
        return lacking(one, two, "two threads of ocelli") or one.wall_ms_min / two.wall_ms_min

    return measure


def lacking(ours: Row | None, theirs: Row | None, name: str) -> str:
    return ", ".join(["no ocelli"] * (ours is None) + [f"no {name}"] * (theirs is None))


def bars(threads: int, decoder_threads: int) -> list[Bar]:
    """The project's, at the given thread counts (they are meant for one, and two for the decoder)."""
    image, int8 = "image_encode", ("int8", threads)
    decoder = [
        Bar("smollm2-135m", f"{stage}, {ours} / llama.cpp {quantization}", limit, False, measure)
        for ours, quantization in (("int8", "Q8_0"), ("int4", "Q4_0"))
        for stage, limit in (("decode", 1.4), ("prefill", 1.2))
        for measure in [against(stage, (ours, decoder_threads), "llama.cpp", quantization)]
    ]
    return [
        Bar("clip-vit-b32", "int8 / onnxruntime int8", 0.55, True, against(image, int8, "onnxruntime", "int8")),
        Bar("clip-vit-b32", "int8 / openvino bf16", 0.5, True, against(image, int8, "openvino", "bf16")),
        Bar("clip-vit-b16", "int8 / onnxruntime int8", 0.7, True, against(image, int8, "onnxruntime", "int8")),
        Bar("owlvit-b32-768", "int8 / best peer", 0.65, True, against_best(image, int8)),
        Bar("nano-backbone", "int8 / onnxruntime f32", 0.7, True, against(image, int8, "onnxruntime", "f32")),
        *decoder,
        *(
            Bar(arch, "int8, two threads / one, speed", 1.8, False, two_threads_over_one(image, "int8"))
            for arch in ("clip-vit-b32", "clip-vit-b16", "owlvit-b32-768", "nano-backbone")
        ),
    ]


def show_bars(rows: list[Row], threads: int, decoder_threads: int) -> None:
    measured = {row.arch for row in rows}
    print("\nbars: CPU time of ocelli over a peer's, tokens/s of ocelli over llama.cpp's")
    for bar in bars(threads, decoder_threads):
        if bar.arch in measured:
            print(bar.line([row for row in rows if row.arch == bar.arch]))


def record(rows: list[Row]) -> Path:
    """Appends to the CSV of this processor and day."""
    today = datetime.date.today().isoformat()
    path = RECORD / slug(cpu_model()) / f"{today}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    commit = git_commit()
    with path.open("a", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        if is_new:
            out.writerow(COLUMNS)
        out.writerows([today, commit, *(cell(getattr(row, ATTRIBUTES.get(name, name))) for name in COLUMNS[2:])] for row in rows)
    return path


COLUMNS = ["date", "git_commit", "arch", "stage", "peer", "peer_version", "dtype", "threads"]
COLUMNS += ["cpu_ms_min", "cpu_ms_median", "wall_ms_min", "wall_ms_median", "tokens_per_s", "rounds", "isa"]
ATTRIBUTES = {"peer_version": "version"}


def cell(value) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def cpu_model() -> str:
    """As Linux names it; boards that have no name there give their device tree's."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else []
    board = Path("/proc/device-tree/model")
    return names[0] if names else board.read_text().strip("\0\n") if board.exists() else platform.processor() or platform.machine()


def slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def git_commit() -> str:
    """Of the checkout, with `-dirty` where it differs from the commit; empty outside a checkout."""
    described = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"], capture_output=True, text=True
    )
    return described.stdout.strip()
