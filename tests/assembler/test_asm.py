"""Assembly text becomes the words, regions and addresses that it says."""

import numpy as np
import pytest

from trilobit.assembler import assemble, assemble_file
from trilobit.errors import ProgramError
from trilobit.isa import semantics
from trilobit.isa.fixed import Scalar
from trilobit.isa.segments import parse_segment, scalar_of, segment_gains, segment_trits
from trilobit.isa.spec import ISA


def decoded(text: str, core: str | None = None):
    return [ISA.decode(word) for word in assemble(text, core=core).code]


def one(text: str):
    (instruction,) = decoded(text)
    return instruction.name, instruction.values


def test_operands_options_and_flags_fill_their_fields():
    name, values = one("rms s2, v3, v4, len=100, sha=-2, shb=3, eps_m=77, eps_e=12, k_m=5, k_e=6, sho=15, gain")
    assert name == "rms"
    assert values == {
        "sc": 2, "va": 3, "vb": 4, "len": 100, "sha": -2, "shb": 3, "sho": 15, "eps_m": 77, "eps_e": 12, "k_m": 5,
        "k_e": 6, "gain": 1,
    }  # fmt: skip


def test_options_left_out_take_their_defaults_and_flags_can_have_a_value():
    assert one("lerp v0, v1, v2, v3, len=4")[1]["sho"] == 24
    assert one("mov v0, v1, len=4, wide=1")[1]["wide"] == 1
    assert one("mov v0, v1, len=4, wide=0")[1]["wide"] == 0


def test_every_instruction_can_be_written_as_its_operands_alone_or_with_required_options():
    samples = {"vreg": "v5", "act": "a1", "scalar": "s3", "counter": "x2", "addr": "[32]", "target": "0", "int": "7"}
    for op in ISA.by_name.values():
        operands = [samples[field.kind] for field in op.operands]
        required = [
            f"{key}={option.low}" for key, option in op.options.items()
            if option.default is None and option.field not in op.operands
        ]  # fmt: skip
        program = assemble(f".unchecked\n{op.name} {', '.join(operands + required)}")
        assert ISA.decode(program.code[0]).name == op.name


def test_spaces_case_of_numbers_brackets_and_both_comments():
    text = """
    ; nothing here
    # nor here
    .window 0x1000, write_start=0X800
    \tldv  v1 ,[ 0x10+0b10000 ] , len = 1_6 ; a comment, with ; and #
    ldv v1, 32, len=16 # the same
    """
    first, second = decoded(text)
    assert first == second
    assert first.values == {"vd": 1, "addr": 32, "len": 16, "wide": 0}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1 + 2 * 3", 7), ("(1 + 2) * 3", 9), ("7 // 2", 3), ("12 / 4", 3), ("7 % 4", 3), ("1 << 4 | 3", 19),
        ("0xff & ~0xf", 0xF0), ("6 ^ 3", 5), ("-(-5)", 5), ("256 >> 4", 16), ("10 - 3 - 2", 5), ("2.5 * 4", 10),
        ("A * 2", 12), ("B", 7), ("1_000", 1000), ("- 3 + 5", 2), ("010", 10),
    ],
)  # fmt: skip
def test_expressions_are_arithmetic(expression, value):
    assert one(f".equ A, 6\n.equ B, A + 1\nmov v0, v1, len={expression}")[1]["len"] == value


def test_constants_may_name_what_comes_later():
    text = ".equ N, X.len // 2\n.core tiny\n.region X, readonly, i16\n.i16 1, 2, 3, 4\nmov v0, v1, len=N\n"
    assert decoded(text)[0]["len"] == 2


def test_a_default_length_holds_from_its_line_on():
    lengths = [i["len"] for i in decoded(".len 4\nmov v0, v1\nmov v0, v1, len=5\n.len 6*2\nmov v0, v1\n")]
    assert lengths == [4, 5, 12]


def test_labels_name_instructions_forwards_and_backwards():
    text = "top: nop\nstart: again:\n  seti x1, 5\n  loop x1, again\n  jump end\n  bdone top + 1\nend: halt\n"
    assert [i.values for i in decoded(text)][2:5] == [{"cnt": 1, "target": 1}, {"target": 5}, {"target": 1}]


def test_a_label_at_the_end_is_the_number_of_instructions():
    assert decoded(".equ WORDS, end\nmov v0, v1, len=WORDS\nend:\n")[0]["len"] == 1


SEGMENTS = """
.core {core}
.region state, writable, i32
  .zero 40
.region X, readonly
head: .i16 1, -2, 3
tail: .i16 0x7fff, count=2
.region W, readonly, stream
G: .gains 1.0, -0.5, bp=14
M: .ternary 6, 3, scale=3/1024
   + - 0
   0 0 0
   +++
   - - -
   +0-
   -0+
R: .ternary 7, 20, random=5
.region out, writable, i16, size=100
  stream W, beats=W.beats
  tmatmul v0, a0, [M], len=M.rows, bp=3
  tmatmul v1, a0, R, len=R.rows, bp=3
  ldv v2, X, len=X.len
  sv [state], v0, len=state.len, wide
"""


@pytest.mark.parametrize(("core", "beat"), [("tiny", 4), ("paper8", 1), ("axi512", 64)])
def test_regions_are_laid_out_readonly_first_and_aligned(core, beat):
    program = assemble(SEGMENTS.format(core=core))
    step = max(beat, 16)
    regions = program.regions
    assert list(regions) == ["state", "X", "W", "out"]
    assert all(region.addr % step == 0 for region in regions.values())
    assert regions["X"].addr == 0 and regions["W"].addr == step
    assert program.write_start == regions["state"].addr >= regions["W"].end
    assert regions["out"].addr >= regions["state"].end
    assert program.window_size % step == 0 and program.window_size >= regions["out"].end == regions["out"].addr + 100
    assert (regions["state"].element, regions["X"].element, regions["W"].element) == ("<i4", "<i2", None)
    assert regions["state"].data is None and regions["out"].data is None
    assert program.memory()[:10].view("<i2").tolist() == [1, -2, 3, 32767, 32767]
    assert program.core == core


