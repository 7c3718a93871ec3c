"""Projects for vendors' tools: complete, balanced Tcl, and every pin they connect is one that the Verilog or the vendor's cell has.

No vendor's tool runs here: the scripts are run by Tcl itself with commands that write down what they are called with.
"""

import functools
import re
import shutil
import subprocess
from unittest.mock import patch

import pytest
from click.testing import CliRunner

from trilobit.cli import main
from trilobit.errors import ConfigError
from trilobit.hdl.boards import BOARDS
from trilobit.hdl.boards.vendor import VENDOR_BOARDS
from trilobit.hdl.ip import TOP
from trilobit.hdl.ip.projects import HOSTED_TOP, project_files
from trilobit.isa.core import load_core
from trilobit.sim.toolchain import VERILATOR

# Pins of the vendors' cells that the scripts use; a name that is not here is a slip, or belongs here after a look into the cell's manual.
VENDOR_PINS = {
    "ps": {"M_AXI_HPM0_FPD", "S_AXI_HP0_FPD", "pl_clk0", "pl_resetn0", "maxihpm0_fpd_aclk", "saxihp0_fpd_aclk", "pl_ps_irq0"},
    "control": {"S00_AXI", "M00_AXI", "aclk", "aresetn"}, "memory": {"S00_AXI", "M00_AXI", "aclk", "aclk1", "aresetn"},
    "reset": {"slowest_sync_clk", "ext_reset_in", "dcm_locked", "interconnect_aresetn", "peripheral_aresetn"},
    "reset_mig": {"slowest_sync_clk", "ext_reset_in", "dcm_locked", "peripheral_aresetn"},
    "clocks": {"clk_in1", "clk_out1", "clk_out2", "clk_out3", "locked"},
    "mig": {"S_AXI", "sys_clk_i", "clk_ref_i", "sys_rst", "ui_clk", "ui_clk_sync_rst", "mmcm_locked", "aresetn", "init_calib_complete"},
}  # fmt: skip
# Commands of Vivado and Platform Designer answer with what they were asked for, so that what encloses them sees names.
RECORDER = """
proc unknown {args} { puts [join $args "\\t"]; return [lindex $args end] }
rename package {}; rename file tcl_file
proc file {what args} { if {$what eq "copy"} { return }; tcl_file $what {*}$args }
proc get_property {name of} { if {$name eq "PROGRESS"} { return 100% }; return 0.1 }
proc get_bd_nets {args} { return {} }
set argv [list @ARGUMENTS@]
source @SCRIPT@
"""


@functools.cache
def made(name: str, clock_mhz: float):
    """A project with the smallest core: the Verilog's ports are the same. Those with a processor differ in a constant of it, so it is
    written once."""
    config = load_core("tiny").replace(clock_mhz=clock_mhz)
    if name != "de10_nano":
        return project_files(name, config)
    verilog = made("kv260", 100.0).files[f"{TOP}.v"]
    with patch("trilobit.hdl.ip.standalone_verilog", lambda component, top: verilog):
        return project_files(name, config)


@pytest.fixture(params=["arty_a7", "de10_nano", "kv260"])
def project(request):
    """A board and its files."""
    board = VENDOR_BOARDS[request.param]
    return board, made(board.name, board.clock_mhz)


def ports_of(verilog: str, top: str) -> set[str]:
    body = verilog.split(f"module {top}(")[1].split("endmodule")[0]
    return set(re.findall(r"^  (?:input|output) (?:\[\d+:0\] )?(\w+);", body, flags=re.MULTILINE))


def run_tcl(tmp_path, files: dict[str, str], script: str, arguments: str = "") -> list[list[str]]:
    """The vendor's commands that a script calls, with their arguments."""
    if shutil.which("tclsh") is None:
        pytest.skip("tclsh is not installed")
    (tmp_path / script).write_text(files[script])
    text = RECORDER.replace("@SCRIPT@", str(tmp_path / script)).replace("@ARGUMENTS@", arguments)
    done = subprocess.run(["tclsh"], input=text, capture_output=True, text=True, check=False)
    assert not done.stderr, done.stderr
    return [line.split("\t") for line in done.stdout.splitlines()]


def balanced(text: str) -> bool:
    text = re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)
    return all(text.count(a) == text.count(b) for a, b in ("{}", "[]")) and text.count('"') % 2 == 0


def test_every_file_is_there_and_names_the_others(project):
    board, project = project
    files = project.files
    assert set(board.templates) | {"README.md", f"{project.top}.v"} <= set(files)
    for name, text in files.items():
        assert "{{" not in text and "{%" not in text, name
        if name.endswith(".tcl"):
            assert (balanced(text) and "no vendor's tool has run it" in text) or name.endswith("_hw.tcl"), name
    for line in board.build:
        assert f"    {line}\n" in files["README.md"]
    assert "no vendor's tool has read these files" in files["README.md"]
    for script in [name for name in board.templates if name.endswith(".tcl")]:
        for used in re.findall(r"\$here ([\w.]+\.(?:v|xdc))\]", files[script]):
            assert used in files
    assert board.name not in BOARDS and load_core(board.core).beat_bytes in (4, 8, 16, 32, 64)


