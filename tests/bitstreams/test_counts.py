"""Counts after synthesis: designs are taken apart rightly, cells are counted as what they are, and what is kept is what the page says."""

import hashlib
import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from click.testing import CliRunner

from trilobit.bitstreams import counts
from trilobit.bitstreams.counts import COLUMNS, FAMILIES, LENGTHS, find_core, unit_counts
from trilobit.bitstreams.kept import core_shape
from trilobit.bitstreams.modules import distinct_modules
from trilobit.errors import ToolError
from trilobit.hdl.machine import build_core
from trilobit.hdl.verilog import to_verilog
from trilobit.isa.core import load_core, presets
from trilobit.sim.build_cache import content_hash

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
from area import PAGE, RESULTS, load, page

KEPT = sorted(RESULTS.glob("*.json"))
needs_yosys = pytest.mark.skipif(importlib.util.find_spec("pyosys") is None, reason="pyosys is not installed")


class Multiplier(wiring.Component):
    """A product of two registered numbers of ``bits`` bits."""

    def __init__(self, bits: int):
        self.bits = bits
        super().__init__({"a": In(bits), "b": In(bits), "o": Out(2 * bits)})

    def elaborate(self, platform):
        m = Module()
        first, second = Signal(self.bits), Signal(self.bits)
        m.d.sync += [first.eq(self.a), second.eq(self.b), self.o.eq(first * second)]
        return m


class Pair(wiring.Component):
    """Two equal multipliers and a register: a unit."""

    def __init__(self):
        super().__init__({"a": In(16), "o": Out(32), "late": Out(8)})

    def elaborate(self, platform):
        m = Module()
        for k in range(2):
            m.submodules[f"part{k}"] = part = Multiplier(16)
            m.d.comb += [part.a.eq(self.a), part.b.eq(self.a + 1)]
        m.d.comb += self.o.eq(m.submodules.part0.o ^ m.submodules.part1.o)
        m.d.sync += self.late.eq(self.a)
        return m


