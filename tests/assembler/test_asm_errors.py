"""Errors in assembly: file:line:column, the line and a caret, all of a file at once, and what was probably meant."""

import pytest

from trilobit.assembler import assemble, assemble_file
from trilobit.errors import ConfigError, ProgramError

HEAD = ".core tiny\n.region X, readonly, i16\n.fill 32, 1\n.region Y, writable, i16\n.zero 64\n"
HEAD_LINES = HEAD.count("\n")


def errors(text: str, **options) -> str:
    with pytest.raises(ProgramError) as caught:
        assemble(text, **options)
    return str(caught.value)


def test_an_error_shows_place_line_and_caret():
    assert errors("  nop\n\tadd v0, v9, v2, len=4\n", path="dir/prog.s") == (
        "dir/prog.s:2:10: add: expected a vector register v0-v7 as va, got 'v9'; did you mean 'v7'?\n"
        "    \tadd v0, v9, v2, len=4\n"
        "    \t        ^\n"
        "1 error"
    )


LINES = [
    # statement, column, message
    ("ad v0, v1, v2", 1, "unknown mnemonic 'ad'; did you mean 'add'?"),
    ("  TMATMUL v0, a0, [X]", 3, "unknown mnemonic 'TMATMUL'; did you mean 'tmatmul'?"),
    (".regoin Z, readonly", 1, "unknown directive '.regoin'; did you mean '.region'?"),
    ("mov v0, v8, len=1", 9, "mov: expected a vector register v0-v7 as vb, got 'v8'"),
    ("mov v0, a1, len=1", 9, "mov: expected a vector register v0-v7 as vb, got 'a1'"),
    ("normq a2, v0, s0, len=1", 7, "normq: expected an activation buffer a0 or a1 as act, got 'a2'; did you mean 'a1'?"),
    ("normq a1, v0, s4, len=1", 15, "normq: expected a scalar register s0-s3 as sc, got 's4'"),
    ("seti x9, 1", 6, "seti: expected a loop counter x0-x3 as cnt, got 'x9'"),
    ("seti x0, 40000", 10, "expected imm from 0 to 32767, got 40000"),
    ("mov v0, v1, lenn=4", 13, "mov: unknown option 'lenn'; did you mean 'len'? (usage: mov vd, vb, len=, shb=, wide)"),
    ("mov v0, v1, len=4, wyde", 20, "mov: unknown option 'wyde'; did you mean 'wide'?"),
    ("mov v0, v1, len=4, sho=2", 20, "mov: unknown option 'sho'; did you mean 'shb'?"),
    ("mov v0, v1, len", 13, "mov: expected a value, as in len=1"),
    ("mov v0, v1", 1, "mov: expected len= (vector length in elements) or a .len before; usage: mov vd, vb, len=, shb=, wide"),
    ("norm v0, v1, len=3", 1, "norm: expected sho= (right shift of the result)"),
    ("add v0, v1", 1, "add: expected vb (second source vector register); usage: add vd, va, vb, len=, shb=, sho=, wide"),
    ("mov v0, v1, len=0", 17, "expected len from 1 to 65535, got 0"),
    ("mov v0, v1, len=65", 13, "mov: expected len up to 64 on core 'tiny', got 65"),
    ("mov v0, v1, len=4, shb=32", 24, "expected shb from -31 to 31, got 32"),
    ("mov v0, v1, len=4, wide=2", 25, "expected wide from 0 to 1, got 2"),
    ("mov v0, v1, len=4, len=5", 20, "mov: 'len' is given twice"),
    ("mov v0, v1, len=5/2", 17, "expected len as a whole number, got 2.5"),
    ("mov v0, v1, len=1 +", 20, "expected a value"),
    ("mov v0, v1, len=(1 + 2", 17, "expected a ')' for this '('"),
    ("mov v0, v1, len=1 2", 19, "expected an operator or the end, got '2'"),
    ("mov v0, v1, len=4 $ 4", 19, "expected a number, a name or an operator, got '$'"),
    ("mov v0, v1, len=0x", 18, "expected an operator or the end, got 'x'"),
    ("mov v0, v1, len=1/0", 18, "division by zero"),
    ("mov v0, v1, len=1<<400", 18, "expected a shift from 0 to 128, got 400"),
    ("mov v0, v1, len=1.5|2", 20, "expected whole numbers on both sides of '|', got 1.5 and 2"),
    ("mov v0, v1, len=v3", 17, "expected a number or a name, got register 'v3'"),
    ("mov v0, v1, len=" + "(" * 100 + "1" + ")" * 100, 82, "expected at most 64 levels of nesting"),
    ("mov v0, v1, len=" + "1+" * 5000 + "1", 17, "expected a shorter expression: it is too deeply nested"),
    ("mov v0, v1, len=Xx.len", 17, "undefined name 'Xx.len'"),
    ("ldv v0, x, len=4", 9, "undefined name 'x'; did you mean 'X'?"),
    ("mov v0, v1, len=X.rows", 17, "'X' has no 'rows'; it has addr, beats, len, size"),
    ("ldv v0, here, len=4", 9, "'here' is the label of an instruction; expected an address or a number"),
    ("jump X", 6, "'X' is in memory; expected the label of an instruction"),
    ("jump 77", 6, "jump: expected an instruction of the program (0 to 1), got 77"),
    ("nop 5", 5, "nop: expected no operands, got '5'"),
    ("ldv v0, [X + 2], len=4", 9, "ldv: expected an address in multiples of 16, got 2"),
    ("ldv v0, [0x10000], len=4", 9, "ldv: expected an address inside the window of 128 bytes, got 8 bytes at 0x10000"),
    ("ldv v0, [Y + 48], len=9", 9, "ldv: expected an address inside the window of 128 bytes, got 18 bytes at 0x70"),
    ("tmatmul v0, a0, [4096], len=4, bp=0", 17, "tmatmul: expected an address inside the window of 128 bytes, got 16 bytes at 0x1000"),
    ("tmatmul v0, a0, [6], len=4, bp=0", 17, "tmatmul: expected an address in multiples of 4, got 6"),
    ("stream X, beats=99", 8, "stream: expected an address inside the window of 128 bytes, got 396 bytes at 0x0"),
    ("emb v0, X, len=4, pitch=16, rows=9", 9, "emb: expected an address inside the window of 128 bytes, got 136 bytes at 0x0"),
    ("emb v0, X, len=4, pitch=24, rows=2", 19, "emb: expected pitch in multiples of 16, got 24"),
    ("sv [X], v0, len=4", 4, "sv: expected an address in a writable region (from 0x40 on), got 0x0"),
    ("clr [X], beats=1", 5, "clr: expected an address in a writable region (from 0x40 on), got 0x0"),
    ("%%", 1, "expected a label, a mnemonic or a directive, got '%%'"),
    ("here: nop", 1, "'here' is defined already, in <text>:6"),
    ("v0: nop", 1, "expected a new name, got 'v0', which the assembler defines itself"),
    (".equ N", 1, "expected .equ NAME, VALUE"),
    (".equ v0, 1", 6, "expected a new name, got 'v0', which the assembler defines itself"),
    (".equ A, A + 1", 9, "constant 'A' refers to itself"),
    (".equ X, 1", 6, "'X' is defined already, in <text>:2"),
    (".len", 1, "expected .len ELEMENTS, got 0 arguments"),
    (".core tiny", 1, "the core is given already, in line 1"),
    (".i16 5", 1, ".i16: expected a .region before data"),
    ("+ - 0", 1, "expected .ternary above rows of + - 0"),
    (".checked now", 10, ".checked: expected no arguments"),
    (".name tiny", 7, "expected a name as a string in \"quotes\", got 'tiny'"),
    (".window", 1, "expected .window BYTES or .window BYTES, write_start=ADDRESS"),
    (".region Z", 1, "expected .region NAME, readonly|writable"),
    (".region Z, readable", 12, "expected readonly or writable, got 'readable'"),
    (".region Z, readonly, i17", 22, "expected an element type of i8, u8, i16, u16, i32, u32, stream, got 'i17'; did you mean 'i16'?"),
    (".region Z, readonly, i16, att=5", 27, "unknown option 'att'; did you mean 'at'?"),
    (".region 9, readonly", 9, "expected a name for the region, got '9'"),
    (".region X, readonly", 9, "'X' is defined already, in <text>:2"),
    (".region Z, readonly, i16, at=16, size=4", 1, "'Z' at 0x10 overlaps 'X'"),
    ('.include "gone.s"', 10, "expected a source in a file"),
    ("nop, nop", 1, "expected a label, a mnemonic or a directive, got 'nop, nop'"),
]


