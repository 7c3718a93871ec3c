"""The .bin container: what is written is read back, and any damage is one clear error."""

import json
import random
import zlib

import numpy as np
import pytest

from trilobit.errors import ProgramError
from trilobit.isa.program import Program, Region
from trilobit.isa.spec import ISA


def sample() -> Program:
    code = [ISA.encode("ldv", vd=1, addr=0, len=4), ISA.encode("sv", va=1, addr=32, len=4), ISA.encode("halt")]
    regions = {
        "x": Region(name="x", addr=0, size=8, data=np.arange(4, dtype="<i2").tobytes(), element="<i2"),
        "image": Region(name="image", addr=16, size=16),
        "y": Region(name="y", addr=32, size=8, data=bytes(range(8)), element="u1", writable=True),
    }
    return Program("sample", code, 48, 32, regions, "tiny", [("a.s", 1), ("a.s", 2), ("b.s", 7)])


def test_a_program_comes_back_from_its_bytes_and_from_a_file(tmp_path):
    program = sample()
    assert Program.from_bytes(program.to_bytes()) == program
    program.save(tmp_path / "p.bin")
    assert Program.load(tmp_path / "p.bin") == program
    assert [p.name for p in tmp_path.iterdir()] == ["p.bin"]


def test_memory_holds_the_regions_data_and_zeros_elsewhere():
    memory = sample().memory()
    assert memory.dtype == np.uint8 and memory.shape == (48,) and memory.flags.writeable
    assert memory[:8].view("<i2").tolist() == [0, 1, 2, 3]
    assert memory[32:40].tolist() == list(range(8))
    assert not memory[8:32].any() and not memory[40:].any()


def test_every_flipped_bit_and_every_truncation_is_an_error():
    data = sample().to_bytes()
    seed = 20240601
    print(f"seed {seed}")
    chosen = random.Random(seed)
    for bit in chosen.sample(range(8 * len(data)), 300):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ProgramError):
            Program.from_bytes(bytes(damaged))
    for length in range(0, len(data), 7):
        with pytest.raises(ProgramError):
            Program.from_bytes(data[:length])
    with pytest.raises(ProgramError, match="CRC-32"):
        Program.from_bytes(data + b"x")


def rewritten(change) -> bytes:
    """The sample with its JSON header changed and the CRC made right again."""
    data = sample().to_bytes()
    length = int.from_bytes(data[4:8], "little")
    header = json.loads(data[8 : 8 + length])
    header = change(header) or header
    text = json.dumps(header).encode()
    body = data[:4] + len(text).to_bytes(4, "little") + text + data[8 + length : -4]
    return body + zlib.crc32(body).to_bytes(4, "little")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h.update(version=2), "expected container version 1, got 2"),
        (lambda h: h.update(isa=9), "expected instruction set version 1, got 9"),
        (lambda h: h.update(words=2), "bytes of code and data as its header says"),
        (lambda h: h.update(words=-1), "bytes of code and data as its header says"),
        (lambda h: h.update(entry=1), "expected entry 0, got 1"),
        (lambda h: h.update(surprise=1), "header can't be read: .*surprise"),
        (lambda h: h.pop("core") and None, "header can't be read: .*core"),
        (lambda h: h.update(name=3), "header can't be read: Expected `str`"),
        (lambda h: ["no object"], "header can't be read"),
        (lambda h: h.update(window_size=36), "region 'y': expected it inside the window of 36 bytes, got 8 bytes at 0x20"),
        (lambda h: h.update(window_size=16), "expected 0 <= write_start <= window_size"),
        (lambda h: h.update(write_start=16), "region 'image': read-only, but ends at 0x20, above write_start 0x10"),
        (lambda h: h["regions"][2].update(addr=8), "region 'y': writable, but at 0x8, below write_start 0x20"),
        (lambda h: h["regions"][1].update(addr=4), "regions 'x' and 'image' overlap"),
        (lambda h: h["regions"][0].update(size=10), "region 'x': expected 10 bytes of data, got 8"),
        (lambda h: h["regions"][0].update(element="<f8"), "region 'x': expected an element of"),
        (lambda h: h["regions"][1].update(name="x"), "region 'x' appears twice"),
        (lambda h: h.update(lines=[["a.s", 1]]), "expected a source line a word"),
    ],
)
def test_headers_that_make_no_sense_are_refused(change, message):
    with pytest.raises(ProgramError, match=message):
        Program.from_bytes(rewritten(change))


def test_an_undefined_opcode_is_named_with_its_word():
    data = bytearray(sample().to_bytes())
    start = 8 + int.from_bytes(data[4:8], "little")
    data[start + 16] = 0xEE
    data[-4:] = zlib.crc32(data[:-4]).to_bytes(4, "little")
    with pytest.raises(ProgramError, match=r"here\.bin: program 'sample', word 1: undefined opcode 0xee"):
        Program.from_bytes(bytes(data), source="here.bin")


def test_a_stray_bit_is_named_with_its_word():
    program = sample()
    program.code[2] |= 1 << 100
    with pytest.raises(ProgramError, match=r"word 2: halt: bits 0x1.* must be zero"):
        program.to_bytes()


def test_other_files_and_missing_files_are_refused(tmp_path):
    (tmp_path / "text").write_text("hello, this is no program")
    with pytest.raises(ProgramError, match="text: expected a program binary that starts with b'TRLB', got b'hell'"):
        Program.load(tmp_path / "text")
    with pytest.raises(ProgramError, match=r"none\.bin: can't be read"):
        Program.load(tmp_path / "none.bin")


def test_nothing_is_left_behind_when_saving_fails(tmp_path):
    program = sample()
    program.code[0] = 0xFF
    with pytest.raises(ProgramError, match="word 0: undefined opcode"):
        program.save(tmp_path / "p.bin")
    with pytest.raises(ProgramError, match="can't be written"):
        sample().save(tmp_path / "no" / "p.bin")
    assert list(tmp_path.iterdir()) == []
