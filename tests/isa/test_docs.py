"""docs/isa.md is what the data says now, and says all of it."""

import pytest

from trilobit.isa import docs
from trilobit.isa.spec import ISA


def test_the_page_is_fresh():
    if not docs.PAGE.parent.is_dir():
        pytest.skip("installed without docs/")
    assert docs.main(["--check"]) == 0, "run python -m trilobit.isa.docs"


def test_check_fails_for_a_stale_or_missing_page_and_writes_nothing(tmp_path, capsys):
    page = tmp_path / "isa.md"
    assert docs.main(["--check", "-o", str(page)]) == 1
    page.write_text("old")
    assert docs.main(["--check", "-o", str(page)]) == 1
    assert page.read_text() == "old"
    assert "is stale: run python -m trilobit.isa.docs" in capsys.readouterr().err
    assert docs.main(["-o", str(page)]) == 0
    assert docs.main(["--check", "-o", str(page)]) == 0


def test_every_instruction_has_its_bits_formula_and_options():
    sections = {part.split("\n", 1)[0]: part for part in docs.page().split("\n### ")[1:]}
    assert set(sections) == set(ISA.by_name)
    for op in ISA.by_name.values():
        text = sections[op.name]
        assert f"| 7..0 | op | opcode | {op.opcode:#04x} |" in text
        for field in op.fields:
            bits = f"{field.lo + field.width - 1}..{field.lo}" if field.width > 1 else str(field.lo)
            assert f"| {bits} | {field.name} |" in text, (op.name, field.name)
        for line in op.formula.split("; "):
            assert line in text
        if op.unit == "rowwise":
            assert "Defined by `trilobit.isa.semantics." in text


def test_bits_of_every_table_add_up_to_the_word():
    for part in docs.page().split("\n### ")[1:]:
        total = 0
        for row in part.split("\n"):
            cells = row.split("|")
            if len(cells) > 2 and (bits := cells[1].strip())[:1].isdigit():
                high, _, low = bits.partition("..")
                total += int(high) - int(low or high) + 1
        assert total == ISA.word_bits, part[:20]
