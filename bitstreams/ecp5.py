"""Synthesis and place and route for ECP5 with the pip tools, and the reports that are kept."""

import hashlib
import json
import re
import tempfile
from collections import Counter
from pathlib import Path

from trilobit.bitstreams.units import cell_counts
from trilobit.errors import ToolError
from trilobit.hdl.boards.flow import PLACEMENT, synthesis_script
from trilobit.hdl.verilog import to_verilog
from trilobit.isa.core import CoreConfig
from trilobit.output import write_text
from trilobit.sim.toolchain import NEXTPNR_ECP5, YOSYS

__all__ = ["DEVICES", "route_out_of_context"]

DEVICES = {"85f": ("--85k", "CABGA381"), "45f": ("--45k", "CABGA381"), "25f": ("--25k", "CABGA381")}
SPEED = "6"
# Cells of nextpnr's utilisation report, and what they count.
RESOURCES = {"TRELLIS_FF": "registers", "TRELLIS_COMB": "luts", "MULT18X18D": "dsps", "DP16KD": "brams"}


# Without pins the clock would stay on the general wires, on which a whole core doesn't route: an oscillator of the chip as its source
# brings it onto the global network. Its own frequency means nothing here; the clock to aim for is another.
_CLOCK_SOURCE = '(* keep *) OSCG #(.DIV("4")) clock_source (.OSC(clk));'


def _with_global_clock(verilog: str, name: str) -> str:
    """The Verilog with the top's clock from an oscillator instead of its port, which stays and is not used."""
    start = verilog.index(f"module {name}(")
    ports, body = verilog[start:].split(");", 1)
    declared = "  input clk;\n  wire clk;\n"
    if declared not in body:
        raise ToolError(f"expected a clock clk at the top of {name}, found none")
    body = body.replace(declared, f"  input clk_pin;\n  wire clk;\n  {_CLOCK_SOURCE}\n", 1)
    return verilog[:start] + re.sub(r"\bclk\b", "clk_pin", ports) + ");" + body


def _cells(report: dict) -> dict[str, int]:
    return {name: report["utilization"][cell]["used"] for cell, name in RESOURCES.items()}


def _router_options(device: str, target_mhz: float, seed: int) -> list[str]:
    size, package = DEVICES[device]
    return [size, "--package", package, "--speed", SPEED, "--json", "top.json", "--report", "report.json", "--seed", str(seed), *PLACEMENT,
            "--freq", f"{target_mhz:g}", "--out-of-context", "--timing-allow-fail"]  # fmt: skip


def _report(raw: dict, name: str, verilog: str, config: CoreConfig, *, device: str, target_mhz: float, seed: int,
            script: str, options: list[str], unit: bool, synthesised: dict[str, int]) -> dict:  # fmt: skip
    """What is kept of nextpnr's report. A unit's isn't taken for its core's: the core is under another key."""
    versions = {"yosys": YOSYS.version, "nextpnr": NEXTPNR_ECP5.version}
    clocks = {re.sub(r"^\$glbnet\$", "", clock): f["achieved"] for clock, f in raw["fmax"].items()}
    if not clocks:
        raise ToolError(f"expected a clock in nextpnr's report of {name}, got none")
    digest = hashlib.sha256("\0".join([verilog, *versions.values(), script, *options]).encode()).hexdigest()[:16]
    achieved = min(clocks.values())
    missed = f", missing its goal of {target_mhz:g} MHz" if achieved < target_mhz else ""
    report = {
        "component": name, "device": f"LFE5U-{device.upper()}-{SPEED}",
        "evidence": f"placed and routed out of context{missed}; not run on a device",
        "unit_of_core" if unit else "core": config.parameters(), "resources": _cells(raw), "synthesised": synthesised,
        "fmax_mhz": round(achieved, 2), "target_mhz": target_mhz, "seed": seed,
        "tools": versions, "yosys": script, "nextpnr": options, "hash": digest,
    }  # fmt: skip
    return report


def route_out_of_context(component, name: str, config: CoreConfig, folder: Path, *, device: str = "85f", target_mhz: float = 60.0,
                         seed: int = 1, unit: bool = False, say=lambda text: None) -> dict:  # fmt: skip
    """Synthesise, place and route a component without pins, and leave ``report.json`` in the folder. A whole core's clock is global.

    ``resources`` are nextpnr's, after packing: ``luts`` are TRELLIS_COMB cells, two a carry cell and some more to bring carries
    into and out of chains. ``synthesised`` are Yosys' cells (LUT4, CCU2C, ...). PFU multiplexers are not used: LUTs are scarcer
    than time. The routed clock is nextpnr's own for speed grade 6; nothing was run on a device.

    Args:
        component: an Amaranth component, freshly made.
        name: name of the top module.
        config: what it was built with, for the report.
        folder: where report.json goes; the tools' logs go beside it only when they fail.
        target_mhz: the clock that nextpnr aims for; missing it is an error that says by how much.
        unit: the component is a unit of the core, not the whole.
        say: called with a line before each step.

    Returns:
        the report: resources, fmax_mhz, tool versions, a hash of Verilog and tools.

    Raises:
        ToolError: a tool is missing or failed, or the clock was missed.
    """
    verilog = to_verilog(component, name)
    script, options = synthesis_script(name), _router_options(device, target_mhz, seed)
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        (work / "top.v").write_text(verilog if unit else _with_global_clock(verilog, name))
        say(f"synthesis of {name} (Yosys)")
        YOSYS.run(["-q", "-p", script], cwd=work)
        synthesised = dict(sorted(Counter(k for k in cell_counts(work / "top.json", name).values() if k[0] != "$").items()))
        say(f"place and route of {name} (nextpnr)")
        NEXTPNR_ECP5.run(options, cwd=work)
        raw = json.loads((work / "report.json").read_text())
    report = _report(raw, name, verilog, config, device=device, target_mhz=target_mhz, seed=seed,
                     script=script, options=options, unit=unit, synthesised=synthesised)  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "report.json", json.dumps(report, indent=2) + "\n")
    if report["fmax_mhz"] < target_mhz:
        path = " -> ".join(step["to"]["cell"] for step in raw["critical_paths"][0]["path"][-4:]) if raw.get("critical_paths") else "unknown"
        raise ToolError(f"{name} misses its clock: expected {target_mhz} MHz, got {report['fmax_mhz']} MHz; the path ends {path}")
    return report
