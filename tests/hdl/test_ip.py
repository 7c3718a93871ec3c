"""The core packaged for other flows: what tools read is well-formed and says what the Verilog has."""

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

import trilobit
from trilobit.cli import main
from trilobit.hdl.axi_map import AXI_MAP
from trilobit.hdl.ip import TOP, ip_files, memory_image
from trilobit.isa.core import load_core
from trilobit.isa.program import Program
from trilobit.sim.toolchain import VERILATOR

TOY = Path(__file__).resolve().parents[1] / "model" / "data" / "toy"
SPACE = {"x": "http://www.accellera.org/XMLSchema/IPXACT/1685-2014"}


@pytest.fixture(scope="module")
def files():
    return ip_files(load_core("tiny"))


@pytest.fixture(scope="module")
def verilog_ports(files):
    """name -> (direction, width) as the top module declares them."""
    body = files[f"{TOP}.v"].split(f"module {TOP}(")[1].split("endmodule")[0]
    found = re.findall(r"^  (input|output) (?:\[(\d+):0\] )?(\w+);", body, flags=re.MULTILINE)
    return {name: (direction[:-3].replace("put", "") or direction, int(top or 0) + 1) for direction, top, name in found}


def test_ip_xact_lists_the_ports_and_the_registers(files, verilog_ports):
    root = ElementTree.fromstring(files[f"{TOP}.xml"])
    ports = {
        p.find("x:name", SPACE).text: (p.find("x:wire/x:direction", SPACE).text, int(p.findtext(".//x:left", "0", SPACE)) + 1)
        for p in root.iterfind(".//x:ports/x:port", SPACE)
    }
    assert ports == verilog_ports
    assert [root.findtext(f"x:{tag}", None, SPACE) for tag in ("vendor", "library", "name")] == ["trilobit", "ip", TOP]
    offsets = {
        r.findtext("x:name", None, SPACE): int(r.findtext("x:addressOffset", None, SPACE)) for r in root.iterfind(".//x:register", SPACE)
    }
    assert all(offsets[name] == register.offset for name, register in AXI_MAP.items())
    mapped = {p.text for p in root.iterfind(".//x:physicalPort/x:name", SPACE)}
    assert mapped == {name for name in ports if name[:6] in ("m_axi_", "s_axi_")}


def test_fusesoc_and_platform_designer_name_the_file_and_every_port(files, verilog_ports):
    core = files[f"{TOP}.core"]
    assert core.startswith("CAPI=2:\n")
    data = yaml.safe_load(core.split("\n", 1)[1])
    assert data["filesets"]["rtl"]["files"] == [f"{TOP}.v"] and data["targets"]["lint"]["toplevel"] == TOP
    lines = re.findall(r"^add_interface_port \w+ (\w+) (\w+) (Input|Output) (\d+)$", files[f"{TOP}_hw.tcl"], flags=re.MULTILINE)
    assert {name: (direction[:-3].lower(), int(width)) for name, _, direction, width in lines} == verilog_ports


def test_the_register_map_for_people_and_for_c(files):
    for name, register in AXI_MAP.items():
        assert (
            f"| 0x{register.offset:03x} | `{name}` | {min(32, register.width)} | {register.access} | {register.text} |"
            in files["registers.md"]
        )
        assert re.search(rf"^#define TRILOBIT_{name.upper()} +0x{register.offset:03x}u", files[f"{TOP}_registers.h"], flags=re.MULTILINE)


def test_the_verilog_is_lint_clean(files, tmp_path):
    if not VERILATOR.available:
        pytest.skip("Verilator is not installed")
    (tmp_path / f"{TOP}.v").write_text(files[f"{TOP}.v"])
    VERILATOR.run(["--lint-only", "-Wall", "--top-module", TOP, f"{TOP}.v"], cwd=tmp_path)


def test_the_memory_image_has_a_beat_a_line():
    text = memory_image(np.arange(10, dtype=np.uint8), 4)
    assert text.split() == ["03020100", "07060504", "00000908"]


def test_a_bundle_s_image_and_program_are_written_byte_by_byte(tmp_path, monkeypatch):
    """What $readmemh puts into words of a beat, low byte first, is the window's memory: the image, then zeros; the program word by word."""
    monkeypatch.setattr("trilobit.hdl.ip.ip_files", lambda config: {})
    trilobit.compile(TOY, load_core("tiny"), tmp_path / "bundle")
    result = CliRunner().invoke(main, ["verilog", "--wrapper", "axi", "--bundle", str(tmp_path / "bundle"), "-o", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    lines = (tmp_path / "out" / "memory.hex").read_text().split()
    assert {len(line) for line in lines} == {8}
    memory = b"".join(int(line, 16).to_bytes(4, "little") for line in lines)
    image, manifest = (tmp_path / "bundle" / "image.bin").read_bytes(), json.loads((tmp_path / "bundle" / "manifest.json").read_text())
    assert memory == image.ljust(manifest["window_size"], b"\0") and any(image)
    words = [int(line, 16) for line in (tmp_path / "out" / "program.hex").read_text().split()]
    assert words == Program.load(tmp_path / "bundle" / "program.bin").code
