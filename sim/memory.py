"""The memories behind a simulated core: what they are called, their parameters, and how fast their pins are.

Fixed latency (:class:`MemoryModel`): one read channel that returns data in request order, at most a beat a cycle; one write at a time. In
the terms of :class:`trilobit.hdl.interfaces.MemorySignature`, with cycles numbered at the core's clock:

- a read request taken in cycle t brings its first beat in cycle ``t + latency`` at the earliest, behind all beats of earlier requests, and
  then a beat a cycle;
- ``rd_ready`` is low in a cycle that begins with ``outstanding`` requests whose last beat has not been delivered;
- a write request is taken when no other is in flight, its beats are taken one a cycle from the next cycle on, and the response comes
  ``latency`` cycles after the last beat. Reads see a write from its last beat's cycle on.

Dynamic memories are YAML files, those that come with Trilobit in ``sim/memories``: a DRAM behind an assumed controller
(:class:`DramModel`; ``memory_dram.h`` has the rules), or an SDRAM behind the project's own, equal to its RTL (:class:`SdramModel`).
The timing itself is ``memory_model.h``, which the RTL simulation and the cycle model share. Refresh counters are zero at a run's start.
"""

import ctypes
import math
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from trilobit.errors import ConfigError

__all__ = [
    "IDEAL",
    "MEMORY_HEADERS",
    "DramModel",
    "Memory",
    "MemoryModel",
    "MemoryParameters",
    "SdramModel",
    "load_memory",
    "memories",
    "parse_memory",
]

MEMORY_HEADERS = ("memory_model.h", "memory_dram.h", "memory_sdram.h", "memory_port.h")
"""What a compiled simulation needs to include memory_model.h."""

UNLIMITED = 0
FIXED, DRAM, SDRAM = range(3)  # enum MemoryKind of memory_model.h
WORD_32 = (1 << 32) - 1


class DramParameters(ctypes.Structure):
    """``struct DramParameters`` of ``memory_dram.h``, times in command clocks."""

    _fields_ = [(name, ctypes.c_uint32) for name in (
        "clocks_num", "clocks_den", "access_bytes", "access_clocks", "banks", "bank_groups", "row_bytes",
        "rcd", "rp", "ras", "rc", "rfc", "refi", "rrd_s", "rrd_l", "faw", "ccd_s", "ccd_l",
        "cl", "cwl", "rtp", "wr", "wtr", "rtw", "queue", "front", "back", "posted",
    )]  # fmt: skip


class SdramParameters(ctypes.Structure):
    """``struct SdramParameters`` of ``memory_sdram.h``, times in cycles of the core."""

    _fields_ = [(name, ctypes.c_uint32) for name in (
        "column_bits", "row_bits", "activate_column", "precharge", "activate_precharge", "activate_activate", "refresh",
        "write_precharge", "read_write", "refresh_interval", "flight", "queue",
    )]  # fmt: skip


class MemoryParameters(ctypes.Structure):
    """``struct MemoryParameters`` of ``memory_model.h``."""

    _fields_ = [("kind", ctypes.c_uint32), ("latency", ctypes.c_uint32), ("outstanding", ctypes.c_uint32), ("dram", DramParameters),
                ("sdram", SdramParameters)]  # fmt: skip


class Memory(ABC):
    """A memory by its parameters."""

    name: str

    @abstractmethod
    def parameters(self, clock_mhz: float) -> MemoryParameters:
        """For the compiled models (``make_memory``), behind a core with this clock."""

    @abstractmethod
    def pin_bytes_per_cycle(self, clock_mhz: float) -> float | None:
        """Bytes that the memory's pins move in a cycle of the core at most; None if only the core's port is the limit."""


