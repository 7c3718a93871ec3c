"""Each fault with its cause and pc, the order in which causes are found, and that nothing else is touched."""

import re

import numpy as np
import pytest
from functional_support import TINY, WINDOW, WRITE_START, gains, machine, matrix

from trilobit.isa.fixed import Scalar
from trilobit.isa.spec import ISA
from trilobit.sim.backend import FAULTS

SCALE = Scalar(1 << 17, -17)
STEP = TINY.beat_bytes


def fields(name, **values):
    """A word with field values that the encoder would refuse."""
    word = ISA.by_name[name].opcode
    for key, value in values.items():
        word |= value << ISA.fields[key].lo
    return word


def check_fault(sim, cause, pc):
    before = [sim.register(i) for i in range(8)], sim.memory.copy()
    result = sim.run()
    assert (result.fault, result.fault_pc, result.halted) == (cause, pc, False), sim.fault_detail
    assert result.fault in FAULTS
    assert all((sim.register(i) == before[0][i]).all() for i in range(8))
    assert (sim.memory == before[1]).all()
    retired = result.retired
    assert sim.step() is None and sim.run().retired == retired, "a stopped machine stays stopped"


STATIC = [
    (0xFE, 1),
    (0xFE | 0xFF << 32, 1),
    (fields("add", len=0), 2),
    (fields("add", len=TINY.max_length + 1), 2),
    (fields("ldv", len=0, addr=WINDOW), 2),
    (fields("sv", len=TINY.max_length + 1, addr=0), 2),
    (fields("ldv", len=9, addr=WINDOW - 16), 3),
    (fields("ldv", len=5, addr=WINDOW - 16, wide=1), 3),
    (fields("ldv", len=1, addr=(1 << 40) - 16), 3),
    (fields("sv", len=1, addr=WINDOW), 3),
    (fields("clr", beats=5, addr=WINDOW - 16), 3),
    (fields("clr", beats=(1 << 32) - 1, addr=0), 3),
    (fields("stream", beats=5, addr=WINDOW - 16), 3),
    (fields("emb", len=8, addr=WINDOW - 8, pitch=16, rows=1), 3),
    (fields("sv", len=1, addr=0), 4),
    (fields("sv", len=1, addr=WRITE_START - 16), 4),
    (fields("clr", beats=1, addr=WRITE_START - 16), 4),
]
"""Words that fault whatever the data, with their cause."""


@pytest.mark.parametrize("word, cause", STATIC)
def test_static_faults(word, cause):
    check_fault(machine("nop", word, "halt"), cause, 1)


@pytest.mark.parametrize(
    "item",
    [
        ("ldv", {"vd": 0, "len": 8, "addr": WINDOW - 16}),
        ("sv", {"va": 0, "len": 8, "addr": WINDOW - 16}),
        ("sv", {"va": 0, "len": 4, "addr": WRITE_START, "wide": 1}),
        ("clr", {"beats": 4, "addr": WINDOW - 16}),
        ("mov", {"vd": 0, "vb": 0, "len": TINY.max_length}),
    ],
)
def test_the_last_legal_place_is_no_fault(item):
    assert machine(item, "halt").run().halted


def test_pc_outside_the_program():
    check_fault(machine("nop", "nop"), 8, 2)
    check_fault(machine(("jump", {"target": 77})), 8, 77)


def test_token_not_below_rows_comes_before_its_row_s_address():
    emb = ("emb", {"vd": 0, "addr": WINDOW - 64, "len": 8, "pitch": 16, "rows": 4})
    assert not (sim := _with_token(emb, 3)).run().fault
    check_fault(_with_token(emb, 4), 7, 1)
    far = ("emb", {"vd": 0, "addr": WINDOW - 64, "len": 8, "pitch": 16, "rows": 5})
    check_fault(_with_token(far, 4), 3, 1)
    assert sim.result().halted


def _with_token(item, token):
    sim = machine("wait", item, "halt")
    sim.push([token])
    return sim


