"""``python -m trilobit.bitstreams.counts PRESET --family xc7``: what each unit of a core takes after synthesis, before any placement.

Synthesis is Yosys' for the family. The hierarchy is kept, so that every cell belongs to one unit and equal modules (the lanes) are
synthesised once; nothing is optimised across the borders of modules, and a flattened core is somewhat smaller. Modules that were counted
before are not synthesised again.
"""

import hashlib
import importlib.metadata
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from trilobit.bitstreams.modules import Design, DistinctModule, distinct_modules
from trilobit.errors import ConfigError, ToolError, TrilobitError
from trilobit.isa.core import CoreConfig, load_core
from trilobit.machine import commit
from trilobit.output import json_option, print_json, print_table, status_line, write_text
from trilobit.sim.build_cache import cache_folder, content_hash
from trilobit.sim.toolchain import Tool

__all__ = ["COLUMNS", "FAMILIES", "LENGTHS", "VARIANTS", "count_cells", "find_core", "unit_counts"]

TOP = "trilobit_core"
RUN = "import sys; from pyosys import libyosys as y; d = y.Design(); [y.run_pass(p, d) for p in sys.argv[1:]]"
EVIDENCE = "counted after synthesis by Yosys, hierarchy kept; not placed, not routed"
SCRIPTS = {
    "xc7": "synth_xilinx -family xc7 -noiopad -noclkbuf",
    "xcup": "synth_xilinx -family xcup -noiopad -noclkbuf",
    "cyclonev": "synth_intel_alm -family cyclonev -noiopad -noclkbuf -noflatten",
    "ecp5": "synth_ecp5 -abc9 -noflatten",
}
# Yosys' block RAM of Cyclone V has one write enable. Its own rules cut a memory's row into pieces as wide as a block (1, 2, 5, 10, 20, 40),
# none of which may have bits of two enables: a lane of 32 bits gets blocks of 2, or registers. This line gives each lane blocks of its own.
M10K_RULES = "share/intel_alm/common/bram_m10k.txt"
M10K_LINE = "shuffle_enable A"
M10K_PASSES = ["memory_bram -rules m10k.txt", "techmap -map +/intel_alm/common/bram_m10k_map.v"]
MEMORY = re.compile(r"^  reg .*\[\d+:0\];$", re.MULTILINE)
FAMILIES = {
    "xc7": "AMD 7 series", "xcup": "AMD UltraScale+", "cyclonev": "Intel Cyclone V", "ecp5": "Lattice ECP5",
}  # fmt: skip
COLUMNS = ("luts", "memory_luts", "registers", "carries", "dsps", "brams")
# What cells count as: (column, amount). Look-up tables that serve as memory or shift register: AMD UG474 and UG574, Lattice
# FPGA-TN-02204 (four for 16 x 4 bits, two for its write port). Block RAMs: of 36 Kbit for AMD, 18 for ECP5, 10 for Cyclone V.
_AMD = {
    **{f"LUT{k}": ("luts", 1.0) for k in range(1, 7)}, "INV": ("luts", 1.0),
    "SRL16E": ("memory_luts", 1.0), "SRLC32E": ("memory_luts", 1.0),
    "RAM32X1S": ("memory_luts", 1.0), "RAM32X1D": ("memory_luts", 2.0), "RAM64X1S": ("memory_luts", 1.0), "RAM64X1D": ("memory_luts", 2.0),
    "RAM128X1S": ("memory_luts", 2.0), "RAM128X1D": ("memory_luts", 4.0), "RAM256X1S": ("memory_luts", 4.0),
    "RAM256X1D": ("memory_luts", 8.0), "RAM512X1S": ("memory_luts", 8.0), "RAM32M": ("memory_luts", 4.0), "RAM64M": ("memory_luts", 4.0),
    "RAM32M16": ("memory_luts", 8.0), "RAM64M8": ("memory_luts", 8.0), "RAM64X8SW": ("memory_luts", 8.0),
    "RAM32X16DR8": ("memory_luts", 8.0),
    **{f"FD{kind}": ("registers", 1.0) for kind in ("RE", "SE", "CE", "PE")}, "CARRY4": ("carries", 1.0), "CARRY8": ("carries", 1.0),
    "DSP48E1": ("dsps", 1.0), "DSP48E2": ("dsps", 1.0), "RAMB18E1": ("brams", 0.5), "RAMB36E1": ("brams", 1.0),
    "RAMB18E2": ("brams", 0.5), "RAMB36E2": ("brams", 1.0), "MUXF7": None, "MUXF8": None, "MUXF9": None,
}  # fmt: skip
CELLS: dict[str, dict[str, tuple[str, float] | None]] = {
    "xc7": _AMD,
    "xcup": _AMD,
    "cyclonev": {
        **{f"MISTRAL_ALUT{k}": ("luts", 1.0) for k in range(2, 7)}, "MISTRAL_NOT": ("luts", 1.0), "MISTRAL_ALUT_ARITH": ("carries", 1.0),
        "MISTRAL_MLAB": ("memory_luts", 1.0), "MISTRAL_FF": ("registers", 1.0), "MISTRAL_M10K": ("brams", 1.0),
        "MISTRAL_MUL27X27": ("dsps", 1.0), "MISTRAL_MUL18X18": ("dsps", 0.5), "MISTRAL_MUL9X9": ("dsps", 1 / 3),
    },
    "ecp5": {
        "LUT4": ("luts", 1.0), "CCU2C": ("carries", 1.0), "TRELLIS_DPR16X4": ("memory_luts", 6.0), "TRELLIS_FF": ("registers", 1.0),
        "MULT18X18D": ("dsps", 1.0), "ALU54B": None, "DP16KD": ("brams", 1.0), "PDPW16KD": ("brams", 1.0), "PFUMX": None, "L6MUX21": None,
    },
}  # fmt: skip
PYTHON = Tool("Yosys", sys.executable, 'pip install "trilobit[boards]" brings it')
GROUP_BYTES = 150_000
TRIES = 2  # of a single module: as it is, and with its wires split
# The paper's core for vectors of d elements: registers and norm unit hold d, the gain buffer two vectors of gains.
LENGTHS = {f"paper8-d{d}": ("paper8", {"max_length": d, "gain_buffer_elements": 2 * d}) for d in (512, 1024, 2048)}
# And one with a wide product beside a single lane: what the rest of the machine costs a weight.
VARIANTS: dict[str, tuple[str, dict[str, int]]] = LENGTHS | {"ulx3s-n16": ("ulx3s", {"beat_bytes": 16})}