@dataclass(frozen=True)
class MemoryModel(Memory):
    """A memory of fixed latency.

    Attributes:
        latency: cycles from a request to its first beat, at least 1.
        outstanding: read requests that may be in flight; 0 for no limit.
    """

    latency: int
    outstanding: int = UNLIMITED

    def __post_init__(self):
        if not 1 <= self.latency <= 1_000_000:
            raise ConfigError(f"expected a memory latency from 1 to 1000000 cycles, got {self.latency!r}")
        if not 0 <= self.outstanding <= 65536:
            raise ConfigError(f"expected from 1 to 65536 outstanding requests (0: no limit), got {self.outstanding!r}")

    @property
    def name(self) -> str:  # type: ignore[override]  # an attribute there: follows from others here
        """As :func:`parse_memory` takes it."""
        if (self.latency, self.outstanding) == (1, UNLIMITED):
            return "ideal"
        return f"latency:{self.latency}" + (f",outstanding={self.outstanding}" if self.outstanding else "")

    def parameters(self, clock_mhz: float = 0.0) -> MemoryParameters:
        return MemoryParameters(FIXED, self.latency, self.outstanding)

    def pin_bytes_per_cycle(self, clock_mhz: float) -> None:
        return None

    @staticmethod
    def parse(text: "str | Memory") -> Memory:
        """:func:`parse_memory`."""
        return parse_memory(text)


IDEAL = MemoryModel(1)
"""A request in every cycle, its first beat in the next, a beat a cycle."""


@dataclass(frozen=True, kw_only=True)
class DramModel(Memory):
    """A dynamic memory and its controller: the keys of its YAML file.

    Attributes:
        name: what it is called.
        clock_mhz: command clock.
        clock_ratio: instead of clock_mhz, command clocks in a cycle of the core.
        data_rate: words a command clock on the data bus.
        bus_bytes: bytes of a word, of one channel.
        burst_words: words of one column command.
        channels: channels that work in step, each moving bus_bytes a word.
        banks, bank_groups: banks in all, and groups that they are divided into.
        row_bytes: of an open row, on all channels.
        t_rcd, t_rp, t_ras, t_rc, t_rfc, t_refi, t_rrd_s, t_rrd_l, t_faw, t_rtp, t_wr, t_wtr: ns, by the standards' names.
        cas_clocks, write_cas_clocks: command to first data.
        ccd_s_clocks, ccd_l_clocks: column to column, between bank groups and within one.
        rtw_clocks: read command to write command.
        queue: read requests that the controller has under way.
        request_ns, response_ns: from a request to the first command that it can cause; from a beat's last data to the beat at the core.
        posted_writes: a write is answered when the controller has its last beat, not when the memory has it.
        sources: where the figures are from.
    """

    name: str
    clock_mhz: float | None = None
    clock_ratio: int | None = None
    data_rate: int
    bus_bytes: int
    burst_words: int
    channels: int = 1
    banks: int
    bank_groups: int = 1
    row_bytes: int
    t_rcd: float
    t_rp: float
    t_ras: float
    t_rc: float
    t_rfc: float
    t_refi: float
    t_rrd_s: float
    t_rrd_l: float
    t_faw: float
    t_rtp: float
    t_wr: float
    t_wtr: float
    cas_clocks: int
    write_cas_clocks: int
    ccd_s_clocks: int
    ccd_l_clocks: int
    rtw_clocks: int
    queue: int
    request_ns: float
    response_ns: float
    posted_writes: bool
    sources: tuple[str, ...]
    description: str = ""

    def __post_init__(self):
        if (self.clock_mhz is None) == (self.clock_ratio is None):
            raise self._error("one of clock_mhz and clock_ratio", "both" if self.clock_mhz else "neither")
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, (int, float)) and not isinstance(value, bool) and not 0 <= value <= 1e6:
                raise self._error(f"{field.name} from 0 to 1e6", repr(value))
        for name in ("data_rate", "bus_bytes", "burst_words", "channels", "banks", "bank_groups", "row_bytes", "queue", "t_refi",
                     "cas_clocks", "ccd_s_clocks", "ccd_l_clocks", "clock_mhz", "clock_ratio"):  # fmt: skip
            if getattr(self, name) == 0:
                raise self._error(f"{name} above 0", "0")
        if self.burst_words % self.data_rate:
            raise self._error(f"burst_words as a multiple of data_rate={self.data_rate}", repr(self.burst_words))
        if self.banks % self.bank_groups:
            raise self._error(f"banks as a multiple of bank_groups={self.bank_groups}", repr(self.banks))
        if self.row_bytes % self.access_bytes:
            raise self._error(f"row_bytes as a multiple of an access's {self.access_bytes} bytes", repr(self.row_bytes))
        if self.t_refi <= self.t_rfc + self.t_rp + self.t_rcd:
            raise self._error("t_refi above t_rfc + t_rp + t_rcd", repr(self.t_refi))
        if not self.sources:
            raise self._error("at least one entry in sources", "none")

    def _error(self, expected: str, got: str) -> ConfigError:
        return ConfigError(f"memory {self.name!r}: expected {expected}, got {got}")

    @property
    def access_bytes(self) -> int:
        """Bytes of one column command, on all channels."""
        return self.burst_words * self.bus_bytes * self.channels

    @property
    def access_clocks(self) -> int:
        """Command clocks that one column command keeps the data bus."""
        return self.burst_words // self.data_rate

    def command_mhz(self, clock_mhz: float) -> float:
        """The command clock behind a core of this clock."""
        return self.clock_mhz if self.clock_mhz is not None else clock_mhz * (self.clock_ratio or 1)

    def pin_bytes_per_cycle(self, clock_mhz: float) -> float:
        return self.bus_bytes * self.data_rate * self.channels * self.command_mhz(clock_mhz) / clock_mhz

    def clocks(self, ns: float, clock_mhz: float) -> int:
        """A time in command clocks, rounded up."""
        return math.ceil(ns * self.command_mhz(clock_mhz) / 1000 - 1e-6)

    def parameters(self, clock_mhz: float) -> MemoryParameters:
        ratio = Fraction(self.command_mhz(clock_mhz) / clock_mhz).limit_denominator(1000)

        def up(ns: float) -> int:
            return self.clocks(ns, clock_mhz)

        dram = DramParameters(
            clocks_num=ratio.numerator, clocks_den=ratio.denominator, access_bytes=self.access_bytes, access_clocks=self.access_clocks,
            banks=self.banks, bank_groups=self.bank_groups, row_bytes=self.row_bytes,
            rcd=up(self.t_rcd), rp=up(self.t_rp), ras=up(self.t_ras), rc=up(self.t_rc), rfc=up(self.t_rfc),
            refi=int(self.t_refi * self.command_mhz(clock_mhz) / 1000 + 1e-6),
            rrd_s=up(self.t_rrd_s), rrd_l=up(self.t_rrd_l), faw=up(self.t_faw), ccd_s=self.ccd_s_clocks, ccd_l=self.ccd_l_clocks,
            cl=self.cas_clocks, cwl=self.write_cas_clocks, rtp=up(self.t_rtp), wr=up(self.t_wr), wtr=up(self.t_wtr), rtw=self.rtw_clocks,
            queue=self.queue, front=up(self.request_ns), back=up(self.response_ns), posted=int(self.posted_writes),
        )  # fmt: skip
        return MemoryParameters(DRAM, 0, 0, dram)


