"""The ternary product unit alone in Verilator, as fast as we can make it: what the speed of the simulated core is compared with."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from amaranth.hdl import ClockDomain, DomainRenamer, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Flow, In

from trilobit.hdl.matmul import TernaryMatmul
from trilobit.hdl.verilog import simulation_verilog
from trilobit.isa.core import CoreConfig
from trilobit.isa.spec import ISA
from trilobit.sim.rtl_build import TOP, build_library

__all__ = ["MatmulAlone", "Product"]

HARNESS = Path(__file__).with_name("matmul_alone.cpp")


@dataclass(frozen=True, kw_only=True)
class Product:
    """One product: [rows, columns] of trits, and where its payload's beats begin in the array of all of them."""

    rows: int
    columns: int
    first_beat: int


class MatmulTop(wiring.Component):
    """The unit with a register behind every input, as the simulated core has (trilobit.sim.rtl_top)."""

    def __init__(self, config: CoreConfig):
        self.unit = TernaryMatmul(config)
        super().__init__({**dict(self.unit.signature.members.items()), "clk": In(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.unit = DomainRenamer("unit")(unit := self.unit)
        m.domains.sync = sync = ClockDomain(reset_less=True)
        m.domains.unit = inner = ClockDomain()
        m.d.comb += [sync.clk.eq(self.clk), inner.clk.eq(self.clk), inner.rst.eq(0)]
        for path, member, value in unit.signature.flatten(unit):
            outer = self
            for name in path:
                outer = getattr(outer, name)
            if member.flow == Flow.Out:
                m.d.comb += outer.eq(value)
                continue
            taken = Signal(value.shape(), name="in_" + "_".join(map(str, path)), reset_less=True)
            m.d.comb += value.eq(taken)
            # Wide inputs that change once a product are copied only then.
            if path[0] == "cmd" and path[-1] != "valid":
                with m.If(self.cmd.valid):
                    m.d.sync += taken.eq(outer)
            elif path == ("header",):
                with m.If(self.header_valid):
                    m.d.sync += taken.eq(outer)
            else:
                m.d.sync += taken.eq(outer)
        return m


class _Product(ctypes.Structure):
    _fields_ = [("word", ctypes.c_uint32 * 4), ("header", ctypes.c_uint32 * 4), ("columns", ctypes.c_uint32),
                ("first_beat", ctypes.c_uint32)]  # fmt: skip


class MatmulAlone:
    """Runs products one behind the other: commands, headers and weights always wait for the unit, its results may always be written.

    Args:
        config: the core whose unit it is.
        products: in order; addresses and scales are made up.
        beats: [beats, beat_bytes] of uint8, the payloads.
        activations: [columns] of int8, multiplied with every matrix.
        folder: an empty one, to build in.
    """

    FACTOR = 8
    """Results are this times the sums: 2^bp and both scales, see below."""

    def __init__(self, config: CoreConfig, products: Sequence[Product], beats: np.ndarray, activations: np.ndarray, folder: Path):
        build_library(folder, simulation_verilog(MatmulTop(config), TOP, f"{TOP}.*"), {"harness.cpp": HARNESS.read_text()},
                      [f"-DBEAT_BYTES={config.beat_bytes}", f"-DLANES={config.lanes}"], waves=False, log=folder / "log")  # fmt: skip
        self._run = ctypes.CDLL(str(folder / "core.so")).run
        self._run.restype = ctypes.c_uint64
        self._run.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_uint32] + [ctypes.c_void_p] * 3
        self._beats = np.ascontiguousarray(beats, dtype=np.uint8)
        self._activations = np.zeros(-(-len(activations) // config.beat_bytes) * config.beat_bytes, dtype=np.int8)
        self._activations[: len(activations)] = activations
        self._products = (_Product * len(products))()
        self.weights = sum(p.rows * p.columns for p in products)
        self.rows = sum(p.rows for p in products)
        for k, product in enumerate(products):
            addr = 16 * k
            word = ISA.encode("tmatmul", vd=1, act=0, addr=addr, len=product.rows, bp=9, wide=1)  # 2^9 * 2^-3 (header) * 2^-3 (harness)
            # HeaderLayout: addr 40, rows 16, columns 16, mantissa 18, exponent 10 bits.
            header = addr | product.rows << 40 | product.columns << 56 | (1 << 17) << 72 | (-20 & 0x3FF) << 90
            entry = self._products[k]
            for i in range(4):
                entry.word[i], entry.header[i] = word >> 32 * i & 0xFFFFFFFF, header >> 32 * i & 0xFFFFFFFF
            entry.columns, entry.first_beat = product.columns, product.first_beat

    def run(self) -> tuple[int, np.ndarray]:
        """Cycles that it took, and the results: [rows of all products] of int32."""
        results, written = np.zeros(self.rows, dtype=np.int32), ctypes.c_uint32()
        cycles = self._run(self._beats.ctypes.data, ctypes.addressof(self._products), len(self._products), self._activations.ctypes.data,
                           results.ctypes.data, ctypes.addressof(written))  # fmt: skip
        if written.value != self.rows:
            raise RuntimeError(f"expected {self.rows} results, got {written.value}")
        return cycles, results
