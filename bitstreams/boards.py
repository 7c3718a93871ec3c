"""A board's bitstream: synthesis, place and route and packing with the pip tools, and the report that is kept with it."""

import hashlib
import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trilobit.atomic import replacing
from trilobit.bitstreams.fit import check_core, check_resources
from trilobit.bitstreams.timing import clock_at, clocks_of, missed_clocks, worst_share
from trilobit.bitstreams.units import cell_counts, unit_table
from trilobit.errors import ToolError
from trilobit.hdl.boards import Board, BoardFiles, board_files, find_board
from trilobit.hdl.boards.flow import PLACEMENT, synthesis_script
from trilobit.isa.core import CoreConfig, load_core
from trilobit.output import new_output_folder
from trilobit.sim.toolchain import ECPPACK, NEXTPNR_ECP5, YOSYS

__all__ = ["PLACEMENTS", "UNITS", "Build", "build_board", "build_files", "require_tools"]

CORE_UNITS = ("pc", "regfile", "rowwise", "rmsnorm", "tmatmul", "ldst", "stream", "actbuf", "arbiter", "counters", "prompts", "outputs")
UNITS = [*(f"system.core.{unit}" for unit in CORE_UNITS), "system.core", "system.controller", "system.link", "system.receiver",
         "system.transmitter", "system.received", "system.share", "system", "pads"]  # fmt: skip
"""Paths in a board's top that the utilisation is told apart by."""
# Cells of nextpnr's utilisation report, and what they count.
RESOURCES = {"TRELLIS_FF": "registers", "TRELLIS_COMB": "luts", "MULT18X18D": "dsps", "DP16KD": "brams", "TRELLIS_IO": "pins"}
PLACEMENTS = 4
"""How many seeds are tried for a board before its clock is given up: a placement more or less changes it by some percent."""
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


def _json(report: dict) -> bytes:
    return (json.dumps(report, indent=2) + "\n").encode()


def _write(path: Path, data: bytes) -> None:
    with replacing(path) as file:
        file.write(data)


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def build_board(name: str, folder: Path, *, config: CoreConfig | None = None, seed: int | None = None, force: bool = False,
                say: Callable[[str], None] = lambda text: None, progress: Callable[[str], None] = lambda text: None) -> Build:  # fmt: skip
    """Make a board's bitstream and leave it with its report in a folder, both named by a hash of sources, tools, options and seed.

    Args:
        name: the board.
        folder: gets ``trilobit_NAME-HASH.bit`` and ``.json``; if a tool fails or clocks are missed, its log or reports instead.
        config: the core; default the board's preset.
        seed: of the placement; default the board's and, while a clock is missed, the next ones, :data:`PLACEMENTS` in all.
        force: build again what is there already.
        say: called with a line before each step. progress: called with the tools' own lines.

    Raises:
        ConfigError: no such board, or the core doesn't fit: asked before synthesis by kept reports, after it by its result.
        ToolError: a tool is missing or failed, or a clock was missed.
    """
    board = find_board(name)
    config = config or load_core(board.core)
    check_core(board, config)
    require_tools()
    say(f"writing the top of {board.title} with core {config.name}")
    files = board_files(name, config)
    return build_files(board, files, synthesis_script(files.top), folder, what=f"core {config.name!r}", units=UNITS,
                       facts={"core": config.parameters(), "sdram_mhz": 2 * board.clock_mhz}, seed=seed, force=force, say=say,
                       progress=progress)  # fmt: skip


def require_tools() -> None:
    """Raise a ToolError if a tool for bitstreams is missing."""
    for tool in (YOSYS, NEXTPNR_ECP5, ECPPACK):
        tool.require()