@pytest.mark.parametrize(("line", "column", "message"), LINES, ids=[line[:40].strip() for line, _, _ in LINES])
def test_a_wrong_line_is_one_error_at_its_place(line, column, message):
    text = errors(f"{HEAD}here: halt\n{line}\n")
    head, *_ = text.split("\n")
    assert head.startswith(f"<text>:{HEAD_LINES + 2}:{column}: {message}"), text
    assert text.endswith("1 error")
    assert text.split("\n")[2] == "    " + " " * (column - 1) + "^"


DATA = [
    (".i16 1, 40000, 2", 9, "expected a value from -32768 to 32767, got 40000"),
    (".u8 -1", 5, "expected a value from 0 to 255, got -1"),
    (".i16", 1, ".i16: expected values"),
    (".i16 1.5", 6, "expected a value as a whole number, got 1.5"),
    (".i16 random=1", 1, "expected random=SEED with count=N and no values"),
    (".i16 random=1, count=4, low=5, high=1", 37, "expected high from 5 to 32767, got 1"),
    (".i16 1, cuont=2", 9, ".i16: unknown option 'cuont'; it takes count, random, low, high; did you mean 'count'?"),
    (".zero", 1, "expected .zero BYTES, got 0 values"),
    (".zero 1 << 60", 7, "expected bytes from 0 to 1099511627776"),
    (".zero Z.size", 7, "'size' of 'Z' isn't known while data is laid out"),
    (".fill 3, 1", 1, ".fill: expected a region with an element type"),
    (".ternary 2", 1, "expected .ternary ROWS, COLUMNS, got 1 values"),
    (".ternary 2, 3", 1, "expected 2 rows of + - 0 below, got 0; or give random=SEED"),
    (".ternary 2, 3, scale=-1, random=1", 22, "scale: expected a finite scale of at least 0, got -1.0"),
    (".ternary 0, 3, random=1", 10, "expected rows from 1 to 65535, got 0"),
    (".ternary 1, 3\n+-\n", None, "expected 3 trits, got 2"),
    (".ternary 1, 3, random=1\n+-0\n", 1, "expected either random=SEED or rows of + - 0, got both"),
    (".u8 1\n+-0\n", None, "expected .ternary above rows of + - 0"),
    (".u8 1\n.gains 1", None, "a segment starts at a multiple of 4 bytes, got 1; use .align"),
    (".gains 1.5", 8, "expected a value as a whole number, got 1.5"),
    (".gains 9.0, bp=14", 8, "expected a value from -2.0 to 1.99993896484375, got 9.0"),
]