def find_core(name: str) -> CoreConfig:
    """A core preset, a YAML file, or one of :data:`VARIANTS`.

    Raises:
        ConfigError: as :func:`trilobit.isa.core.load_core`.
    """
    if name in VARIANTS:
        preset, changes = VARIANTS[name]
        return load_core(preset).replace(name=name, **changes)
    return load_core(name)


def unit_counts(cells: Counter[str], family: str) -> dict[str, float]:
    """Cells by type as :data:`COLUMNS`; ToolError for a type that nobody has said how to count."""
    table = CELLS[family]
    counts = dict.fromkeys(COLUMNS, 0.0)
    for kind, number in cells.items():
        if kind not in table:
            raise ToolError(f"expected cells of {family} that bitstreams/counts.py knows, Yosys made {number} {kind}: add it there")
        if (counted := table[kind]) is not None:
            counts[counted[0]] += counted[1] * number
    return {column: round(value, 1) for column, value in counts.items()}


def yosys_version() -> str:
    """The version of pyosys.

    Yosys' WebAssembly build, which the bitstreams are made with, is the same release, but its ABC ended in the middle of these runs.

    Raises:
        ToolError: it is not installed.
    """
    try:
        return f"Yosys {importlib.metadata.version('pyosys')} (pyosys)"
    except importlib.metadata.PackageNotFoundError as error:
        raise ToolError('expected Yosys as pyosys, found none; pip install "trilobit[boards]" brings it') from error


