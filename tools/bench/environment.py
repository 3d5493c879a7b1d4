"""The pinned virtual environment that the peers live in.

A peer that cannot be installed does not stop the others: why is kept beside the environment and reported with the results.
"""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
DEFAULT = Path("~/.cache/ocelli/peers-venv").expanduser()
# Measured one by one, so installed one by one. Torch is a peer as well, but nothing can be exported without it.
OPTIONAL = ("llama-cpp-python", "onnxruntime", "openvino")
# Compiled here, for this processor's instructions. A wheel from pip's cache could be for another processor.
FROM_SOURCE = "llama-cpp-python"
# The first line of a failed build with one of these says why.
REASONS = ("error:", "cmake error", "no matching distribution")
REASON_LENGTH = 240


def enter(folder: Path, reinstall: bool) -> dict[str, str]:
    """Goes on in the environment, made first if need be; returns why peers are missing: {package: reason}."""
    folder = folder.expanduser().resolve()
    if Path(sys.prefix).resolve() == folder:
        return json.loads(stamp(folder).read_text())["missing"]
    if reinstall or not is_current(folder):
        install(folder)
    python = folder / "bin" / "python"
    # The environment is current now; installing again would go on for ever.
    arguments = [argument for argument in sys.argv if argument != "--reinstall"]
    os.execv(python, [str(python), *arguments])


def stamp(folder: Path) -> Path:
    return folder / "ocelli-peers.json"


def is_current(folder: Path) -> bool:
    """Whether this very list of requirements was installed, or tried to be."""
    try:
        return json.loads(stamp(folder).read_text())["requirements"] == requirements()
    except (OSError, ValueError, KeyError):
        return False


def requirements() -> list[str]:
    lines = (line.strip() for line in REQUIREMENTS.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def install(folder: Path) -> None:
    print(f"installing the peers into {folder} (once; some GB and, for llama.cpp, some minutes)", file=sys.stderr)
    try:
        venv.create(folder, symlinks=True, with_pip=True)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"peers.py: cannot make a virtual environment in {folder} (--venv): {error}\nOn Debian, install python3-venv.")
    wanted = requirements()
    optional = [line for line in wanted if line.split("==")[0] in OPTIONAL]
    reason = pip(folder, [line for line in wanted if line not in optional])
    if reason:
        sys.exit(f"peers.py: cannot install what makes the models: {reason}\n{REQUIREMENTS} has the list; --venv chooses the folder.")
    reasons = {line.split("==")[0]: pip(folder, [line]) for line in optional}
    missing = {package: reason for package, reason in reasons.items() if reason}
    stamp(folder).write_text(json.dumps({"requirements": wanted, "missing": missing}, indent=1))


def pip(folder: Path, packages: list[str]) -> str:
    """Installs; returns an empty string, or why it failed. All that pip says goes to a log in the folder."""
    print("  " + " ".join(packages), file=sys.stderr)
    command = [str(folder / "bin" / "python"), "-m", "pip", "install", *packages]
    settings = dict(os.environ)
    if packages[0].startswith(FROM_SOURCE):
        command += ["--verbose", "--no-cache-dir", "--no-binary", FROM_SOURCE]
        settings.setdefault("CMAKE_ARGS", "-DGGML_NATIVE=ON")
    log = folder / f"pip-{packages[0].split('==')[0]}.log"
    with log.open("w") as out:
        failed = subprocess.run(command, env=settings, stdout=out, stderr=subprocess.STDOUT).returncode
    return f"{reason_in(log)} (pip's log: {log})" if failed else ""


def reason_in(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    first = next((i for i, line in enumerate(lines) if any(word in line.lower() for word in REASONS)), len(lines) - 1)
    # CMake says where, and in the next line what.
    reason = " ".join(lines[first : first + 2]) if lines[first:] and lines[first].endswith(":") else "".join(lines[first : first + 1])
    return reason[:REASON_LENGTH] or "pip said nothing"
