"""Geometries, the estimate and the power range: against the RTL, and figures computed by hand or published."""

import json
import re
import time
from collections import Counter
from importlib import resources
from itertools import pairwise

import pytest
from click.testing import CliRunner
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace

from trilobit.assembler.compiler import compile_model
from trilobit.assembler.geometry import compile_geometry
from trilobit.commands.estimate import command
from trilobit.errors import ConfigError, ProgramError
from trilobit.isa.core import CoreConfig, load_core
from trilobit.isa.program import Program
from trilobit.isa.spec import ISA
from trilobit.sim.backend import HostSettings
from trilobit.sim.estimate import estimate
from trilobit.sim.geometry import GEOMETRIES, Geometry, parse_geometry, roofline_share
from trilobit.sim.on_chip import on_chip_memories
from trilobit.sim.power import Resources, estimate_power
from trilobit.sim.rtl import RtlSimulator
from trilobit.sim.rtl_build import core_verilog

AXI512 = load_core("axi512")


@pytest.mark.parametrize(("name", "weights"), [("370m", 341_049_344), ("1.3b", 1_298_661_376), ("2.7b", 2_619_473_920)])
def test_ternary_weights_are_those_of_the_published_models(name, weights):
    assert GEOMETRIES[name].ternary_weights == weights


def test_a_layer_reads_the_beats_of_the_budget():
    # H=1024, I=2816 at 64 bytes a clock: 40,188 beats of weights, 344 of gains; here with a header beat each.
    one = Geometry(H=1024, L=1, I=2816, V=5)
    two = Geometry(H=1024, L=2, I=2816, V=5)
    assert two.stream_beats(AXI512) - one.stream_beats(AXI512) == 40_188 + 344 + 7 + 9


def test_tiles_of_the_head_fit_a_register_and_cover_the_vocabulary():
    tiles = GEOMETRIES["1.3b"].head_tiles(AXI512)
    assert sum(tiles) == 32000 and max(tiles) <= AXI512.max_length


SMALL = "64/2/64/40"  # fits the smallest core


def subject(text, preset):
    compiled = compile_geometry(text, preset)
    return {"program": compiled.program, "core": compiled.core, "weights": compiled.weights(), "segments": compiled.layout.stream}


@pytest.mark.parametrize(("name", "preset"), [("370m", "axi512"), ("tales", "ulx3s")])
def test_a_token_moves_its_stream_once(name, preset):
    case = subject(name, preset)
    result, core = estimate(**case), case["core"]
    assert result.units["stream"]["busy"] == sum(core.header_beats + segment.beats for segment in case["segments"])
    assert result.units["tmatmul"]["beats"] == sum(segment.beats for segment in case["segments"] if segment.kind == "ternary")
    assert result.units["tmatmul"]["beats"] * core.beat_bytes * 5 >= result.weights == GEOMETRIES[name].ternary_weights
    assert 0.9 < result.required_bytes_per_cycle / result.peak_bytes_per_cycle < 1


def test_vectors_move_beside_the_stream():
    for name, preset in (("64/3/64/40", "tiny"), ("tales", "ulx3s"), ("36/2/52/47", load_core("tiny", 4))):
        core, g = preset if isinstance(preset, CoreConfig) else load_core(preset), parse_geometry(name)
        counters, passes = (result := estimate(**subject(name, preset))).counters, result.passes
        assert counters["ldst_read_beats"] + counters["write_beats"] == passes * g.vector_beats(core)


def test_the_steady_state_is_that_of_the_rtl():
    compiled = compile_geometry(SMALL, "tiny")
    result = estimate(compiled.program, compiled.core, weights=compiled.weights(), segments=compiled.layout.stream)
    with RtlSimulator(compiled.core, compiled.program, compiled.memory(), HostSettings(limit=4)) as rtl:
        rtl.record_retires = True
        rtl.push([0])
        rtl.run()
        emit = next(pc for pc, word in enumerate(compiled.program.code) if word & 0xFF == ISA.by_name["emit"].opcode)
        emitted = [retire.cycle for retire in rtl.retires if retire.pc == emit]
    assert {after - before for before, after in pairwise(emitted)} == {result.cycles_per_token}