def m10k_rules() -> str:
    """Yosys' rules for the block RAMs of Cyclone V, with :data:`M10K_LINE`.

    Raises:
        ToolError: the rules of this release are not of the form expected.
    """
    path = resources.files("pyosys") / M10K_RULES
    rules = path.read_text() if path.is_file() else ""
    before, last, after = rules.partition("    make_transp\n")
    if not last:
        raise ToolError(f"expected a line 'make_transp' in {path}, found none; take the pyosys of constraints.txt")
    return f"{before}{last}    {M10K_LINE}\n{after}"


def _script(family: str) -> str:
    """What reports and kept counts say of the synthesis."""
    return SCRIPTS[family] + (f"; {M10K_LINE} in {M10K_RULES}" if family == "cyclonev" else "")


def _kept(module: DistinctModule, family: str) -> Path:
    folder = cache_folder() / "counts"
    folder.mkdir(exist_ok=True)
    script = _script(family) if MEMORY.search(module.text) else SCRIPTS[family]
    return folder / f"{content_hash(module.name, script, yosys_version())}.json"


def _groups(names: list[str], modules: dict[str, DistinctModule]) -> Iterator[list[str]]:
    """Modules to be synthesised in one run: a few small ones, or a large one."""
    group: list[str] = []
    size = 0
    for name in names:
        if group and size + len(modules[name].text) > GROUP_BYTES:
            yield group
            group, size = [], 0
        group.append(name)
        size += len(modules[name].text)
    if group:
        yield group


def _passes(family: str, *, split: bool) -> list[str]:
    """Synthesis of module ``group``: Yosys' passes for the family, with others in some places.

    ``split``: wires are split into bits before look-up tables are mapped. ABC9 names new wires after old ones, and can meet a name
    that is taken (Yosys issue 4349).
    """
    synthesis = f"{SCRIPTS[family]} -top group"
    places = [("map_bram", M10K_PASSES, "map_lutram")] if family == "cyclonev" else []  # where Yosys' passes stop and where they go on
    places += [("map_luts", ["splitnets"], "map_luts")] if split else []
    passes, begin = [], "begin"
    for stop, others, go_on in places:
        passes += [f"{synthesis} -run {begin}:{stop}", *others]
        begin = go_on
    return [*passes, f"{synthesis} -run {begin}:"]


def _run_yosys(group: list[str], modules: dict[str, DistinctModule], family: str, each_line: Callable[[str], None], *,
               split: bool = False) -> dict[str, dict]:  # fmt: skip
    """Cells by type of each module of a group; those that stand in them are black boxes. ``split``: as for :func:`_passes`."""
    passes = _passes(family, split=split)
    children = {child for name in group for child in modules[name].children} - {*group}
    verilog = "".join([*(modules[name].stub for name in sorted(children)), *(modules[name].text for name in group)])
    places = "".join(f"  (* keep *) {name} part{k} ();\n" for k, name in enumerate(group))
    with TemporaryDirectory() as scratch:
        work = Path(scratch)
        (work / "top.v").write_text(f"{verilog}module group;\n{places}endmodule\n")
        if family == "cyclonev":
            (work / "m10k.txt").write_text(m10k_rules())
        PYTHON.run(["-c", RUN, "read_verilog top.v", *passes, "tee -q -o cells.json stat -json"], cwd=work, each_line=each_line)
        found = json.loads((work / "cells.json").read_text())["modules"]
    return {name: found[f"\\{name}"].get("num_cells_by_type", {}) for name in group}


def _synthesise(design: Design, family: str, each_line: Callable[[str], None]) -> dict[str, Counter[str]]:
    """Cells of each distinct module by type, modules in it left out.

    A group that fails is tried in halves: what was counted is kept, and the error is of a single module.
    """
    cells: dict[str, Counter[str]] = {}
    for name, module in design.modules.items():
        if (path := _kept(module, family)).exists():
            cells[name] = Counter(json.loads(path.read_text()))
    todo = list(_groups([name for name in design.modules if name not in cells], design.modules))
    failures: Counter[str] = Counter()
    while todo:
        group = todo.pop(0)
        try:
            found = _run_yosys(group, design.modules, family, each_line, split=failures[group[0]] == TRIES - 1)
        except ToolError:
            failures[group[0]] += len(group) == 1
            if failures[group[0]] >= TRIES:
                raise
            half = len(group) // 2
            todo[:0] = [part for part in (group[:half], group[half:]) if part]
            continue
        for name, types in found.items():
            kinds = {kind.lstrip("\\"): count for kind, count in types.items()}
            cells[name] = Counter({kind: count for kind, count in kinds.items() if not kind.startswith("m_")})
            write_text(_kept(design.modules[name], family), json.dumps(cells[name]))
    return cells


