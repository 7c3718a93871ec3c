"""What a measurement depends on beside its inputs: the machine, and the version of the project."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from trilobit.errors import ToolError

__all__ = ["commit", "machine"]

SOURCE = Path(__file__).resolve().parent.parent


def machine() -> dict[str, Any]:
    """Processor, its cores, the load of the last minute (above 1 other work disturbs measurements), and the tools' versions."""
    from trilobit.sim.toolchain import GXX, VERILATOR

    facts: dict[str, Any] = {"processor": _processor(), "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2),
                             "system": platform.platform(), "python": platform.python_version()}  # fmt: skip
    for name, tool in (("verilator", VERILATOR), ("compiler", GXX)):
        try:
            facts[name] = tool.version
        except ToolError:
            facts[name] = None
    return facts


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def commit() -> str | None:
    """The commit of the checkout that runs, ``+changes`` if hardware, simulators, compiler or ISA differ from it; None outside one."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=SOURCE, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "hdl", "sim", "isa", "assembler")
        return git("rev-parse", "--short=12", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None