@pytest.mark.parametrize(("line", "column", "message"), DATA, ids=[line[:30].split("\n")[0] for line, _, _ in DATA])
def test_wrong_data_is_one_error_at_its_place(line, column, message):
    text = errors(f".core tiny\n.region Z, readonly, stream\n{line}\n")
    number = 3 if column else 4
    assert text.startswith(f"<text>:{number}:{column or 1}: {message}"), text
    assert text.endswith("1 error")


def test_regions_must_fit_a_window_that_is_given():
    message = errors(f"{HEAD}.window 80, write_start=16\nhalt\n")
    assert "<text>:2:1: 'X' is read-only but ends at 0x40, above write_start 0x10" in message
    message = errors(f"{HEAD}.window 80, write_start=64\nhalt\n")
    assert message.startswith("<text>:4:1: 'Y' ends at 0x80, outside the window of 80 bytes")
    message = errors(".window 80, write_start=64\n.region Y, writable, i16, at=32, size=4\n")
    assert message.startswith("<text>:2:1: 'Y' is writable but at 0x20, below write_start 0x40")


def test_segments_need_a_core():
    message = errors(".region W, readonly, stream\n.gains 1, 2\nstream W, beats=4\n")
    assert "<text>:2:1: .gains needs .core NAME or --core: segments depend on beat_bytes" in message
    assert "1:17: expected .core NAME or --core: beats depend on the core" in errors(
        "stream W, beats=W.beats\n.region W, readonly\n.zero 4\n"
    )


