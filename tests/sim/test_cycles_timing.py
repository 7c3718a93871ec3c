"""The timing description against the hardware's own constants, and the model's tables against their origin."""

import pytest

from trilobit.hdl import core, counters, dot, fifo, matmul, memarb, pc, rmsnorm, rmsnorm_lane, rmsnorm_scalar, rowwise, scale, stream
from trilobit.isa.core import REQUEST_BOUNDARY, load_core, presets
from trilobit.isa.trits import ROWS_PER_BYTE
from trilobit.sim import cycles_build
from trilobit.sim.cycles_decode import decode_program
from trilobit.sim.cycles_timing import timing, timing_table

HARDWARE = {
    "rowwise": {"result": rowwise.ROWWISE_LATENCY, "retire": rowwise.RETIRE_LATENCY},
    "rmsnorm": {
        "square_x": rmsnorm_lane.SQUARE_X_STAGE, "z": rmsnorm_lane.Z_STAGE, "reduce": rmsnorm._REDUCE, "drained": rmsnorm._DRAINED,
        "write": rmsnorm_lane.WRITE_STAGE, "feed_ahead": rmsnorm_scalar.FEED_AHEAD, "total": rmsnorm_scalar.TOTAL_CLOCKS,
        "inverse": rmsnorm_scalar.INVERSE_CLOCKS, "norm_factor": rmsnorm_scalar.NORM_FACTOR_CLOCKS,
        "normq_factor": rmsnorm_scalar.NORMQ_FACTOR_CLOCKS, "tail": rmsnorm_lane.Z_STAGE + 2,
    },
    "tmatmul": {
        "dot": dot.dot_latency(1) - 1, "levels_a_stage": dot.LEVELS_A_STAGE, "scale": scale.SCALE_LATENCY, "group": ROWS_PER_BYTE,
    },
    "stream": {
        "regions": stream.REGIONS, "headers": stream.HEADERS, "gain_segments": stream.GAIN_SEGMENTS, "boundary": REQUEST_BOUNDARY,
    },
    "memory": {"outstanding": memarb.OUTSTANDING},
    "host": {"queue": core.QUEUE_DEPTH, "offer": fifo.BLOCK_FIFO_LATENCY},
    "program_counter": {"watchdog": (1 << pc.WATCHDOG_BITS) - 1},
}  # fmt: skip
BY_FUNCTION = {("stream", "landing_blocks"), ("stream", "landing_least"), ("host", "settle")}


@pytest.mark.parametrize("unit", HARDWARE)
def test_the_description_says_what_the_hardware_does(unit):
    table = {name: cycles for name, cycles in timing_table()[unit].items() if (unit, name) not in BY_FUNCTION}
    assert table == HARDWARE[unit]


@pytest.mark.parametrize("preset", [name for name in presets() if load_core(name).machine == "pipelined"])
def test_what_depends_on_the_core_is_the_hardwares(preset):
    config, table = load_core(preset), timing_table()
    product, streams = table["tmatmul"], table["stream"]
    levels = config.beat_bytes.bit_length() - 1
    assert dot.dot_latency(config.beat_bytes) == product["dot"] + max(-(-levels // product["levels_a_stage"]), 1)
    block = min(config.burst_beats, streams["boundary"] // config.beat_bytes)
    assert config.burst_block == block
    assert stream.landing_beats(config) == max(streams["landing_blocks"] * block, streams["landing_least"])
    drain = matmul.dot_latency(config.beat_bytes) + 1 + 4 + product["scale"] + 1
    assert matmul.drain_clocks(config, 5) == drain


def test_every_number_has_its_place_in_the_model():
    values = [cycles for numbers in timing_table().values() for cycles in numbers.values()]
    assert [getattr(timing(), name) for name, _ in timing()._fields_] == values
    assert fifo.BLOCK_FIFO_LATENCY == 2, "the model's block queues are built like hdl/fifo.py"


def test_counters_have_the_hardwares_names_and_order():
    assert cycles_build.COUNTERS == counters.COUNTERS
    assert cycles_build.STALLS == counters.STALLS


def test_the_settling_time_is_the_harnesss():
    from importlib import resources

    harness = resources.files("trilobit.sim").joinpath("harness.cpp").read_text()
    assert f"PROMPT_SETTLE = {timing_table()['host']['settle']};" in harness


def test_every_instruction_is_known_to_the_model():
    from trilobit.isa.program import Program
    from trilobit.isa.spec import ISA

    config = load_core("tiny")
    code = [op.opcode | 1 << 32 for op in ISA.by_name.values()]
    decoded = decode_program(Program("all", code, 1 << 20, 0), config)
    kinds = {op.name: decoded[k].kind for k, op in enumerate(ISA.by_name.values())}
    elementwise = {op.name for op in ISA.by_name.values() if op.unit == "rowwise" and op.name != "argmax"}
    assert {kinds[name] for name in elementwise} == {0}
    others = [kind for name, kind in kinds.items() if name not in elementwise]
    assert len(set(others)) == len(others) and 0 not in others
