"""``trilobit verilog --board ulx3s_85f``: the files, lint, and the top at its pins."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from support import run_cocotb

from trilobit.cli import main
from trilobit.hdl.boards import board_files
from trilobit.hdl.boards.ulx3s import CLOCK_MHZ, Ulx3sTop, platform
from trilobit.hdl.verilog import lint_waived
from trilobit.sim.toolchain import VERILATOR

MODELS = Path(__file__).with_name("ecp5_models.v")
TOP = "trilobit_ulx3s_85f"
DIVISOR = 4

# The top with what is behind its pins, under the names that the SDRAM model knows.
BENCH = """
`timescale 1ns/1ps
module bench(clk25, button, rx, tx, led, sdram__clk, sdram__clk_en, sdram__cs, sdram__ras, sdram__cas, sdram__we, sdram__ba, sdram__a,
             sdram__dqm, sdram__dq_o, sdram__dq_oe, sdram__dq_i, sdram__drive);
  input clk25; input button; input rx; output tx; output [7:0] led;
  output sdram__clk; output sdram__clk_en; output sdram__cs; output sdram__ras; output sdram__cas; output sdram__we;
  output [1:0] sdram__ba; output [12:0] sdram__a; output [1:0] sdram__dqm; output [15:0] sdram__dq_o; output sdram__dq_oe;
  input [15:0] sdram__dq_i; input sdram__drive;
  wire cs_n, ras_n, cas_n, we_n;
  wire [15:0] dq;
  assign dq = sdram__drive ? sdram__dq_i : 16'hzzzz;
  assign sdram__dq_o = dq;
  assign sdram__dq_oe = !sdram__drive && dq !== 16'hzzzz;
  assign {sdram__cs, sdram__ras, sdram__cas, sdram__we} = ~{cs_n, ras_n, cas_n, we_n};
  trilobit_ulx3s_85f top(
    .clk25_0__io(clk25), .button_pwr_0__io(button), .uart_0__rx__io(rx), .uart_0__tx__io(tx),
    .led_0__io(led[0]), .led_1__io(led[1]), .led_2__io(led[2]), .led_3__io(led[3]),
    .led_4__io(led[4]), .led_5__io(led[5]), .led_6__io(led[6]), .led_7__io(led[7]),
    .sdram_0__clk__io(sdram__clk), .sdram_0__clk_en__io(sdram__clk_en), .sdram_0__cs__io(cs_n), .sdram_0__ras__io(ras_n),
    .sdram_0__cas__io(cas_n), .sdram_0__we__io(we_n), .sdram_0__ba__io(sdram__ba), .sdram_0__a__io(sdram__a),
    .sdram_0__dqm__io(sdram__dqm), .sdram_0__dq__io(dq));
endmodule
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("board") / "out"
    result = CliRunner().invoke(main, ["verilog", "--board", "ulx3s_85f", "-o", str(folder), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout), folder


def test_writes_verilog_constraints_and_scripts(written):
    data, folder = written
    names = {path.name for path in folder.iterdir()}
    assert {Path(path).name for path in data["files"]} == names
    assert {f"{TOP}.v", f"{TOP}.lpf", f"{TOP}.ys", f"build_{TOP}.sh", "README.txt"} <= names
    assert data["core"] == "ulx3s" and data["top"] == TOP and data["clock_mhz"] == CLOCK_MHZ
    assert "not placed, routed or run on a board" in data["note"]
    assert "not placed, routed or run on a board" in (folder / "README.txt").read_text()
    assert f"read_verilog {TOP}.v" in (folder / f"{TOP}.ys").read_text()
    assert "nextpnr" in (folder / f"build_{TOP}.sh").read_text().lower()
    for path in folder.iterdir():
        assert ".py" not in path.read_text() and "/home" not in path.read_text(), path.name


def test_every_pin_of_the_top_has_its_place(written):
    """The constraints name each port's bit once; clocks are constrained; some places as the board's schematic has them."""
    _, folder = written
    lpf, text = (folder / f"{TOP}.lpf").read_text(), (folder / f"{TOP}.v").read_text()
    top = re.search(rf"^module {TOP}\(.*?^endmodule", text, re.MULTILINE | re.DOTALL)[0]
    bits = set()
    for high, name in re.findall(r"^  (?:input|output|inout) (?:\[(\d+):0\] )?(\w+);", top, re.MULTILINE):
        bits |= {f"{name}[{k}]" for k in range(int(high) + 1)} if high else {name}
    located = re.findall(r'^LOCATE COMP "(\S+)" SITE "(\w+)";', lpf, re.MULTILINE)
    assert len(located) == len(bits) == 3 + 1 + 8 + 6 + 2 + 13 + 2 + 16
    assert {name for name, _ in located} == bits and len({site for _, site in located}) == len(located)
    assert {("clk25_0__io", "G2"), ("uart_0__rx__io", "M1"), ("sdram_0__clk__io", "F19"), ("sdram_0__dq__io[0]", "J16")} <= set(located)
    assert 'FREQUENCY PORT "clk25_0__io" 25000000.0 HZ;' in lpf and 'FREQUENCY NET "clocks.clk" 60000000.0 HZ;' in lpf


def test_verilator_lints_the_top_clean(written):
    _, folder = written
    options = ["--lint-only", "-Wall", "-Wno-fatal", "--timescale", "1ns/1ps", "--top-module", TOP]
    report = VERILATOR.run([*options, folder / f"{TOP}.v", MODELS])
    warnings = [line for line in report.splitlines() if line.startswith("%Warning") and "ecp5_models.v" not in line]
    assert not warnings, "\n".join(warnings[:20])


def test_the_top_works_at_its_pins(seed):
    """On Icarus, which knows delays and high impedance: PLL, reset, UART, SDRAM at 90 degrees with its access time."""
    plan = platform().build(Ulx3sTop(baud=15_000_000, init_clocks=300), name=TOP, do_build=False, emit_src=False, debug_verilog=True)
    top = plan.files[f"{TOP}.debug.v"]
    text = lint_waived(top.decode() if isinstance(top, bytes) else top)
    run_cocotb(MODELS.read_text() + BENCH + text, "bench", "cocotb_ulx3s", env={"DIVISOR": DIVISOR}, simulators=("icarus",), seed=seed)


def test_the_files_are_the_same_each_time():
    assert board_files("ulx3s_85f").files == board_files("ulx3s_85f").files


@pytest.mark.parametrize(("arguments", "message"), [
    (["--board", "de10"], "expected a board (ulx3s_85f), got 'de10'"),
    ([], "expected either --core or --board, got neither"),
    (["--core", "tiny", "--board", "ulx3s_85f"], "expected either --core or --board, got both"),
])  # fmt: skip
def test_wrong_options_are_one_message_and_write_nothing(arguments, message, tmp_path):
    result = CliRunner().invoke(main, ["verilog", *arguments, "-o", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "out").exists()
