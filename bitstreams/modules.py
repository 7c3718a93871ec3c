"""Verilog of Amaranth's back end taken apart: which modules it has, which of them are the same, and how often each stands in each unit."""

import hashlib
import re
from collections import Counter
from dataclasses import dataclass

from trilobit.errors import ToolError

__all__ = ["Design", "DistinctModule", "distinct_modules"]

_MODULE = re.compile(r"^module (\S+) ?\(.*?^endmodule\n", re.MULTILINE | re.DOTALL)
_PORT = re.compile(r"^  (?:input|output) .*?;\n", re.MULTILINE)
# Names with numbers that Amaranth and Yosys count over the whole design, so that equal modules differ by them.
_COUNTED = re.compile(r"\\(?:port\$\d+\$\d+|\$auto\$verilog_backend\S+)(?=\s)")
_CONNECTION = re.compile(r"^    \.(\\\S+)(?= )", re.MULTILINE)


@dataclass(frozen=True)
class DistinctModule:
    """A module under a name made from its content, which equal modules share.

    Attributes:
        name: ``m_`` and a hash of its text, those below it included.
        text: its Verilog under that name.
        stub: its ports alone, for tools that should not look into it.
        children: names of the modules that stand directly in it, and how often.
    """

    name: str
    text: str
    stub: str
    children: Counter[str]


@dataclass(frozen=True)
class Design:
    """A design's distinct modules.

    Attributes:
        top: name of the top's.
        units: instances directly in the top -> name of their module.
        modules: every distinct module by name, those that stand in others before them.
    """

    top: str
    units: dict[str, str]
    modules: dict[str, DistinctModule]

    def within(self, name: str) -> Counter[str]:
        """Modules of the tree under (and with) a module, and how often each stands there."""
        found = Counter({name: 1})
        for child, count in self.modules[name].children.items():
            for module, times in self.within(child).items():
                found[module] += count * times
        return found


def distinct_modules(verilog: str, top: str) -> Design:
    """Take a design apart.

    Args:
        verilog: as :func:`trilobit.hdl.verilog.to_verilog` writes it.
        top: name of the top module.

    Raises:
        ToolError: no such module.
    """
    found = {match[1]: match[0] for match in _MODULE.finditer(verilog)}
    if top not in found:
        raise ToolError(f"expected a module {top} in the Verilog, found {', '.join(found) or 'none'}")
    modules: dict[str, DistinctModule] = {}
    done: dict[str, tuple[str, dict[str, str]]] = {}  # module -> its new name, and its ports' new names
    instance = re.compile(rf"^  ({'|'.join(map(re.escape, found))}) +(\S+) +\(\n(.*?)^  \);\n", re.MULTILINE | re.DOTALL)
    units: dict[str, str] = {}

    def visit(name: str) -> str:
        if name in done:
            return done[name][0]
        children: Counter[str] = Counter()

        def place(match: re.Match) -> str:
            child = visit(match[1])
            children[child] += 1
            if name == top:
                units[match[2].lstrip("\\")] = child
            ports = done[match[1]][1]
            connections = _CONNECTION.sub(lambda m: f"    .{ports.get(m[1], m[1])}", match[3])
            return f"  {child} part{children.total()} (\n{connections}  );\n"  # their own names have counted numbers, too

        text = instance.sub(place, found[name])
        names: dict[str, str] = {}
        text = _COUNTED.sub(lambda m: names.setdefault(m[0], f"\\counted${len(names)}"), text)
        text = text.replace(f"module {name}", "module ()", 1)
        own = f"m_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        text = text.replace("module ()", f"module {own}", 1)
        header = text[: text.index(";\n") + 2]
        stub = f"(* blackbox *)\n{header}{''.join(_PORT.findall(text))}endmodule\n"
        modules.setdefault(own, DistinctModule(own, text, stub, children))
        done[name] = own, names
        return own

    return Design(visit(top), units, modules)