@dataclass(frozen=True, kw_only=True)
class SdramModel(Memory):
    """A 16-bit SDR SDRAM at twice the core's clock behind the project's controller (``hdl/sdram.py``), equal to it in every cycle.

    Attributes:
        name: what it is called.
        chip: an entry of ``hdl/sdram_chips.yaml``.
        cas_latency: 2 or 3.
        io_latency: clocks of the chip that registers and wires add, there and back.
        write_queue_beats: what the controller gathers of a write: ``burst_beats`` of its core.
        sources: where the figures are from.
    """

    name: str
    chip: str
    cas_latency: int
    io_latency: int
    write_queue_beats: int
    sources: tuple[str, ...]
    description: str = ""

    def __post_init__(self):
        from trilobit.hdl.sdram_chip import sdram_chips

        if self.chip not in sdram_chips():
            raise ConfigError(f"memory {self.name!r}: expected a chip ({', '.join(sdram_chips())}), got {self.chip!r}")
        for name, low, high in (("io_latency", 0, 100), ("write_queue_beats", 2, 256)):
            if not low <= (value := getattr(self, name)) <= high:
                raise ConfigError(f"memory {self.name!r}: expected {name} from {low} to {high}, got {value!r}")

    def pin_bytes_per_cycle(self, clock_mhz: float) -> float:
        return 4.0

    def parameters(self, clock_mhz: float) -> MemoryParameters:
        """For the compiled models.

        Raises:
            ConfigError: the chip has no such CAS latency, or is slower than twice the core's clock.
        """
        from trilobit.hdl.sdram_chip import load_sdram_chip

        chip = load_sdram_chip(self.chip)
        slots = chip.slots(clock_mhz, self.cas_latency)
        sdram = SdramParameters(
            column_bits=chip.column_bits - 1, row_bits=chip.row_bits, activate_column=slots.activate_column, precharge=slots.precharge,
            activate_precharge=slots.activate_precharge, activate_activate=slots.activate_activate, refresh=slots.refresh,
            write_precharge=slots.write_precharge, read_write=slots.read_write, refresh_interval=slots.refresh_interval,
            flight=(self.cas_latency + self.io_latency + 1) // 2, queue=self.write_queue_beats,
        )  # fmt: skip
        return MemoryParameters(SDRAM, 0, 0, DramParameters(), sdram)


