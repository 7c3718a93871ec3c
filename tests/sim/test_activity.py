"""The share of a core's registers that toggle, from SAIF and the Verilog that names the registers."""

import json
from importlib import resources

import numpy as np
import pytest

from trilobit.errors import ConfigError
from trilobit.isa.core import load_core
from trilobit.isa.program import Program
from trilobit.isa.spec import ISA
from trilobit.sim.activity import _registers, read_activity
from trilobit.sim.rtl import RtlSimulator
from trilobit.sim.rtl_build import core_verilog

VERILOG = """\
module trilobit_sim(clk);
  reg \\top_register  = 1'h0;
  always @(posedge clk)
    \\top_register  <= 1'h1;
module \\trilobit_sim.core (core_clk);
  reg running = 1'h0;
  reg [3:0] combinational;
  always @(posedge core_clk)
    if (core_rst) running <= 1'h0;
    else running <= start;
module \\trilobit_sim.core.unit (core_clk);
  reg [1:0] \\count$7  = 2'h0;
  reg [7:0] storage [15:0];
  reg [7:0] _0_;
  always @(posedge core_clk)
    \\count$7  <= \\$1 ;
  always @(posedge core_clk) begin
    _0_ <= storage[addr];
    storage[addr] <= data;
  end
"""
SAIF = """\
(SAIFILE
(DURATION 100)
 (INSTANCE core
  (NET
   (clk (T0 50) (T1 50) (TZ 0) (TX 0) (TB 0) (TC 20))
  )
  (INSTANCE trilobit_sim
   (NET
    (top_register (T0 5) (T1 5) (TZ 0) (TX 0) (TB 0) (TC 9))
   )
   (INSTANCE core
    (NET
     (core_clk (T0 50) (T1 50) (TZ 0) (TX 0) (TB 0) (TC 20))
     (running (T0 50) (T1 50) (TZ 0) (TX 0) (TB 0) (TC 1))
     (combinational\\[0\\] (T0 50) (T1 50) (TZ 0) (TX 0) (TB 0) (TC 20))
    )
    (INSTANCE unit
     (NET
      (core_clk (T0 50) (T1 50) (TZ 0) (TX 0) (TB 0) (TC 20))
      (count$7\\[0\\] (T0 50) (T1 50) (TZ 0) (TX 0) (TB 0) (TC 10))
      (count$7\\[1\\] (T0 50) (T1 50) (TZ 0) (TX 0) (TB 0) (TC 5))
     )
    )
   )
  )
 )
)
"""


def test_registers_count_and_nothing_else(tmp_path):
    path = tmp_path / "a.saif"
    path.write_text(SAIF)
    found = read_activity(path, VERILOG)
    assert (found.cycles, found.bits) == (10, 3)
    assert found.units["unit"].bits == 2 and found.units["unit"].share == pytest.approx(15 / 20)
    assert found.units["core"].bits == 1 and found.units["core"].share == pytest.approx(0.1)
    assert found.share == pytest.approx(16 / 30)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("(SAIFILE", "(VCD", "got something else"),
        ("count$7", "count$8", "expected the activity of this core, with 2 register bits in core.unit, got 0"),
        ("(TC 20)", "(TC 0)", "expected a clock that ran, got none"),
    ],
)
def test_what_is_no_activity_of_this_core_is_refused(tmp_path, old, new, text):
    path = tmp_path / "a.saif"
    path.write_text(SAIF.replace(old, new))
    with pytest.raises(ConfigError, match=text):
        read_activity(path, VERILOG)
    with pytest.raises(ConfigError, match="writes, got none"):
        read_activity(tmp_path / "none.saif", VERILOG)


def test_the_registers_of_a_core_are_those_that_synthesis_counts():
    """Synthesis drops some that are equal or constant, no more; a register that the Verilog's reader overlooks would be missing here."""
    registers = _registers(core_verilog(load_core("ulx3s"), gated_clocks=False, waves=True))
    found = sum(sum(of.values()) for module, of in registers.items() if module.startswith("trilobit_sim.core"))
    counted = json.loads(resources.files("trilobit.bitstreams").joinpath("area", "ulx3s-ecp5.json").read_text())["total"]["registers"]
    assert counted <= found <= 1.05 * counted


@pytest.mark.slow
def test_a_busy_core_toggles_more_than_an_idle_one_and_only_where_it_works(tmp_path, rng):
    core = load_core("tiny")
    values = rng.integers(-1000, 1000, 64)
    found = {}
    for name, work in (("idle", ISA.encode("nop")), ("busy", ISA.encode("add", vd=2, va=0, vb=1, len=64))):
        path = tmp_path / f"{name}.saif"
        program = Program(name, [work] * 200 + [ISA.encode("halt")], 256, 0)
        with RtlSimulator(core, program, np.zeros(256, np.uint8), waves=path) as rtl:
            rtl.set_register(0, values)
            rtl.set_register(1, values[::-1])
            assert rtl.run().halted
        found[name] = read_activity(path, core_verilog(core, gated_clocks=False, waves=True))
    idle, busy = found["idle"].units, found["busy"].units
    assert 0 < found["idle"].share < found["busy"].share < 0.5
    assert busy["rowwise"].share > 3 * idle["rowwise"].share and busy["regfile"].share > idle["regfile"].share
    assert busy["tmatmul"].share < 0.01 and busy["stream"].share < 0.01
