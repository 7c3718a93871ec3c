"""A board's bitstream: synthesis, place and route and packing with the pip tools, and the report that is kept with it."""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from trilobit.bitstreams.fit import check_core, check_resources
from trilobit.bitstreams.units import cell_counts, unit_table
from trilobit.errors import ToolError
from trilobit.hdl.boards import BoardFiles, board_files, find_board
from trilobit.hdl.boards.flow import PLACEMENT, synthesis_script
from trilobit.isa.core import CoreConfig, load_core
from trilobit.sim.toolchain import ECPPACK, NEXTPNR_ECP5, YOSYS

__all__ = ["UNITS", "Build", "build_board", "critical_path"]

CORE_UNITS = ("pc", "regfile", "rowwise", "rmsnorm", "tmatmul", "ldst", "stream", "actbuf", "arbiter", "counters", "prompts", "outputs")
UNITS = [*(f"system.core.{unit}" for unit in CORE_UNITS), "system.core", "system.controller", "system.link", "system.receiver",
         "system.transmitter", "system.received", "system.share", "system", "pads"]  # fmt: skip
"""Paths in a board's top that the utilisation is told apart by."""
# Cells of nextpnr's utilisation report, and what they count.
RESOURCES = {"TRELLIS_FF": "registers", "TRELLIS_COMB": "luts", "MULT18X18D": "dsps", "DP16KD": "brams", "TRELLIS_IO": "pins"}
EVIDENCE = "placed and routed with its pins; timing as nextpnr computes it; not run on a board"


@dataclass(frozen=True)
class Build:
    """What a build left.

    Attributes:
        report: what the JSON file holds.
        report_path, bitstream_path: the files.
        fresh: it was made now; else it was there already.
    """

    report: dict
    report_path: Path
    bitstream_path: Path
    fresh: bool


def _arguments(board, files: BoardFiles, seed: int) -> list[str]:
    """nextpnr's options, device and package as the platform has them."""
    line = next(text for text in files.files[f"build_{files.top}.sh"].splitlines() if "--lpf" in text)
    device = re.findall(r"--(?:\d+k|package \S+|speed \S+)", line)
    options = [part for option in device for part in option.split()]
    return [*options, *PLACEMENT, "--json", "top.json", "--lpf", "top.lpf", "--textcfg", "top.config", "--report", "timing.json",
            "--seed", str(seed), "--freq", f"{board.clock_mhz:g}", "--timing-allow-fail"]  # fmt: skip


def critical_path(raw: dict, clock: str) -> dict:
    """The slowest path of a clock in nextpnr's report: where it starts and ends, and its delays in ns."""
    for path in raw.get("critical_paths", []):
        if path["from"].endswith(clock) and path["to"].endswith(clock):
            steps = path["path"]
            delays = {kind: round(sum(step["delay"] for step in steps if step["type"] == kind), 2) for kind in ("logic", "routing")}
            total = round(sum(step["delay"] for step in steps), 2)
            cells = [step["to"]["cell"] for step in steps]
            return {"from": steps[0]["from"]["cell"], "to": steps[-1]["to"]["cell"], "total_ns": total, **delays, "through": cells}
    return {}


def _json(report: dict) -> bytes:
    return (json.dumps(report, indent=2) + "\n").encode()


