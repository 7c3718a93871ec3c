"""``trilobit asm`` and ``trilobit disasm``: files, JSON, exit codes, and nothing half-written."""

import json

import pytest
from click.testing import CliRunner

from trilobit.cli import main
from trilobit.isa.program import Program
from trilobit.isa.spec import ISA

SOURCE = """.core tiny
.region X, readonly, i16
.i16 1, 2, 3, 4
.region Y, writable, i16
.zero 8
; copy
start: ldv v0, [X], len=4
  sv [Y], v0, len=4
  halt
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.s").write_text(SOURCE)
    return tmp_path


def run(*arguments: str):
    return CliRunner().invoke(main, arguments)


def test_assemble_and_disassemble_give_the_same_bits(folder):
    assert run("asm", "p.s", "-o", "p.bin").exit_code == 0
    result = run("disasm", "p.bin")
    assert result.exit_code == 0 and "ldv v0, [X], len=4" in result.stdout
    assert run("disasm", "p.bin", "-o", "q.s").exit_code == 0
    assert (folder / "q.s").read_text() == result.stdout
    assert run("asm", "q.s", "-o", "q.bin").exit_code == 0
    first, second = Program.load("p.bin"), Program.load("q.bin")
    second.lines = first.lines
    assert first == second


def test_json_says_what_was_written(folder):
    data = json.loads(run("asm", "p.s", "-o", "p.bin", "--json").stdout)
    assert (data["output"], data["words"], data["core"], data["window_size"], data["write_start"]) == ("p.bin", 3, "tiny", 32, 16)
    assert data["regions"][1] == {"name": "Y", "addr": 16, "size": 8, "element": "<i2", "writable": True}
    data = json.loads(run("disasm", "p.bin", "--json").stdout)
    first = data["instructions"][0]
    assert (first["text"], first["file"], first["line"]) == ("ldv v0, [0x0], len=4", "p.s", 7)
    assert first["word"] == f"{Program.load('p.bin').code[0]:032x}"
    assert first["fields"] == {"vd": 0, "addr": 0, "len": 4, "wide": 0}


def test_a_listing_has_every_source_line_with_its_word(folder):
    assert run("asm", "p.s", "-o", "p.bin", "--listing", "p.lst").exit_code == 0
    listing = (folder / "p.lst").read_text()
    code = Program.load("p.bin").code
    assert f"0000  {code[0]:032x}  start: ldv v0, [X], len=4\n" in listing
    assert f"0002  {code[2]:032x}    halt\n" in listing
    assert all(line in listing for line in SOURCE.split("\n"))
    assert "; 0x00000010           8 bytes  writable  Y" in listing


def test_errors_exit_with_2_and_write_nothing(folder):
    (folder / "bad.s").write_text("ad v0\n")
    result = run("asm", "bad.s", "-o", "bad.bin", "--listing", "bad.lst")
    assert result.exit_code == 2
    assert "bad.s:1:1: unknown mnemonic 'ad'; did you mean 'add'?" in result.stderr
    for arguments in (
        ("asm", "none.s", "-o", "none.bin"),
        ("asm", "p.s", "-o", "no/p.bin"),
        ("asm", "p.s", "-o", "p.bin", "--listing", "no/p.lst"),
        ("asm", "p.s", "-o", "p.bin", "--core", "huge"),
        ("disasm", "p.s"),
        ("disasm", "none.bin"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2, arguments
        assert result.stderr.startswith("trilobit: ") and "Traceback" not in result.stderr
    assert sorted(p.name for p in folder.iterdir()) == ["bad.s", "p.s"]


def test_a_binary_with_an_undefined_opcode_is_one_clear_message(folder):
    assert run("asm", "p.s", "-o", "p.bin").exit_code == 0
    data = bytearray((folder / "p.bin").read_bytes())
    start = 8 + int.from_bytes(data[4:8], "little")
    data[start + 16] = 0xEE
    (folder / "p.bin").write_bytes(data)
    result = run("disasm", "p.bin")
    assert result.exit_code == 2
    assert "p.bin: damaged or truncated: CRC-32" in result.stderr


def test_include_folders_and_the_core_come_from_the_command_line(folder):
    (folder / "lib").mkdir()
    (folder / "lib" / "n.s").write_text(".equ N, core.beat_bytes\n")
    (folder / "main").mkdir()
    (folder / "main" / "p.s").write_text('.include "n.s"\n.core tiny\nmov v0, v1, len=N\n')
    result = run("asm", "main/p.s", "-o", "p.bin", "-I", "lib", "--core", "axi512", "--json")
    assert json.loads(result.stdout)["core"] == "axi512"
    assert "len=64" in run("disasm", "p.bin").stdout


def test_constants_from_the_command_line_take_the_place_of_equ(folder):
    source = ".core tiny\n.equ D, 8\n.equ E, 2*D\n.region a, writable, i16, size=E*2\n    ldv v0, [a], len=D\n    halt\n"
    (folder / "d.s").write_text(source)
    assert run("asm", "d.s", "-o", "d.bin", "-D", "D=4+2").exit_code == 0
    program = Program.load("d.bin")
    assert ISA.decode(program.code[0])["len"] == 6
    assert program.regions["a"].size == 24
    for define, message in (("F=1", "it has no .equ F"), ("D", "expected NAME=VALUE, got 'D'"), ("D=3+", "d.s:2:")):
        result = run("asm", "d.s", "-o", "e.bin", "-D", define)
        assert result.exit_code == 2 and message in result.stderr
        assert not (folder / "e.bin").exists()