def memories() -> list[str]:
    """The names of the memories that come with Trilobit as files."""
    return sorted(p.name[:-5] for p in resources.files("trilobit.sim").joinpath("memories").iterdir() if p.name.endswith(".yaml"))


def load_memory(name: str, text: str) -> "DramModel | SdramModel":
    """A memory from the text of a YAML file.

    Raises:
        ConfigError: not YAML, an unknown or a missing key, or a value that makes no sense.
    """
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"memory {name!r}: not readable as YAML: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"memory {name!r}: expected a mapping of parameters, got {type(data).__name__}")
    kind = data.pop("kind", None)
    if kind == "sdram":
        return _fill(SdramModel, name, data)
    if kind != "dram":
        raise ConfigError(f"memory {name!r}: expected kind: dram or sdram, got {kind!r}")
    controller = data.pop("controller", None)
    if not isinstance(controller, dict):
        raise ConfigError(f"memory {name!r}: expected controller as a mapping, got {controller!r}")
    inside = {"queue", "request_ns", "response_ns", "posted_writes"}
    known = {field.name: field for field in fields(DramModel) if field.name != "name"}
    for where, keys, allowed in (("", data, set(known) - inside), ("controller.", controller, inside)):
        if unknown := set(keys) - allowed:
            raise ConfigError(f"memory {name!r}: unknown parameter {where}{min(unknown, key=str)}; known are {', '.join(sorted(allowed))}")
    return _fill(DramModel, name, data | controller)


def _fill(kind: Any, name: str, values: dict[str, Any]) -> Any:
    """A memory of a class from its keys, types checked."""
    known = {field.name: field for field in fields(kind) if field.name != "name"}
    if unknown := set(values) - set(known):
        raise ConfigError(f"memory {name!r}: unknown parameter {min(unknown, key=str)}; known are {', '.join(sorted(known))}")
    for key, value in values.items():
        if not _has_type(value, known[key].type):
            raise ConfigError(f"memory {name!r}: expected {key} as {_type_name(known[key].type)}, got {value!r}")
    values["sources"] = tuple(values.get("sources", ()))
    try:
        return kind(name=name, **values)
    except TypeError as error:
        raise ConfigError(f"memory {name!r}: {str(error).removeprefix(f'{kind.__name__}.__init__() ')}") from error


def _has_type(value: Any, expected: Any) -> bool:
    if expected == tuple[str, ...]:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if expected in (float, float | None):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if expected in (int, int | None):
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, expected)


def _type_name(expected: Any) -> str:
    if expected == tuple[str, ...]:
        return "a list of texts"
    if expected in (float, float | None):
        return "a number"
    return {int: "a whole number", bool: "true or false", str: "text"}.get(expected, "a whole number")


def parse_memory(text: str | Memory) -> Memory:
    """``ideal``, ``latency:N[,outstanding=M]`` in cycles and requests, a name of :func:`memories`, or a YAML file of the same form.

    Raises:
        ConfigError: none of them, or a file that makes no sense.
    """
    if isinstance(text, Memory):
        return text
    if text == "ideal":
        return IDEAL
    if match := re.fullmatch(r"latency:(\d+)(?:,outstanding=(\d+))?", text):
        return MemoryModel(*(int(group) for group in match.groups() if group is not None))
    if text in memories():
        return load_memory(text, resources.files("trilobit.sim").joinpath(f"memories/{text}.yaml").read_text())
    if text.endswith((".yaml", ".yml")):
        try:
            return load_memory(Path(text).stem, Path(text).read_text())
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"memory {text!r}: can't read the file: {error}") from error
    raise ConfigError(f"expected a memory as ideal, latency:N[,outstanding=M], {', '.join(memories())} or a YAML file, got {text!r}")
