"""Instruction words: encode and decode are inverse, and everything else is refused with the field's name."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trilobit.errors import ProgramError
from trilobit.isa.spec import ISA


@st.composite
def instructions(draw):
    """A mnemonic and values of all its fields."""
    op = ISA.by_name[draw(st.sampled_from(sorted(ISA.by_name)))]
    values = {}
    for field in op.fields:
        option = op.options.get(field.name)
        low, high = (option.low, option.high) if option else (field.lowest, field.highest)
        values[field.name] = draw(st.one_of(st.sampled_from([low, high]), st.integers(low, high)))
    return op.name, values


@given(instructions())
@settings(max_examples=400, deadline=None)
def test_decode_is_the_inverse_of_encode(case):
    name, values = case
    word = ISA.encode(name, **values)
    decoded = ISA.decode(word)
    assert (decoded.name, decoded.values) == (name, values)
    assert 0 <= word < 1 << 128


@given(instructions(), st.integers(0, 127))
@settings(max_examples=400, deadline=None)
def test_a_flipped_bit_is_refused_or_another_valid_instruction(case, bit):
    word = ISA.encode(case[0], **case[1]) ^ (1 << bit)
    try:
        decoded = ISA.decode(word)
    except ProgramError as error:
        assert any(text in str(error) for text in ("undefined opcode", "must be zero", "expected"))
    else:
        assert ISA.encode(decoded.name, **decoded.values) == word


def test_a_bit_outside_the_fields_is_named():
    word = ISA.encode("halt")
    with pytest.raises(ProgramError, match="halt: bits 0x100 must be zero"):
        ISA.decode(word | 1 << 8)


def test_an_undefined_opcode_is_named():
    with pytest.raises(ProgramError, match="undefined opcode 0xff"):
        ISA.decode(0xFF)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("lood", {}, "expected a mnemonic of the instruction set, got 'lood'"),
        ("mov", {"vd": 0, "vb": 0, "len": 0}, "mov: expected 'len' from 1 to 65535, got 0"),
        ("mov", {"vd": 8, "vb": 0, "len": 1}, "mov: expected 'vd' from 0 to 7, got 8"),
        ("mov", {"vd": 0, "vb": 0, "len": 1, "shb": 32}, "mov: expected 'shb' from -31 to 31, got 32"),
        ("mov", {"vd": 0, "vb": 0}, "mov: expected a value for 'len', got none"),
        ("mov", {"vd": 0, "vb": 0, "len": 1, "sho": 3}, "mov: no field 'sho'; it has"),
        ("halt", {"len": 1}, "halt: no field 'len'; it has none"),
    ],
)
def test_wrong_values_are_refused_by_name(name, values, message):
    with pytest.raises(ProgramError, match=message):
        ISA.encode(name, **values)


def test_a_word_with_a_value_out_of_range_does_not_decode():
    word = ISA.encode("mov", vd=0, vb=0, len=1)
    with pytest.raises(ProgramError, match="mov: expected 'len' from 1 to 65535, got 0"):
        ISA.decode(word & ~ISA.fields["len"].mask)