def _write(path: Path, data: bytes) -> None:
    """Under a temporary name, then renamed."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def _clocks(raw: dict) -> dict[str, dict]:
    clocks = {}
    for name, figures in raw["fmax"].items():
        path = critical_path(raw, name)
        clocks[re.sub(r"^\$glbnet\$", "", name)] = {
            "achieved_mhz": round(figures["achieved"], 2), "target_mhz": round(figures["constraint"], 2), "critical_path": path,
        }  # fmt: skip
    return clocks


def _check_clocks(name: str, clocks: dict[str, dict], kept: Path) -> None:
    """Raise a ToolError that says by how much each clock was missed, and on which path."""
    missed = []
    for clock, figures in clocks.items():
        if figures["achieved_mhz"] < figures["target_mhz"]:
            by = 1000 / figures["achieved_mhz"] - 1000 / figures["target_mhz"]
            path = figures["critical_path"]
            where = (
                f"from {path['from']} to {path['to']} ({path['logic']} ns logic, {path['routing']} ns routing)" if path else "unknown path"
            )
            missed.append(f"{clock}: expected {figures['target_mhz']} MHz, got {figures['achieved_mhz']} MHz, {by:.2f} ns too slow {where}")
    if missed:
        raise ToolError(
            f"{name} misses its clock, no bitstream was written: {'; '.join(missed)}. Another --seed may do; the report is {kept}"
        )


def build_board(name: str, folder: Path, *, config: CoreConfig | None = None, seed: int | None = None, force: bool = False,
                say: Callable[[str], None] = lambda text: None, progress: Callable[[str], None] = lambda text: None) -> Build:  # fmt: skip
    """Make a board's bitstream and leave it with its report in a folder, both named by a hash of sources, tools and seed.

    Args:
        name: the board.
        folder: gets ``trilobit_NAME-HASH.bit`` and ``.json``; if a tool fails or a clock is missed, its log or report instead.
        config: the core; default the board's preset.
        seed: of the placement; default the board's, with which its preset's core was seen to meet its clocks.
        force: build again what is there already.
        say: called with a line before each step. progress: called with the tools' own lines.

    Raises:
        ConfigError: no such board, or the core doesn't fit: asked before synthesis by kept reports, after it by its result.
        ToolError: a tool is missing or failed, or a clock was missed.
    """
    board = find_board(name)
    config = config or load_core(board.core)
    check_core(board, config)
    for tool in (YOSYS, NEXTPNR_ECP5, ECPPACK):
        tool.require()
    say(f"writing the top of {board.title} with core {config.name}")
    files = board_files(name, config)
    verilog, constraints = files.files[f"{files.top}.v"], files.files[f"{files.top}.lpf"]
    tools = {"yosys": YOSYS.version, "nextpnr": NEXTPNR_ECP5.version}
    seed = board.seed if seed is None else seed
    script, options = synthesis_script(files.top), _arguments(board, files, seed)
    digest = hashlib.sha256("\0".join([verilog, constraints, *tools.values(), script, *options]).encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"{files.top}-{digest}"
    report_path, bitstream_path = stem.with_suffix(".json"), stem.with_suffix(".bit")
    if report_path.exists() and bitstream_path.exists() and not force:
        return Build(json.loads(report_path.read_text()), report_path, bitstream_path, False)

    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        (work / "top.v").write_text(verilog)
        (work / "top.lpf").write_text(constraints)
        say("synthesis (Yosys)")
        YOSYS.run(["-p", script], cwd=work, log=stem.with_suffix(".log"), each_line=progress)
        cells = cell_counts(work / "top.json", files.top)
        units = unit_table(cells, UNITS)
        synthesised = {key: sum(unit[key] for unit in units.values()) for key in ("luts", "registers", "dsps", "brams")}
        check_resources(board, f"core {config.name!r}", synthesised, "after synthesis")
        say(f"place and route (nextpnr) of {synthesised['luts']} LUT4, {synthesised['registers']} registers, "
            f"{synthesised['brams']} block RAMs, {synthesised['dsps']} multipliers: takes minutes")  # fmt: skip
        NEXTPNR_ECP5.run(options, cwd=work, log=stem.with_suffix(".log"), each_line=progress)
        raw = json.loads((work / "timing.json").read_text())
        clocks = _clocks(raw)
        used = {key: raw["utilization"][cell]["used"] for cell, key in RESOURCES.items()}
        available = {key: raw["utilization"][cell]["available"] for cell, key in RESOURCES.items()}
        report = {
            "board": name, "top": files.top, "evidence": EVIDENCE, "hash": digest, "seed": seed, "core": asdict(config),
            "clock_mhz": board.clock_mhz, "sdram_mhz": 2 * board.clock_mhz, "clocks": clocks, "fmax_mhz": clocks["clk"]["achieved_mhz"],
            "resources": used, "available": available, "synthesised": synthesised, "units": units, "tools": tools,
            "yosys": script, "nextpnr": options,
        }  # fmt: skip
        missed = stem.with_name(f"{stem.name}-missed.json")
        if any(figures["achieved_mhz"] < figures["target_mhz"] for figures in clocks.values()):
            _write(missed, _json(report))
        _check_clocks(name, clocks, missed)
        say("packing (ecppack)")
        ECPPACK.run(["--compress", "--input", "top.config", "--bit", "top.bit"], cwd=work)
        bits = (work / "top.bit").read_bytes()
    report |= {"bitstream": bitstream_path.name, "bitstream_bytes": len(bits), "bitstream_sha256": hashlib.sha256(bits).hexdigest()}
    _write(bitstream_path, bits)
    _write(report_path, _json(report))
    stem.with_suffix(".log").unlink(missing_ok=True)
    missed.unlink(missing_ok=True)
    return Build(report, report_path, bitstream_path, True)
