"""The reference page of the assembly language says what the assembler does."""

import re
from pathlib import Path

import pytest

from trilobit.assembler import assemble, disassemble
from trilobit.assembler.regions import DATA_DIRECTIVES
from trilobit.isa.program import ELEMENTS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "assembly.md"


def test_the_example_on_the_page_assembles_and_comes_back():
    (example,) = re.findall(r"```asm\n(.*?)```", PAGE.read_text(), re.DOTALL)
    program = assemble(example)
    assert len(program.code) == 6
    again = assemble(disassemble(program))
    again.lines = program.lines
    assert again == program


@pytest.mark.parametrize("directive", [*DATA_DIRECTIVES, ".core", ".equ", ".len", ".include", ".name", ".window", ".region",
                                       ".unchecked", ".checked"])  # fmt: skip
def test_every_directive_is_on_the_page(directive):
    assert f"`{directive}" in PAGE.read_text()


def test_every_element_type_is_on_the_page():
    assert all(f"`{name}`" in PAGE.read_text() for name in ELEMENTS)