class Top(wiring.Component):
    """The unit ``pair``, and a third multiplier, which is like the two in it."""

    def __init__(self):
        super().__init__({"a": In(16), "o": Out(32), "p": Out(32), "late": Out(8)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.pair = pair = Pair()
        m.submodules.single = single = Multiplier(16)
        m.d.comb += [pair.a.eq(self.a), single.a.eq(self.a), single.b.eq(self.a + 3), self.o.eq(pair.o), self.p.eq(single.o),
                     self.late.eq(pair.late)]  # fmt: skip
        return m


class Lanes(wiring.Component):
    """A memory of 108 rows of four lanes of 32 bits, each with its own write enable."""

    def __init__(self):
        super().__init__({"row": In(7), "lanes": In(4), "data": In(128), "read_row": In(7), "o": Out(128)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(shape=128, depth=108, init=[])
        write, read = memory.write_port(granularity=32), memory.read_port()
        m.d.comb += [write.addr.eq(self.row), write.en.eq(self.lanes), write.data.eq(self.data), read.addr.eq(self.read_row),
                     self.o.eq(read.data)]  # fmt: skip
        return m


@pytest.fixture(scope="module")
def design():
    return distinct_modules(to_verilog(Top(), "top"), "top")


def test_equal_modules_are_one_and_are_counted_where_they_stand(design):
    assert len(design.modules) == 3 and set(design.units) == {"pair", "single"}
    single, pair = design.units["single"], design.units["pair"]
    assert design.modules[pair].children == {single: 2}
    assert design.within(pair) == {pair: 1, single: 2} and design.within(design.top)[single] == 3
    assert list(design.modules)[-1] == design.top, "what stands in a module comes before it"
    assert distinct_modules(to_verilog(Top(), "other"), "other").units == design.units, "names don't depend on the top's"
    with pytest.raises(ToolError, match="expected a module nothing in the Verilog"):
        distinct_modules(to_verilog(Top(), "top"), "nothing")


def test_a_core_has_many_modules_and_few_different_ones():
    from trilobit.hdl.rowwise import RowWise

    found = distinct_modules(to_verilog(RowWise(load_core("ddr128")), "rowwise"), "rowwise")
    lanes = [found.units[f"lane{k}"] for k in range(1, 8)]
    assert len(set(lanes)) == 1, "lanes 1 to 7 are the same"
    assert sum(found.within(found.top).values()) > 2 * len(found.modules)


@needs_yosys
@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("family", ["ecp5", *(pytest.param(f, marks=pytest.mark.slow) for f in ("xc7", "xcup", "cyclonev"))])
def test_registers_and_multipliers_of_a_design_are_counted(design, family, split):
    """Nothing is optimised across the borders of modules: the late register and three multipliers, each in a DSP or with its registers."""
    found = counts._run_yosys(list(design.modules), design.modules, family, lambda line: None, split=split)
    cells: Counter[str] = Counter()
    for name, times in design.within(design.top).items():
        for kind, number in found[name].items():
            if not kind.lstrip("\\").startswith("m_"):
                cells[kind.lstrip("\\")] += times * number
    total = unit_counts(cells, family)
    assert total["dsps"] == (1.5 if family == "cyclonev" else 3)
    assert 8 <= total["registers"] <= 8 + 3 * 64, "DSPs take some of the products' registers in"
    assert total["brams"] == 0


@needs_yosys
@pytest.mark.parametrize("split", [False, True])
def test_a_memory_of_lanes_takes_a_block_a_lane_on_cyclone_v(split):
    """Each M10K has one write enable: Yosys' own rules make registers of these 13,824 bits."""
    lanes = distinct_modules(to_verilog(Lanes(), "lanes"), "lanes")
    (found,) = counts._run_yosys(list(lanes.modules), lanes.modules, "cyclonev", lambda line: None, split=split).values()
    total = unit_counts(Counter({kind.lstrip("\\"): number for kind, number in found.items()}), "cyclonev")
    assert total["brams"] == 4 and total["memory_luts"] == total["registers"] == 0


@needs_yosys
def test_rules_for_blocks_that_have_changed_are_an_error(monkeypatch, tmp_path):
    (tmp_path / counts.M10K_RULES).parent.mkdir(parents=True)
    (tmp_path / counts.M10K_RULES).write_text("ram block $__MISTRAL_M10K {\n}\n")
    monkeypatch.setattr(counts.resources, "files", lambda package: tmp_path)
    with pytest.raises(ToolError, match=r"expected a line 'make_transp' in .*bram_m10k.txt"):
        counts.m10k_rules()


@needs_yosys
def test_kept_counts_depend_on_the_rules_for_blocks_where_there_are_memories(design):
    lanes = distinct_modules(to_verilog(Lanes(), "lanes"), "lanes")
    for module, family, kept_before in [(design.modules[design.top], "cyclonev", True), (lanes.modules[lanes.top], "cyclonev", False),
                                        (lanes.modules[lanes.top], "ecp5", True)]:  # fmt: skip
        before = content_hash(module.name, counts.SCRIPTS[family], counts.yosys_version())
        assert (counts._kept(module, family).stem == before) == kept_before


def test_every_cell_has_a_column_or_an_error():
    assert unit_counts(Counter({"LUT6": 3, "RAM32M": 2, "RAMB18E1": 3, "MUXF7": 5}), "xc7") == {
        "luts": 3, "memory_luts": 8, "registers": 0, "carries": 0, "dsps": 0, "brams": 1.5}  # fmt: skip
    assert unit_counts(Counter({"TRELLIS_DPR16X4": 2, "CCU2C": 4}), "ecp5")["memory_luts"] == 12
    with pytest.raises(ToolError, match="Yosys made 2 XYZ: add it there"):
        unit_counts(Counter({"XYZ": 2}), "xcup")


def test_variants_are_the_papers_core_for_shorter_vectors():
    assert [find_core(name).max_length for name in LENGTHS] == [512, 1024, 2048]
    changed = find_core("paper8-d2048").parameters() | {"name": "paper8"}
    assert changed == load_core("paper8").parameters(), "the preset is the one for 2048"
    assert find_core("ulx3s-n16").beat_bytes == 16 and find_core("ulx3s-n16").lanes == 1


@needs_yosys
def test_an_unknown_core_is_an_error_of_the_user():
    result = CliRunner().invoke(counts.main, ["no-such-core", "--family", "xc7"])
    assert result.exit_code == 2 and "expected a core preset" in result.output


@pytest.mark.parametrize("path", KEPT, ids=[path.stem for path in KEPT])
def test_a_kept_result_adds_up_and_says_what_it_is(path):
    report = json.loads(path.read_text())
    family = report["family"]
    assert path.stem == f"{report['preset']}-{family}" and family in FAMILIES
    assert "not placed, not routed" in report["evidence"] and len(report["verilog_sha256"]) == 64
    assert report["commit"] and "+" not in report["commit"] and report["yosys"].startswith("Yosys ")
    assert {unit: unit_counts(Counter(cells), family) for unit, cells in report["cells"].items()} == report["units"]
    assert all(sum(unit[column] for unit in report["units"].values()) == pytest.approx(report["total"][column]) for column in COLUMNS)
    # Its clock is no part of the hardware.
    assert core_shape(find_core(report["preset"]).parameters()) == core_shape(report["core"]), "the preset is not the one that was counted"
    assert report["units"]["tmatmul"]["luts"] > 0


def test_every_preset_is_counted_for_the_vendors_families():
    counted = {path.stem for path in KEPT}
    names = {"paper8-d2048" if name == "paper8" else name for name in presets()} | {*LENGTHS}
    assert {f"{name}-{family}" for name in names for family in ("xc7", "xcup", "cyclonev")} <= counted


@pytest.mark.slow
@pytest.mark.parametrize("preset", sorted({path.stem.rpartition("-")[0] for path in KEPT}))
def test_kept_results_are_of_the_hardware_as_it_is(preset):
    """Counted again, where hardware has changed: modules that have not are not synthesised again."""
    verilog = to_verilog(build_core(find_core(preset), debug=False), counts.TOP)
    now = hashlib.sha256(verilog.encode()).hexdigest()
    reports = [json.loads(path.read_text()) for path in KEPT if path.stem.rpartition("-")[0] == preset]
    assert [report["family"] for report in reports if report["verilog_sha256"] != now] == []


def test_the_page_is_what_the_results_say():
    assert KEPT and PAGE.read_text() == page(load()), "python bench/area.py --write"
