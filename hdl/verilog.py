"""From a component to Verilog text: the only place that calls Amaranth's Verilog back end."""

import re

from amaranth.back import verilog
from amaranth.lib import wiring

__all__ = ["LINT_WAIVERS", "lint_waived", "standalone_verilog", "to_verilog"]

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