@pytest.mark.parametrize(("core", "beat"), [("tiny", 4), ("paper8", 1), ("axi512", 64)])
def test_segments_hold_the_trits_gains_and_scales_of_the_text(core, beat):
    program = assemble(SEGMENTS.format(core=core))
    stream, product, second, load, _ = (ISA.decode(word) for word in program.code)
    memory = program.memory()
    assert stream["beats"] * beat == program.regions["W"].size
    gains = parse_segment(memory, program.regions["W"].addr, beat)
    assert segment_gains(memory, gains).tolist() == [16384, -8192]
    matrix = parse_segment(memory, product["addr"], beat)
    assert (matrix.rows, matrix.columns, matrix.scale) == (6, 3, scalar_of(3 / 1024))
    expected = [[1, -1, 0], [0, 0, 0], [1, 1, 1], [-1, -1, -1], [1, 0, -1], [-1, 0, 1]]
    assert segment_trits(memory, matrix, beat).tolist() == expected
    drawn = parse_segment(memory, second["addr"], beat)
    trits = segment_trits(memory, drawn, beat)
    assert trits.shape == (7, 20) and set(np.unique(trits)) == {-1, 0, 1}
    assert drawn.scale == scalar_of(1.0) == Scalar(1 << 17, -17)
    assert (product["len"], second["len"], load["len"]) == (6, 7, 5)


def test_random_data_is_the_same_everywhere_and_within_its_range():
    text = ".region X, readonly\n.i16 random={}, count=1000, low=-3, high=4\n"
    values = assemble(text.format(1)).memory()[:2000].view("<i2")
    assert set(values) == set(range(-3, 5))
    assert values.tolist() == (semantics.threefry((1, 0), np.arange(1000)) % 8 - 3).tolist()
    assert (values == assemble(text.format(1)).memory()[:2000].view("<i2")).all()
    assert (values != assemble(text.format(2)).memory()[:2000].view("<i2")).any()


def test_elements_have_their_widths_and_align_pads():
    text = """.region X, readonly
    .u8 1, 255
    .i8 -1
    .align 4
    .u16 65535
    .align 8
    .i32 -2
    .u32 0xffffffff
    .zero 2
    """
    data = assemble(text).regions["X"].data
    assert data == bytes([1, 255, 255, 0, 255, 255, 0, 0, 0xFE, 255, 255, 255, 255, 255, 255, 255, 0, 0])
    assert assemble(".region Y, readonly, i32\n.fill 3, -7").memory()[:12].view("<i4").tolist() == [-7] * 3


def test_a_window_and_addresses_can_be_given():
    text = ".window 4096, write_start=1024\n.region A, readonly, i16, at=256\n.i16 1\n.region B, writable, i16, at=2048, size=8\n"
    program = assemble(text + ".region C, writable, i16\n.zero 2\nhalt\n")
    assert (program.window_size, program.write_start) == (4096, 1024)
    assert {name: r.addr for name, r in program.regions.items()} == {"A": 256, "B": 2048, "C": 2304}


def test_without_a_core_regions_fit_any_core():
    program = assemble(".region A, readonly, i16\n.i16 1\n.region B, writable, i16\n.zero 2\n")
    assert program.core is None
    assert program.regions["B"].addr % 256 == 0


def test_the_core_that_is_given_comes_before_the_sources():
    program = assemble(SEGMENTS.format(core="tiny"), core="axi512")
    assert program.core == "axi512"
    assert ISA.decode(program.code[0])["beats"] * 64 == program.regions["W"].size


def test_core_parameters_are_constants():
    assert decoded(".core tiny\nmov v0, v1, len=core.max_length - core.beat_bytes")[0]["len"] == 60


def test_lines_name_the_source_of_each_word(tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "sub.s").write_text('; first\nnop\n.include "more.s"\n')
    (tmp_path / "lib" / "more.s").write_text("poll\n")
    (tmp_path / "main.s").write_text('nop\n.include "lib/sub.s"\nhalt\n')
    program = assemble_file(tmp_path / "main.s")
    assert program.lines == [("main.s", 1), ("lib/sub.s", 2), ("lib/more.s", 1), ("main.s", 3)]
    assert program.name == "main"
    assert [ISA.decode(word).name for word in program.code] == ["nop", "nop", "poll", "halt"]


def test_includes_may_come_from_folders_that_are_given(tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "constants.s").write_text(".equ N, 12\n")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "main.s").write_text('.include "constants.s"\nmov v0, v1, len=N\n')
    program = assemble_file(tmp_path / "mine" / "main.s", include_dirs=[tmp_path / "shared"])
    assert ISA.decode(program.code[0])["len"] == 12
    with pytest.raises(ProgramError, match=r"main\.s:1:10: can't find 'constants\.s'"):
        assemble_file(tmp_path / "mine" / "main.s")


def test_windows_line_ends_and_a_missing_last_line_end_do_not_matter():
    assert assemble("nop\r\nmov v0, v1, len=3\r\nhalt").code == assemble("nop\nmov v0, v1, len=3\nhalt\n").code


def test_an_empty_source_is_an_empty_program():
    assert assemble("").code == []