def count_cells(config: CoreConfig, family: str, *, say: Callable[[str], None] = lambda text: None,
                progress: Callable[[str], None] = lambda text: None) -> dict:  # fmt: skip
    """Synthesise a core (without its debug port) for a family and count what each unit takes.

    Args:
        config: the core. family: one of :data:`FAMILIES`.
        say: called with a line before each step. progress: called with Yosys' lines.

    Returns:
        what the JSON file holds: ``units`` (unit -> :data:`COLUMNS`), ``total``, ``cells`` (unit -> type -> number), core, tool, commit,
        hash of the Verilog. ``core`` among the units is what stands between them.

    Raises:
        ConfigError: no such family.
        ToolError: Yosys or Amaranth is missing or failed.
    """
    if family not in FAMILIES:
        raise ConfigError(f"expected a family ({', '.join(FAMILIES)}), got {family!r}")
    yosys_version()
    try:
        from trilobit.hdl.machine import build_core
        from trilobit.hdl.verilog import to_verilog
    except ModuleNotFoundError as error:
        raise ToolError('expected Amaranth to write Verilog, found none; install it with pip install "trilobit[rtl,boards]"') from error
    say(f"writing the Verilog of core {config.name}")
    verilog = to_verilog(build_core(config, debug=False), TOP)
    design = distinct_modules(verilog, TOP)
    new = sum(not _kept(module, family).exists() for module in design.modules.values())
    say(f"synthesis for {FAMILIES[family]}: {len(design.modules)} different modules, {new} not counted before")
    cells = _synthesise(design, family, progress)
    trees = {unit: design.within(module) for unit, module in sorted(design.units.items())}
    trees["core"] = Counter({design.top: 1})
    by_unit: dict[str, Counter[str]] = {}
    for unit, tree in trees.items():
        by_unit[unit] = Counter()
        for module, times in tree.items():
            for kind, number in cells[module].items():
                by_unit[unit][kind] += times * number
    total: Counter[str] = sum(by_unit.values(), Counter())
    return {
        "preset": config.name, "family": family, "evidence": EVIDENCE, "core": config.parameters(),
        "units": {unit: unit_counts(found, family) for unit, found in by_unit.items()}, "total": unit_counts(total, family),
        "cells": {unit: dict(sorted(found.items())) for unit, found in by_unit.items()},
        "verilog_sha256": hashlib.sha256(verilog.encode()).hexdigest(), "script": _script(family), "yosys": yosys_version(),
        "commit": commit(),
    }  # fmt: skip


@click.command()
@click.argument("preset")
@click.option("--family", type=click.Choice(list(FAMILIES)), required=True, help="Whose cells.")
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Folder that gets PRESET-FAMILY.json.")
@json_option
def main(preset: str, family: str, keep: Path | None, as_json: bool) -> None:
    """Count what core PRESET (a name, paper8-d512, paper8-d1024, paper8-d2048, or a YAML file) takes after synthesis, by unit.

    Minutes for small cores, much longer for 64 bytes a beat. Nothing is placed or routed.
    """
    try:
        with status_line(quiet=as_json) as show:
            report = count_cells(find_core(preset), family, say=lambda text: click.echo(text, err=True), progress=show)
    except TrilobitError as error:
        click.echo(f"trilobit: {error}", err=True)
        raise SystemExit(2) from error
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        write_text(keep / f"{report['preset']}-{family}.json", json.dumps(report, indent=2) + "\n")
    if as_json:
        print_json(report)
        return
    rows = report["units"] | {"total": report["total"]}
    print_table({unit: ", ".join(f"{value:g} {column}" for column, value in counts.items()) for unit, counts in rows.items()})
    click.echo(report["evidence"])


if __name__ == "__main__":
    main()
