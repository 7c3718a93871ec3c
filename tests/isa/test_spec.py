"""The ISA's data is checked when it is loaded: each rule is broken in a copy, and the message names the place."""

import copy
from importlib import resources

import pytest
import yaml

from trilobit.isa import semantics
from trilobit.isa.spec import ISA, InstructionSet

DATA = yaml.safe_load(resources.files("trilobit.isa").joinpath("isa.yaml").read_text())


def broken(change) -> InstructionSet:
    data = copy.deepcopy(DATA)
    change(data)
    return InstructionSet(data)


BREAKS = {
    "overlap": (
        lambda d: d["fields"]["shb"].update(lo=50),
        "rms: field 'shb' overlaps another",
    ),
    "overlap with the opcode": (
        lambda d: d["fields"]["vd"].update(lo=6),
        "ldv: field 'vd' overlaps another",
    ),
    "outside the word": (
        lambda d: d["fields"]["imm"].update(lo=120),
        r"field 'imm': bits 120\.\.135 leave the word",
    ),
    "range beyond the field": (
        lambda d: d["instructions"]["add"]["options"]["shb"].update(range=[-200, 31]),
        r"add: range -200\.\.31 does not fit field 'shb' of 8 bits",
    ),
    "default outside the range": (
        lambda d: d["instructions"]["norm"]["options"]["c_m"].update(default=5),
        "norm: default 5 of 'c_m' is outside",
    ),
    "unknown operand": (
        lambda d: d["instructions"]["mov"].update(operands=["vd", "vx"]),
        "mov: no field 'vx' in the word",
    ),
    "unknown option": (
        lambda d: d["instructions"]["mov"]["options"].update(foo={"range": [0, 1]}),
        "mov: no field 'foo' in the word",
    ),
    "opcode taken": (
        lambda d: d["instructions"]["halt"].update(opcode=0x01),
        "halt: opcode 0x1 is taken or out of range",
    ),
    "opcode too large": (
        lambda d: d["instructions"]["halt"].update(opcode=0x100),
        "halt: opcode 0x100 is taken or out of range",
    ),
    "unknown unit": (
        lambda d: d["instructions"]["halt"].update(unit="host"),
        "halt: unit 'host' is none of",
    ),
    "reads what is no operand": (
        lambda d: d["instructions"]["mov"].update(reads=["va"]),
        "mov: 'va' is read or written but is no operand",
    ),
}


@pytest.mark.parametrize("case", BREAKS)
def test_broken_data_is_refused_by_name(case):
    change, message = BREAKS[case]
    with pytest.raises(ValueError, match=message):
        broken(change)


def test_the_data_as_it_is_loads():
    assert len(broken(lambda d: None).by_name) == len(DATA["instructions"]) == len(ISA.by_opcode)


def test_every_bit_of_every_instruction_is_a_field_or_zero():
    for op in ISA.by_name.values():
        widths = 8 + sum(field.width for field in op.fields)
        assert op.defined_bits.bit_count() == widths, op.name
        assert op.defined_bits < 1 << ISA.word_bits


def test_every_vector_operand_is_read_or_written():
    for op in ISA.by_name.values():
        vectors = {field.name for field in op.operands if field.kind == "vreg"}
        assert vectors == set(op.reads) | set(op.writes), op.name


def test_every_rowwise_instruction_has_its_semantics_and_the_other_way_round():
    rowwise = {name for name, op in ISA.by_name.items() if op.unit == "rowwise"}
    assert rowwise == set(semantics.ROWWISE) | {"argmax"}


def test_semantics_take_the_options_of_the_data_with_the_same_defaults():
    import inspect

    for name, function in semantics.ROWWISE.items():
        op = ISA.by_name[name]
        parameters = inspect.signature(function).parameters
        keywords = {p.name: p.default for p in parameters.values() if p.kind is p.KEYWORD_ONLY}
        assert set(keywords) == set(op.options) - {"len"}, name
        for key, default in keywords.items():
            expected = op.options[key].default
            assert (None if default is inspect.Parameter.empty else default) == expected, (name, key)
        assert len(parameters) - len(keywords) == len(op.reads), name
