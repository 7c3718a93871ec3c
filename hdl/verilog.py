"""From a component to Verilog text: the only place that calls Amaranth's Verilog back end."""

import re

from amaranth.back import verilog
from amaranth.lib import wiring

__all__ = ["to_verilog"]

# Yosys makes combinational processes run at time 0 by a change of this variable. SystemVerilog initialises variables before any
# process waits, so a process whose inputs never change from their first values would leave its outputs X (seen on Icarus).
_TRIGGER = re.compile(r"^(  reg (\\\$auto\$verilog_backend\S+ )) = 0;$", re.MULTILINE)


def to_verilog(component: wiring.Component, name: str) -> str:
    """Self-contained Verilog of a component and all below it.

    The text is reproducible: the same component gives the same text on every machine (no source locations, no paths, no dates).
    Ports are named after the members of the component's signature, joined by two underscores (``cmd__valid``), plus ``clk`` and ``rst``
    if it has clocked logic.

    Args:
        component: a fresh instance; a component can be elaborated once.
        name: name of the top module.
    """
    text = verilog.convert(component, name=name, emit_src=False, strip_internal_attrs=True)
    return _TRIGGER.sub(r"\1;\n  initial \2 = 0;", text)