def test_all_errors_of_a_file_come_in_one_go_and_in_order():
    text = f"{HEAD}ad v0\nmov v9, v1\n.i16 4\nldv v0, Q, len=0\nloop x0, nowhere\n.region Z, readonly\n.i16 70000, what\n"
    message = errors(text)
    places = [line.split(": ")[0] for line in message.split("\n") if line.startswith("<text>")]
    assert places == [
        "<text>:6:1", "<text>:7:1", "<text>:7:5", "<text>:8:1", "<text>:9:9", "<text>:9:16", "<text>:10:10",
        "<text>:12:6", "<text>:12:13",
    ]  # fmt: skip
    assert message.endswith("9 errors")


def test_errors_in_an_included_file_name_that_file(tmp_path):
    (tmp_path / "lib.s").write_text("nop\nad v0\n")
    (tmp_path / "main.s").write_text('.include "lib.s"\nmov v0\n')
    with pytest.raises(ProgramError) as caught:
        assemble_file(tmp_path / "main.s")
    lines = str(caught.value).split("\n")
    assert lines[0] == f"{tmp_path / 'lib.s'}:2:1: unknown mnemonic 'ad'; did you mean 'add'?"
    assert lines[3].startswith(f"{tmp_path / 'main.s'}:2:1: mov: expected vb")


def test_a_file_that_includes_itself_is_an_error(tmp_path):
    (tmp_path / "a.s").write_text('.include "b.s"\n')
    (tmp_path / "b.s").write_text('nop\n.include "a.s"\n')
    with pytest.raises(ProgramError, match=r"b\.s:2:10: 'a\.s' includes itself: a\.s -> b\.s -> a\.s"):
        assemble_file(tmp_path / "a.s")


def test_files_that_double_by_including_are_stopped(tmp_path):
    for i in range(40):
        (tmp_path / f"{i}.s").write_text(f'.include "{i + 1}.s"\n' * 2)
    (tmp_path / "40.s").write_text("; bottom\n" * 10000)
    with pytest.raises(ProgramError, match="expected at most 500000 lines with all includes"):
        assemble_file(tmp_path / "0.s")


@pytest.mark.parametrize("name", ["../secret.s", "/etc/hostname", "link.s", "sub/../../secret.s"])
def test_includes_can_not_leave_the_folder_of_the_main_file(tmp_path, name):
    folder = tmp_path / "main"
    folder.mkdir()
    (folder / "sub").mkdir()
    (tmp_path / "secret.s").write_text("a secret that no message may show\n")
    (folder / "link.s").symlink_to(tmp_path / "secret.s")
    (folder / "main.s").write_text(f'.include "{name}"\n')
    with pytest.raises(ProgramError, match="expected a file in the folder of the main file or an include folder") as caught:
        assemble_file(folder / "main.s")
    assert "no message may show" not in str(caught.value)


def test_unchecked_lets_rules_of_core_and_window_pass():
    text = f"{HEAD}.unchecked\nmov v0, v1, len=1000\nldv v0, [6], len=4\nsv [X], v0, len=1\njump 500\n.checked\n"
    assert len(assemble(text).code) == 4
    assert errors(text + "mov v0, v1, len=1000\n").endswith("1 error")
    assert "expected len from 1 to 65535" in errors(".unchecked\nmov v0, v1, len=70000\n")


def test_a_program_longer_than_the_cores_memory_is_an_error_where_it_overflows():
    assert "<text>:258:1: expected at most 256 instructions on core 'tiny'; this is one more" in errors(".core tiny\n" + "nop\n" * 300)


def test_a_missing_source_and_an_unknown_core_are_errors(tmp_path):
    with pytest.raises(ProgramError, match=r"none\.s: can't be read"):
        assemble_file(tmp_path / "none.s")
    (tmp_path / "binary.s").write_bytes(b"\xff\xfe")
    with pytest.raises(ProgramError, match=r"binary\.s: expected UTF-8 text"):
        assemble_file(tmp_path / "binary.s")
    with pytest.raises(ConfigError, match="expected a core preset"):
        assemble("nop", core="huge")
    assert errors(" .core huge").startswith("<text>:1:8: expected a core preset")