@pytest.mark.parametrize("memory", ["ideal", "ddr4-2400"])
def test_the_largest_geometry_takes_a_few_seconds(memory):
    case = subject("2.7b", "axi512")
    start = time.process_time()
    result = estimate(**case, memory=memory)
    assert time.process_time() - start < 5
    assert result.cycles_per_token > 8_187_392  # its matrices' beats


def test_a_program_that_emits_nothing_is_told():
    program = Program("silent", [ISA.encode("halt")], 512, 0)
    with pytest.raises(ProgramError, match="token after token, got its end after 0"):
        estimate(program, load_core("tiny"), weights=1)


def test_slower_memory_costs_cycles_and_its_pins_are_the_peak():
    case = subject("tales", "ulx3s")
    ideal, slow = estimate(**case), estimate(**case, memory="latency:60,outstanding=1")
    assert slow.cycles_per_token > ideal.cycles_per_token
    assert estimate(**case, memory="ddr3-667", clock_mhz=400).peak_bytes_per_cycle < 4 == ideal.peak_bytes_per_cycle


@pytest.mark.parametrize("batch", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_on_chip_memories_are_those_of_the_verilog(batch):
    core = load_core("tiny", batch)
    declared = re.findall(r"reg \[(\d+):0\] \S+ \[(\d+):0\]", core_verilog(core))
    sizes = Counter((int(width) + 1) * (int(depth) + 1) for width, depth in declared)
    claimed = on_chip_memories(core)
    registers, norm = claimed.pop("vector registers"), claimed.pop("norm buffer")
    tables = claimed.pop("function tables") - batch * 35 * 1024  # the noise's
    assert tables == batch * core.lanes * 256 * (28 + 30) and sizes[256 * 28] == sizes[256 * 30] == batch * core.lanes
    assert sizes[registers // 8] >= 8 and sizes[norm // core.word_elements] >= core.word_elements
    assert all(sizes[bits] for bits in claimed.values()), f"{claimed} of {sizes}"


@pytest.mark.parametrize("batch", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_no_block_memory_of_the_verilog_is_left_out(batch):
    """All memories of more than 64 words together, and nothing twice; the load's queues are as short as others that are not counted."""
    core = load_core("ulx3s", batch)
    declared = re.findall(r"reg \[(\d+):0\] \S+ \[(\d+):0\]", core_verilog(core))
    claimed = on_chip_memories(core)
    assert sum((int(width) + 1) * (int(depth) + 1) for width, depth in declared if int(depth) >= 64) == sum(
        bits for name, bits in claimed.items() if name not in ("load queue", "stream landing queue")
    )


@pytest.mark.parametrize("changes", [
    {}, {"beat_bytes": 64, "max_length": 40}, pytest.param({"max_length": 3000, "weight_fifo_beats": 64}, marks=pytest.mark.slow),
])  # fmt: skip
def test_no_block_memory_of_a_lean_core_is_left_out(changes):
    core = load_core("lean16").replace(**changes)
    declared = re.findall(r"reg \[(\d+):0\] \S+ \[(\d+):0\]", core_verilog(core, gated_clocks=False))
    claimed = on_chip_memories(core)
    buffers = (8 * core.beat_bytes, 17)  # of beats, of half words with a flag: counted however short they are
    found = [(int(width) + 1) * (int(depth) + 1) for width, depth in declared if int(depth) >= 64 or int(width) + 1 in buffers]
    assert sum(found) == sum(claimed.values()), f"{claimed} of {found}"


def test_roofline_share_is_one_when_every_beat_is_weights():
    assert roofline_share(320, 64, 1) == pytest.approx(1.0)


def test_geometry_text_is_checked():
    assert parse_geometry("8/2/16/32") == Geometry(H=8, L=2, I=16, V=32)
    with pytest.raises(ConfigError, match=r"expected a geometry .*got 'huge'"):
        parse_geometry("huge")
    with pytest.raises(ConfigError, match="H of at least 1, got 0"):
        parse_geometry("0/2/16/32")


def verb(*arguments):
    result = CliRunner().invoke(command, [*arguments, "--json"], catch_exceptions=False)
    return json.loads(result.output)


def test_the_verb_prints_the_promised_keys():
    data = verb("370m")
    keys = {"cycles_per_token", "tokens_per_second", "roofline_share", "bytes_per_token", "weight_bytes_per_token", "units", "evidence"}
    assert keys <= set(data)
    assert data["evidence"] == "exact" and data["core"] == "axi512"
    assert {"ldst", "rmsnorm", "tmatmul", "rowwise", "stream", "issue"} == set(data["units"])
    assert all({"busy", "stalls"} <= set(unit) for unit in data["units"].values())
    assert data["tokens_per_second"] == pytest.approx(data["clock_mhz"] * 1e6 / data["cycles_per_token"])


def test_the_clock_changes_seconds_and_not_cycles():
    slow, fast = verb(SMALL, "--core", "tiny", "--clock", "50"), verb(SMALL, "--core", "tiny", "--clock", "100")
    assert slow["cycles_per_token"] == fast["cycles_per_token"]
    assert fast["tokens_per_second"] == pytest.approx(2 * slow["tokens_per_second"])


def test_a_batch_makes_a_token_of_every_sequence_in_a_pass():
    one, four = (verb("64/6/256/640", "--core", "ddr128", "--batch", batch) for batch in ("1", "4"))
    assert (one["batch"], four["batch"]) == (1, 4) and four["tokens"] % 4 == 0
    assert four["weight_bytes_per_token"] == one["weight_bytes_per_token"], "weights are read once for all"
    assert four["tokens_per_second"] == pytest.approx(4 * four["tokens_per_second_per_sequence"])
    assert four["tokens_per_second_per_sequence"] == pytest.approx(four["clock_mhz"] * 1e6 / four["cycles_per_token"])
    assert one["cycles_per_token"] <= four["cycles_per_token"] < 1.5 * one["cycles_per_token"]
    assert four["bytes_per_token"] > one["bytes_per_token"] and four["on_chip_bits"] > one["on_chip_bits"]
    assert one["board"]["fits"] and four["board"]["fits"] is None, "cores of a batch were not counted, but their memories are known"
    shown = CliRunner().invoke(command, ["64/6/256/640", "--core", "ddr128", "--batch", "4"], catch_exceptions=False).output
    assert "cycles a pass" in shown and "of 4 sequences together" in shown


def test_the_batch_of_a_bundle_is_its_own(tmp_path):
    compile_model("tales", load_core("ulx3s", 2), tmp_path / "b")
    assert verb(str(tmp_path / "b"))["batch"] == 2 == verb(str(tmp_path / "b"), "--core", "ulx3s")["batch"]
    with pytest.raises(ConfigError, match="compiled for a batch of 2; compile the model with --batch 4, or leave --batch out"):
        CliRunner().invoke(command, [str(tmp_path / "b"), "--batch", "4"], catch_exceptions=False)


def test_a_shipped_model_is_estimated_by_its_own_program_and_its_core_has_a_board():
    data = verb("tales", "--core", "ulx3s")
    assert data["model"] == "tales" and data["board"]["device"] == "LFE5U-85F"
    assert data["board"]["used"]["luts"] <= data["board"]["available"]["luts"] and data["board"]["fits"]


@pytest.mark.parametrize(("core", "device", "evidence"), [
    ("ulx3s", "LFE5U-85F", "the core alone: placed and routed"),
    ("ecp5_25f", "LFE5U-25F", "with the rest of"),
    ("ddr128", "XCK26", "counted after synthesis"),
])  # fmt: skip
def test_a_core_fits_its_device_by_what_was_kept_of_it(core, device, evidence):
    board = verb("64/1/128/64", "--core", core)["board"]
    assert board["device"] == device and evidence in board["evidence"] and board["fits"]
    assert all(0 < board["used"][key] <= board["available"][key] for key in ("luts", "registers", "dsps", "brams"))


def test_a_core_whose_memories_are_too_large_does_not_fit(tmp_path):
    board = verb("64/1/128/64", "--core", "ecp5_25f", "--batch", "8")["board"]
    assert board["fits"] is False and board["used"]["memory_bits"] > board["available"]["memory_bits"] == 56 * 18432
    changed = tmp_path / "ulx3s.yaml"
    changed.write_text(resources.files("trilobit.isa").joinpath("presets/ulx3s.yaml").read_text().replace("lanes: 1", "lanes: 2"))
    assert verb("64/1/128/64", "--core", str(changed))["board"] is None, "a preset's name does not make a core the preset"


def test_a_bundle_is_estimated_on_its_own_core(tmp_path):
    compile_model("tales", "ulx3s", tmp_path / "b")
    bundle, model = verb(str(tmp_path / "b")), verb("tales", "--core", "ulx3s")
    assert bundle["core"] == "ulx3s" and bundle["cycles_per_token"] == model["cycles_per_token"]
    assert bundle["ternary_weights_per_token"] == model["ternary_weights_per_token"] == GEOMETRIES["tales"].ternary_weights
    with pytest.raises(ConfigError, match="compiled for core 'ulx3s'"):
        CliRunner().invoke(command, [str(tmp_path / "b"), "--core", "axi512"], catch_exceptions=False)


def test_people_see_units_and_evidence():
    result = CliRunner().invoke(command, [SMALL, "--core", "tiny", "--memory", "latency:9"], catch_exceptions=False)
    assert "exact: cycle model" in result.output
    assert re.search(r"^tmatmul +[\d,.]+  \w+", result.output, re.MULTILINE)


def test_the_timeline_is_that_of_one_token(tmp_path):
    data = verb(SMALL, "--core", "tiny", "--trace", str(tmp_path / "token.pftrace"))
    packets = Trace.FromString((tmp_path / "token.pftrace").read_bytes()).packet
    stamps = [packet.timestamp for packet in packets if packet.HasField("track_event")]
    assert 0.9 * data["cycles_per_token"] <= max(stamps) - min(stamps) <= data["cycles_per_token"] + 1
    assert sum(packet.track_event.name == "emit" for packet in packets) == 1
    with pytest.raises(ConfigError, match="expected to write a trace there"):
        CliRunner().invoke(command, [SMALL, "--core", "tiny", "--trace", str(tmp_path / "none" / "t")], catch_exceptions=False)


def test_what_is_no_subject_is_told():
    with pytest.raises(ConfigError, match="expected a geometry"):
        CliRunner().invoke(command, ["nothing"], catch_exceptions=False)
    with pytest.raises(ConfigError, match="above 0 MHz"):
        CliRunner().invoke(command, [SMALL, "--clock", "0"], catch_exceptions=False)


def test_power_is_a_range_whose_terms_name_their_sources():
    power = estimate_power("ulx3s", Resources(registers=1000, luts=2000, dsps=10, brams=20), clock_mhz=60, bytes_per_second=200e6)
    assert 0 < power.low_mw < power.high_mw
    assert all(term.low_mw <= term.high_mw and term.source for term in power.terms)
    # 200 MB/s at 100 pJ/bit is 160 mW.
    assert any(term.low_mw == pytest.approx(160) for term in power.terms)
    with pytest.raises(ConfigError, match="known board"):
        estimate_power("axi512", Resources(registers=1, luts=1, dsps=1, brams=1), clock_mhz=60, bytes_per_second=1)
