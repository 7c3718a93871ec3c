"""``trilobit verilog --board NAME``: the files, lint, and the tops at their pins."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from support import run_cocotb

from trilobit.cli import main
from trilobit.hdl.boards import BOARDS, board_files, find_board
from trilobit.hdl.boards.top import BoardTop
from trilobit.hdl.verilog import lint_waived
from trilobit.isa.core import load_core
from trilobit.sim.toolchain import VERILATOR

MODELS = Path(__file__).with_name("ecp5_models.v")
DIVISOR = 4

# A top with what is behind its pins, under the names that the SDRAM model knows.
BENCH = """
`timescale 1ns/1ps
module bench(osc, button, rx, tx, led, sdram__clk, sdram__clk_en, sdram__cs, sdram__ras, sdram__cas, sdram__we, sdram__ba, sdram__a,
             sdram__dqm, sdram__dq_o, sdram__dq_oe, sdram__dq_i, sdram__drive);
  input osc; input button; input rx; output tx; output [7:0] led;
  output sdram__clk; output sdram__clk_en; output sdram__cs; output sdram__ras; output sdram__cas; output sdram__we;
  output [1:0] sdram__ba; output [12:0] sdram__a; output [1:0] sdram__dqm; output [15:0] sdram__dq_o; output sdram__dq_oe;
  input [15:0] sdram__dq_i; input sdram__drive;
  wire cs_n, ras_n, cas_n, we_n;
  wire [15:0] dq;
  DARK
  assign dq = sdram__drive ? sdram__dq_i : 16'hzzzz;
  assign sdram__dq_o = dq;
  assign sdram__dq_oe = !sdram__drive && dq !== 16'hzzzz;
  assign {sdram__cs, sdram__ras, sdram__cas, sdram__we} = ~{cs_n, ras_n, cas_n, we_n};
  TOP top(
    .OSC_0__io(osc), .RESET__io(button), .uart_0__rx__io(rx), .uart_0__tx__io(tx),
    LEDS
    .sdram_0__clk__io(sdram__clk), .sdram_0__clk_en__io(sdram__clk_en), .sdram_0__cs__io(cs_n), .sdram_0__ras__io(ras_n),
    .sdram_0__cas__io(cas_n), .sdram_0__we__io(we_n), .sdram_0__ba__io(sdram__ba), .sdram_0__a__io(sdram__a),
    .sdram_0__dqm__io(sdram__dqm), .sdram_0__dq__io(dq));
endmodule
"""


def bench_of(board) -> str:
    leds = "".join(f".led_{k}__io(led[{k}]), " for k in range(board.lamps))
    dark = "".join(f"assign led[{k}] = 0; " for k in range(board.lamps, 8))
    words = {"DARK": dark, "TOP": f"trilobit_{board.name}", "OSC": board.oscillator, "RESET": "_".join(map(str, board.reset)), "LEDS": leds}
    return re.sub("|".join(words), lambda match: words[match[0]], BENCH)


def simulated_top(board, preset: str) -> str:
    component = BoardTop(board, load_core(preset), baud=15_000_000, init_clocks=300)
    plan = board.make_platform().build(component, name=f"trilobit_{board.name}", do_build=False, emit_src=False, debug_verilog=True)
    top = plan.files[f"trilobit_{board.name}.debug.v"]
    return MODELS.read_text() + bench_of(board) + lint_waived(top.decode() if isinstance(top, bytes) else top)


@pytest.fixture(scope="module", params=[
    name if name in ("ulx3s_85f", "icepi_zero") else pytest.param(name, marks=pytest.mark.slow) for name in sorted(BOARDS)
])  # fmt: skip
def written(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param) / "out"
    result = CliRunner().invoke(main, ["verilog", "--board", request.param, "-o", str(folder), "--json"])
    assert result.exit_code == 0, result.output
    return find_board(request.param), f"trilobit_{request.param}", json.loads(result.stdout), folder


def test_writes_verilog_constraints_and_scripts(written):
    board, top, data, folder = written
    names = {path.name for path in folder.iterdir()}
    assert {Path(path).name for path in data["files"]} == names
    assert {f"{top}.v", f"{top}.lpf", f"{top}.ys", f"build_{top}.sh", "README.txt"} <= names
    assert data["core"] == board.core and data["top"] == top and data["clock_mhz"] == board.clock_mhz
    assert "not placed, routed or run on a board" in data["note"]
    assert "not placed, routed or run on a board" in (folder / "README.txt").read_text()
    assert f"read_verilog {top}.v" in (folder / f"{top}.ys").read_text()
    assert "nextpnr" in (folder / f"build_{top}.sh").read_text().lower()
    for path in folder.iterdir():
        assert ".py" not in path.read_text() and "/home" not in path.read_text(), path.name


# As the boards' schematics have them.
PLACES = {
    "ulx3s": {("clk25_0__io", "G2"), ("uart_0__rx__io", "M1"), ("sdram_0__clk__io", "F19"), ("sdram_0__dq__io[0]", "J16")},
    "icepi": {("clk50_0__io", "M1"), ("uart_0__rx__io", "K16"), ("sdram_0__clk__io", "A3"), ("sdram_0__dq__io[0]", "B16")},
}


def test_every_pin_of_the_top_has_its_place(written):
    """The constraints name each port's bit once; the oscillator is constrained; some places as the board's schematic has them."""
    board, top, _, folder = written
    lpf, text = (folder / f"{top}.lpf").read_text(), (folder / f"{top}.v").read_text()
    module = re.search(rf"^module {top}\(.*?^endmodule", text, re.MULTILINE | re.DOTALL)[0]
    bits = set()
    for high, name in re.findall(r"^  (?:input|output|inout) (?:\[(\d+):0\] )?(\w+);", module, re.MULTILINE):
        bits |= {f"{name}[{k}]" for k in range(int(high) + 1)} if high else {name}
    located = re.findall(r'^LOCATE COMP "(\S+)" SITE "(\w+)";', lpf, re.MULTILINE)
    assert len(located) == len(bits) == 1 + 1 + 2 + board.lamps + 6 + 2 + 13 + 2 + 16
    assert {name for name, _ in located} == bits and len({site for _, site in located}) == len(located)
    assert PLACES[board.name[:5]] <= set(located)
    assert f'FREQUENCY PORT "{board.oscillator}_0__io" {board.oscillator_mhz * 1e6:.1f} HZ;' in lpf


def test_verilator_lints_the_top_clean(written):
    _, top, _, folder = written
    options = ["--lint-only", "-Wall", "-Wno-fatal", "--timescale", "1ns/1ps", "--top-module", top]
    report = VERILATOR.run([*options, folder / f"{top}.v", MODELS])
    warnings = [line for line in report.splitlines() if line.startswith("%Warning") and "ecp5_models.v" not in line]
    assert not warnings, "\n".join(warnings[:20])


# Delays of the pads and back, ns: the fastest and slowest between which one io_latency serves (docs/decisions/0004-sdram.md).
@pytest.mark.parametrize(("pad", "back"), [(4.0, 2.8), pytest.param(1.2, 0.6, marks=pytest.mark.slow)])
def test_the_top_reads_and_writes_at_its_pins(pad, back, seed):
    """On Icarus, which knows delays and high impedance: PLL, reset, UART, SDRAM with its set-up, hold and access times."""
    board = find_board("ulx3s_85f")
    text = f"`define PAD_DELAY {pad}\n" + simulated_top(board, "tiny")
    env = {"BOARD": board.name, "DIVISOR": DIVISOR, "PRESET": "tiny", "PAD_NS": pad, "BACK_NS": back}
    run_cocotb(text, "bench", "cocotb_board", testcase="memory_over_the_serial_line", env=env, simulators=("icarus",), seed=seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ulx3s_85f", "icepi_zero"])
def test_a_model_runs_on_the_whole_board(name, seed):
    """Image and program over the line's bits into the SDRAM, tokens back, at the top's pins."""
    board = find_board(name)
    text = "`define PAD_DELAY 3.0\n" + simulated_top(board, "tiny")
    env = {"BOARD": board.name, "DIVISOR": DIVISOR, "PRESET": "tiny", "PAD_NS": 3.0, "BACK_NS": 1.5}
    run_cocotb(text, "bench", "cocotb_board", testcase="tokens_over_the_serial_line", env=env, simulators=("icarus",), seed=seed)


def test_the_files_are_the_same_each_time():
    assert board_files("ulx3s_85f").files == board_files("ulx3s_85f").files


@pytest.mark.parametrize(("arguments", "message"), [
    (["--board", "de10"], "onchip_25f, onchip_45f, onchip_85f, onchip_icepi_zero, arty_a7, arty_a7_35, de10_nano, kv260), got 'de10'"),
    (["--board", "ulx3s_85f", "--core", "paper8"], "core 'paper8' on ulx3s_85f: expected a core of at least 4 bytes a beat, got 1"),
    ([], "expected --core, --board or both, got neither"),
])  # fmt: skip
def test_wrong_options_are_one_message_and_write_nothing(arguments, message, tmp_path):
    result = CliRunner().invoke(main, ["verilog", *arguments, "-o", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("core", "warning"), [("tiny", ""), ("lean16", "; the core's own clock is 40 MHz: this one may be missed")])
def test_a_board_takes_another_core_and_says_if_its_clock_may_be_missed(tmp_path, core, warning):
    result = CliRunner().invoke(main, ["verilog", "--board", "ulx3s_85f", "--core", core, "-o", str(tmp_path / "out"), "--json"])
    assert result.exit_code == 0
    written = json.loads(result.stdout)
    assert written["core"] == core and written["note"] == f"written only: not placed, routed or run on a board{warning}"
