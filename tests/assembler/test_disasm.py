"""What the disassembler writes assembles back to the same bits: code, memory, regions, core and name."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trilobit.assembler import assemble, disassemble
from trilobit.errors import ProgramError
from trilobit.isa.fixed import Scalar
from trilobit.isa.program import ELEMENTS, Program, Region
from trilobit.isa.segments import gains_segment, matrix_segment
from trilobit.isa.spec import ISA
from trilobit.isa.trits import pack

CORES = [None, "tiny", "paper8", "axi512"]


def again(program: Program) -> Program:
    """Through text and back, with the source lines (of the text now) taken out."""
    text = disassemble(program)
    result = assemble(text)
    result.lines = program.lines
    return result


@st.composite
def values(draw, field, option, words):
    low, high = (option.low, option.high) if option else (field.lowest, field.highest)
    choices = [st.sampled_from([low, high]), st.integers(low, high)]
    if field.kind == "target":
        choices.append(st.integers(0, words - 1))  # most branches stay in the program and become labels
    if field.kind == "addr":
        choices.append(st.integers(0, 64).map(lambda k: 16 * k))
    if field.name == "len":
        choices.append(st.integers(1, 64))
    return draw(st.one_of(*choices))


@st.composite
def programs(draw):
    """Any words that decode, over a window with regions, for any core."""
    count = draw(st.integers(1, 12))
    code = []
    for _ in range(count):
        op = ISA.by_name[draw(st.sampled_from(sorted(ISA.by_name)))]
        code.append(ISA.encode(op.name, **{f.name: draw(values(f, op.options.get(f.name), count)) for f in op.fields}))
    regions, addr = {}, 0
    names = draw(st.lists(st.one_of(st.sampled_from(["X", "L0", "L3", "v1", "a.b", "core", "é"]), st.text(min_size=1)),
                          max_size=4, unique=True))  # fmt: skip
    split = draw(st.integers(0, len(names)))
    write_start = 0
    for index, name in enumerate(names):
        if index == split:
            write_start = addr
        addr += draw(st.integers(0, 40))
        size = draw(st.integers(0, 40))
        data = draw(st.one_of(st.none(), st.binary(min_size=size, max_size=size))) or None
        element = draw(st.sampled_from([None, *ELEMENTS.values()]))
        regions[name] = Region(name=name, addr=addr, size=size, data=data, element=element, writable=index >= split)
        addr += size
    if split == len(names):
        write_start = addr
    window = addr + draw(st.integers(0, 1024))
    return Program(draw(st.text(max_size=5)), code, window, write_start, regions, draw(st.sampled_from(CORES)))


@given(programs())
@settings(max_examples=150, deadline=None)
def test_any_valid_program_assembles_back_to_the_same_program(program):
    result = again(program)
    assert result.code == program.code
    assert result == program
    assert result.to_bytes() == program.to_bytes()


def test_branch_targets_are_labels_and_addresses_are_names():
    source = """.core tiny
.len 8
.region X, readonly, i16
.fill 16, 3
.region Y, writable, i16
.zero 16
start: poll
  bprompt skip
  ldv v0, [X + 16]
skip: sv [Y], v0
  seti x1, 3
  loop x1, start
"""
    text = disassemble(assemble(source))
    body = ["L0:", "poll", "bprompt L3", "ldv v0, [X + 16], len=8", "L3:", "sv [Y], v0, len=8", "seti x1, 3", "loop x1, L0"]
    assert [line.strip() for line in text.strip().split("\n")[-len(body) :]] == body
    assert ".unchecked" not in text


def test_streams_are_written_as_segments():
    print("seed 7")
    rng = np.random.default_rng(7)
    trits = rng.integers(-1, 2, (7, 9))
    beat = 4
    data = (
        gains_segment(np.array([1, -2, 32767]), beat)
        + matrix_segment(pack(trits), 7, Scalar(200_000, -31), beat)
        + matrix_segment(pack(trits), 7, Scalar(0, 0), beat)
    )
    size = -(-len(data) // 16) * 16
    program = Program("s", [], size, size, {"W": Region(name="W", addr=0, size=len(data), data=data)}, "tiny")
    text = disassemble(program)
    assert ".gains 1, -2, 32767" in text
    assert f".ternary 7, 9, scale={200_000 * 2.0**-31!r}\n" in text
    assert ".ternary 7, 9, scale=0.0\n" in text
    assert ".u8" not in text
    assert again(program) == program


@pytest.mark.parametrize("damage", [0, 14, 16, 27, 40])
def test_streams_that_no_assembler_writes_are_kept_as_bytes(damage):
    data = bytearray(gains_segment(np.array([1, -2, 3]), 4) + matrix_segment(pack(np.ones((3, 5), dtype=int)), 3, Scalar(1, 3), 4))
    data[damage] ^= 0xFF
    region = Region(name="W", addr=0, size=len(data), data=bytes(data))
    program = Program("s", [], 64, 64, {"W": region}, "tiny")
    assert ".u8" in disassemble(program)
    assert again(program) == program


def test_instructions_that_break_a_rule_are_marked_and_come_back():
    code = [ISA.encode("mov", vd=0, vb=1, len=n) for n in (64, 65, 8)] + [ISA.encode("jump", target=9)]
    program = Program("p", code, core="tiny")
    text = disassemble(program)
    assert text.count(".unchecked") == 2 and text.count(".checked") == 1
    assert again(program) == program


def test_a_core_that_is_no_preset_is_named_in_a_comment():
    program = Program("p", [ISA.encode("halt")], core="mine")
    assert "; for core 'mine': give it with --core" in disassemble(program)


def test_words_that_are_no_instructions_are_refused_by_index():
    with pytest.raises(ProgramError, match="word 1: undefined opcode 0xff"):
        disassemble(Program("p", [ISA.encode("halt"), 0xFF]))
