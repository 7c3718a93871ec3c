"""How much of a core toggles in a clock: its registers' bits in a SAIF file that the RTL simulator wrote.

Which nets are registers is read from the core's Verilog; SAIF (IEEE 1801, annex I) has their toggles by instance. RTL simulation sees one
change a clock at most: what glitches in look-up tables is not in it.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from trilobit.errors import ConfigError
from trilobit.sim.rtl_build import TOP

__all__ = ["Activity", "UnitActivity", "read_activity"]

_CORE = f"{TOP}.core"
_EXPECTED = "expected switching activity, which trilobit run --backend rtl --waves FILE.saif writes"
_CLOCK = "core_clk"  # of every module that has registers
_MODULE = re.compile(r"^module \\?(\S+) ?\(")
_REGISTER = re.compile(r"^  reg (?:\[(\d+):0\] )?\\?(\S+?) *(?:=|;)")
_EDGE = re.compile(r"^  always @\(posedge ")
_ASSIGNED = re.compile(r"^\s+(?:if .*\)|else)?\s*\\?(\S+)\s+<= ")
_INSTANCE = re.compile(r"^\s*\(INSTANCE (\S+)")
_NET = re.compile(r"^\s*\((\S+?)(?:\\\[(\d+)\\\])? \(T0 .*\(TC (\d+)\)\)")


@dataclass(frozen=True, kw_only=True)
class UnitActivity:
    """A unit's register bits, and how many of them change in a clock, on average."""

    bits: int
    toggles: float

    @property
    def share(self) -> float:
        """Of the bits, that change in a clock."""
        return self.toggles / self.bits


@dataclass(frozen=True, kw_only=True)
class Activity:
    """What toggled in ``cycles`` clocks: of each unit (``core``: what stands between the units), and of all of them."""

    cycles: int
    units: dict[str, UnitActivity]

    @property
    def bits(self) -> int:
        """Register bits of the core."""
        return sum(unit.bits for unit in self.units.values())

    @property
    def share(self) -> float:
        """Of the core's register bits, that change in a clock."""
        return sum(unit.toggles for unit in self.units.values()) / self.bits


def _registers(verilog: str) -> dict[str, dict[str, int]]:
    """The bits of each register, by module: what is assigned at a clock edge and is no memory."""
    found: dict[str, dict[str, int]] = {}
    widths: dict[str, int] = {}
    registers: dict[str, int] = {}
    at_edge = False
    for line in verilog.splitlines():
        if match := _MODULE.match(line):
            widths, registers = {}, found.setdefault(match[1], {})
        elif match := _REGISTER.match(line):
            widths[match[2]] = int(match[1] or 0) + 1
        elif _EDGE.match(line):
            at_edge = True
        elif at_edge and (match := _ASSIGNED.match(line)):
            if match[1] in widths and not match[1].startswith("_"):  # nameless ones are the read ports of memories
                registers[match[1]] = widths[match[1]]
        elif not line.startswith("    "):
            at_edge = False
    return found


def read_activity(path: Path, verilog: str) -> Activity:
    """The activity of a core's registers.

    Args:
        path: SAIF from ``trilobit run --backend rtl --waves FILE.saif``.
        verilog: of the same core, every signal in it, without gated clocks (:func:`trilobit.sim.rtl_build.core_verilog`).

    Raises:
        ConfigError: no SAIF, no clock in it, or one of another core.
    """
    registers = {module: of for module, of in _registers(verilog).items() if module == _CORE or module.startswith(f"{_CORE}.")}
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {_EXPECTED}, got none ({error})") from error
    if "(SAIFILE" not in text[:1000]:
        raise ConfigError(f"{path}: {_EXPECTED}, got something else")
    toggles: dict[str, int] = {}
    seen: dict[str, int] = {}
    edges = 0
    scope: list[str] = []
    for line in text.splitlines():
        if match := _INSTANCE.match(line):
            depth = len(line) - len(line.lstrip()) - 1
            scope = [*scope[:depth], match[1].replace("\\", "")]
        elif match := _NET.match(line):
            module, name = ".".join(scope[1:]), match[1].replace("\\", "")
            if name == _CLOCK and module == _CORE:
                edges = int(match[3])
            if name in registers.get(module, ()):
                toggles[module] = toggles.get(module, 0) + int(match[3])
                seen[module] = seen.get(module, 0) + 1
    expected = {module: sum(of.values()) for module, of in registers.items() if of}
    if seen != expected:
        different = next((module for module in expected if seen.get(module) != expected[module]), _CORE)
        raise ConfigError(
            f"{path}: expected the activity of this core, with {expected.get(different, 0)} register bits in "
            f"{different.removeprefix(TOP + '.')}, got {seen.get(different, 0)}; "
            "write it again with the core and the version that it is read with"
        )
    if not edges:
        raise ConfigError(f"{path}: expected a clock that ran, got none; let the program run for longer")
    cycles = edges // 2
    units: dict[str, tuple[int, int]] = {}
    for module, bits in expected.items():
        unit = "core" if module == _CORE else module.split(".")[2]
        before = units.get(unit, (0, 0))
        units[unit] = before[0] + bits, before[1] + toggles[module]
    return Activity(cycles=cycles, units={u: UnitActivity(bits=b, toggles=t / cycles) for u, (b, t) in sorted(units.items())})