def stream_program(data, *instructions):
    return machine(("stream", {"addr": 0, "beats": len(data) // STEP}), *instructions, "halt", data=data)


NORMQ = ("normq", {"act": 0, "va": 0, "sc": 0, "len": 8})
NORMQ_GAIN = ("normq", {"act": 0, "va": 0, "sc": 0, "len": 8, "gain": 1})
PRODUCT = ("tmatmul", {"vd": 1, "act": 0, "addr": 0, "len": 5, "bp": 0})
MATRIX = matrix(np.ones((5, 8), int), SCALE)


def test_the_matching_segments_are_no_fault():
    assert stream_program(MATRIX, NORMQ, PRODUCT).run().halted
    assert stream_program(gains(np.ones(8, int)), NORMQ_GAIN).run().halted


@pytest.mark.parametrize(
    "change",
    [{"addr": STEP}, {"addr": WINDOW - 16}, {"addr": 1 << 39}, {"len": 6}, {"len": 4}],
)
def test_product_with_another_segment_faults(change):
    check_fault(stream_program(MATRIX, NORMQ, ("tmatmul", PRODUCT[1] | change)), 5, 2)


def test_product_with_another_number_of_activations_faults():
    check_fault(stream_program(MATRIX, PRODUCT), 5, 1)
    check_fault(stream_program(MATRIX, ("normq", NORMQ[1] | {"len": 7}), PRODUCT), 5, 2)


@pytest.mark.parametrize("item", [
    ("normq", {"act": 0, "va": 0, "sc": 0, "len": 7, "gain": 1}), ("norm", {"vd": 0, "va": 0, "len": 9, "sho": 0, "gain": 1}),
    ("rms", {"sc": 0, "va": 0, "vb": 0, "len": 9, "gain": 1}),
])  # fmt: skip
def test_gains_of_another_length_fault(item):
    check_fault(stream_program(gains(np.ones(8, int)), item), 5, 1)


@pytest.mark.parametrize("item", [NORMQ_GAIN, ("tmatmul", {"vd": 1, "act": 0, "addr": 0, "len": 5, "bp": 0})])
def test_an_empty_stream_faults(item):
    check_fault(machine("nop", item, "halt"), 5, 1)


@pytest.mark.parametrize("byte", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14, 15])
def test_a_damaged_header_faults(byte):
    data = bytearray(MATRIX)
    data[byte] ^= 0x40
    check_fault(stream_program(bytes(data), NORMQ, PRODUCT), 5, 2)


def test_a_segment_beyond_the_core_or_its_region_faults():
    long = matrix(np.ones((5, TINY.max_length + 1), int), SCALE)
    check_fault(stream_program(long, NORMQ, PRODUCT), 5, 2)
    tall = matrix(np.ones((TINY.max_length + 1, 8), int), SCALE)
    check_fault(stream_program(tall, NORMQ, PRODUCT), 5, 2)
    short = stream_program(MATRIX[:-STEP], NORMQ, PRODUCT)
    check_fault(short, 5, 2)
    assert re.search(rf"end beyond {len(MATRIX) - STEP:#x}, the end of the memory or of the stream's region", short.fault_detail)


@pytest.mark.parametrize("mantissa", [1, (1 << 17) - 1])
def test_a_scale_that_is_not_normalised_faults_and_zero_does_not(mantissa):
    ones = np.ones((5, 8), int)
    check_fault(stream_program(matrix(ones, Scalar(mantissa, 0)), NORMQ, PRODUCT), 5, 2)
    assert stream_program(matrix(ones, Scalar(0, 0)), NORMQ, PRODUCT).run().halted


def test_a_fault_says_what_it_was_about():
    sim = stream_program(MATRIX, NORMQ, ("tmatmul", PRODUCT[1] | {"len": 6}))
    sim.run()
    assert "expected the matrix at 0x0 with 6 rows and 8 columns" in sim.fault_detail