@pytest.mark.parametrize("project", ["arty_a7", "kv260"], indirect=True)
def test_vivado_scripts_connect_pins_that_exist(project, tmp_path):
    board, project = project
    calls = run_tcl(tmp_path, project.files, "build.tcl")
    ports = ports_of(project.files[f"{project.top}.v"], project.top)
    pins = VENDOR_PINS | {"core": ports | {"m_axi", "s_axi"}}
    cells = {call[-1] for call in calls if call[0] == "create_bd_cell"}
    outside = {call[-1] for call in calls if call[0] == "create_bd_port"}
    used: set[str] = set()
    for call in calls:
        if call[0] in ("connect_bd_net", "connect_bd_intf_net"):
            for place in call[1:]:
                cell, _, pin = place.rpartition("/")
                assert pin in (pins[cell] if cell else outside), place
                assert not cell or cell in cells, place
                used.add(place)
    # Every port of the core but the buses' own goes somewhere, except a lamp that the board has no place for.
    single = {f"core/{port}" for port in ports if port[:6] not in ("m_axi_", "s_axi_")} - {"core/halted"}
    assert single | {"core/m_axi"} <= used
    assert any(call[:2] == ["create_bd_cell", "-type"] and call[2:5] == ["module", "-reference", project.top] for call in calls)
    assert any(call[0] == "create_project" and call[-1] == board.part for call in calls)
    settings = [call[2].split() for call in calls if call[:2] == ["set_property", "-dict"]]
    values = {name: value for words in settings for name, value in zip(words[::2], words[1::2], strict=True)}
    clock = "CONFIG.CLKOUT3_REQUESTED_OUT_FREQ" if board.hosted else "CONFIG.PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ"
    frequency = float(values[clock].strip("{}"))
    assert frequency == board.clock_mhz
    assert any(call[0] == "launch_runs" for call in calls)
    assert not any(call[0] == "launch_runs" for call in run_tcl(tmp_path, project.files, "build.tcl", "project"))
    if board.registers:
        assert any(call[:3] == ["assign_bd_address", "-offset", f"0x{board.registers:08X}"] for call in calls)


def test_the_arty_has_a_pin_for_every_port_outside(tmp_path):
    project = made("arty_a7", 60.0)
    calls = run_tcl(tmp_path, project.files, "build.tcl")
    outside = {call[-1] for call in calls if call[0] == "create_bd_port"}
    lines = re.findall(r"PACKAGE_PIN (\w+) IOSTANDARD LVCMOS33\} \[get_ports (\w+)\]", project.files["trilobit_arty_a7.xdc"])
    assert {port for _, port in lines} == outside and len({pin for pin, _ in lines}) == len(outside)


@pytest.mark.parametrize("clock", [50.0, 62.5])
def test_the_platform_designer_script_connects_interfaces_that_the_component_has(tmp_path, clock):
    project = made("de10_nano", clock)
    calls = run_tcl(tmp_path, project.files, "add_core.tcl")
    interfaces = set(re.findall(r"^add_interface (\w+) ", project.files[f"{TOP}_hw.tcl"], flags=re.MULTILINE))
    reference_design = {"clk_0.clk", "clk_0.clk_reset", "hps_0.h2f_lw_axi_master", "hps_0.f2h_axi_slave", "hps_0.f2h_irq0"}
    added = {call[1]: call[2] for call in calls if call[0] == "add_instance"}
    assert added["trilobit"] == TOP and ("trilobit_pll" in added) == (clock != 50)
    known = (
        reference_design | {f"trilobit.{name}" for name in interfaces} | {f"trilobit_pll.{name}" for name in ("refclk", "reset", "outclk0")}
    )
    ends = [end for call in calls if call[0] == "add_connection" for end in call[1:]]
    assert set(ends) <= known and {f"trilobit.{name}" for name in interfaces} <= set(ends)
    connections = {f"{call[1]}/{call[2]}" for call in calls if call[0] == "add_connection"}
    assert {call[1] for call in calls if call[0] == "set_connection_parameter_value"} <= connections
    assert ["set_connection_parameter_value", "hps_0.h2f_lw_axi_master/trilobit.s_axi", "baseAddress", "0x100000"] in calls
    assert calls[-1] == ["save_system"]


def test_the_shell_script_wants_the_reference_design(tmp_path):
    script = made("de10_nano", 50.0).files["build.sh"]
    (tmp_path / "build.sh").write_text(script)
    done = subprocess.run(["sh", "build.sh", "nowhere"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "expected the folder of Terasic's DE10_NANO_SoC_GHRD, got 'nowhere'" in done.stderr


def test_the_hosted_top_is_lint_clean(tmp_path):
    if not VERILATOR.available:
        pytest.skip("Verilator is not installed")
    (tmp_path / "top.v").write_text(made("arty_a7", 60.0).files[f"{HOSTED_TOP}.v"])
    VERILATOR.run(["--lint-only", "-Wall", "--top-module", HOSTED_TOP, "top.v"], cwd=tmp_path)


def test_both_arty_boards_have_their_part_and_a_preset_that_a_port_can_have():
    assert {VENDOR_BOARDS[name].part for name in ("arty_a7", "arty_a7_35")} == {"xc7a100tcsg324-1", "xc7a35ticsg324-1L"}
    assert all(load_core(board.core).beat_bytes in (4, 8, 16, 32, 64) for board in VENDOR_BOARDS.values())


def test_the_command_line_writes_a_project(tmp_path):
    core = tmp_path / "small.yaml"
    core.write_text("beat_bytes: 4\nlanes: 1\nmax_length: 64\nweight_fifo_beats: 32\nprogram_words: 64\ngain_buffer_elements: 64\n"
                    "burst_beats: 8\nload_fifo_beats: 16\nclock_mhz: 40\n")  # fmt: skip
    result = CliRunner().invoke(main, ["verilog", "--board", "de10_nano", "--core", str(core), "-o", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "not placed, routed or run on a board" in result.output and "40 MHz" in result.output
    assert "gui_output_clock_frequency0 {40" in (tmp_path / "out" / "add_core.tcl").read_text()


def test_a_core_without_an_axi_width_is_refused():
    with pytest.raises(ConfigError, match="expected a core of 4, 8, 16, 32, 64 bytes a beat for AXI, got 'paper8' with 1"):
        project_files("arty_a7", load_core("paper8"))