def build_files(board: Board, files: BoardFiles, script: str, folder: Path, *, what: str, units: list[str], facts: dict,
                seed: int | None, force: bool, say: Callable[[str], None], progress: Callable[[str], None]) -> Build:  # fmt: skip
    """:func:`build_board` of a top that is written already.

    Args:
        board: name, clock and size of the FPGA. files: its top.
        script: for Yosys, from ``top.v`` to ``top.json``.
        what: is built, for messages. units: paths that the utilisation is told apart by. facts: more entries of the report.
    """
    name = board.name
    verilog, constraints = files.files[f"{files.top}.v"], files.files[f"{files.top}.lpf"]
    tools = {"yosys": YOSYS.version, "nextpnr": NEXTPNR_ECP5.version}
    seeds = range(board.seed, board.seed + PLACEMENTS) if seed is None else [seed]
    options = {k: _arguments(board, files, k) for k in seeds}
    stems = {k: f"{files.top}-{_digest(verilog, constraints, *tools.values(), script, *options[k])}" for k in seeds}
    for stem in stems.values():
        report_path, bitstream_path = folder / f"{stem}.json", folder / f"{stem}.bit"
        if report_path.exists() and bitstream_path.exists() and not force:
            try:
                return Build(json.loads(report_path.read_text()), report_path, bitstream_path, False)
            except ValueError:
                say(f"{report_path} is damaged: building again")

    log = folder / f"{files.top}.log"
    with new_output_folder(folder), tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        (work / "top.v").write_text(verilog)
        (work / "top.lpf").write_text(constraints)
        say("synthesis (Yosys)")
        YOSYS.run(["-p", script], cwd=work, log=log, each_line=progress)
        table = unit_table(cell_counts(work / "top.json", files.top), units)
        synthesised = {key: sum(unit[key] for unit in table.values()) for key in ("luts", "registers", "dsps", "brams")}
        check_resources(board, what, synthesised, "after synthesis")
        say(f"place and route (nextpnr) of {synthesised['luts']} LUT4, {synthesised['registers']} registers, "
            f"{synthesised['brams']} block RAMs, {synthesised['dsps']} multipliers: takes minutes")  # fmt: skip
        shared = {"board": name, "top": files.top, "clock_mhz": board.clock_mhz, **facts, "synthesised": synthesised, "units": table,
                  "tools": tools, "yosys": script}  # fmt: skip
        tried: list[dict] = []
        for k in seeds:
            NEXTPNR_ECP5.run(options[k], cwd=work, log=log, each_line=progress)
            report = _routed(json.loads((work / "timing.json").read_text()), board.clock_mhz)
            report |= {"seed": k, "hash": stems[k].rsplit("-", 1)[1], "nextpnr": options[k], **shared}
            tried.append(report)
            if not (missed := missed_clocks(report["clocks"])):
                break
            _write(folder / f"{stems[k]}-missed.json", _json(report))
            say(f"seed {k} misses {'; '.join(missed)}")
        else:
            best = max(tried, key=lambda report: worst_share(report["clocks"]))
            raise ToolError(f"{name} misses its clock, no bitstream was written: {'; '.join(missed_clocks(best['clocks']))}. "
                            f"{_seeds(tried)}; the best report is {folder / stems[best['seed']]}-missed.json")  # fmt: skip
        say("packing (ecppack)")
        ECPPACK.run(["--compress", "--input", "top.config", "--bit", "top.bit"], cwd=work)
        bits = (work / "top.bit").read_bytes()
    report_path, bitstream_path = folder / f"{stems[k]}.json", folder / f"{stems[k]}.bit"
    report |= {"bitstream": bitstream_path.name, "bitstream_bytes": len(bits), "bitstream_sha256": hashlib.sha256(bits).hexdigest()}
    _write(bitstream_path, bits)
    _write(report_path, _json(report))
    for leftover in (log, *(folder / f"{stem}-missed.json" for stem in stems.values())):
        leftover.unlink(missing_ok=True)
    return Build(report, report_path, bitstream_path, True)


def _routed(raw: dict, clock_mhz: float) -> dict:
    """What is kept of nextpnr's report."""
    clocks = clocks_of(raw)
    used = {key: raw["utilization"][cell]["used"] for cell, key in RESOURCES.items()}
    available = {key: raw["utilization"][cell]["available"] for cell, key in RESOURCES.items()}
    return {"evidence": EVIDENCE, "clocks": clocks, "fmax_mhz": clock_at(clocks, clock_mhz)["achieved_mhz"], "resources": used,
            "available": available}  # fmt: skip


def _seeds(tried: list[dict]) -> str:
    """How near each placement came, and what else may help."""
    shares = ", ".join(f"{report['seed']} ({100 * worst_share(report['clocks']):.1f}% of the clock)" for report in tried)
    return f"Placements with these seeds were tried: {shares}. Another --seed may do"
