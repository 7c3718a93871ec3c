"""The performance counters: one list of names, in the order in which the host reads them."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["COUNTERS", "STALLS", "Counters"]

# Why the program counter didn't issue in a cycle; at most one cause a cycle, the first that holds in this order.
STALLS = ("fetch", "unit_ldst", "unit_rmsnorm", "unit_tmatmul", "unit_rowwise", "read_port", "write_port", "activations", "token",
          "stream_queue", "host", "output", "drain")  # fmt: skip
COUNTERS = (
    "cycles", "issued",
    *(f"stall_{cause}" for cause in STALLS),
    "busy_ldst", "busy_rmsnorm", "busy_tmatmul", "busy_rowwise",
    "matmul_beats", "matmul_wait_weights", "matmul_wait_activations", "matmul_wait_output",
    "stream_read_beats", "ldst_read_beats", "write_beats", "saturated",
)  # fmt: skip
WIDTH = 40


class Counters(wiring.Component):
    """Counters of :data:`COUNTERS`, 40 bits each, cleared by ``clear``, counting while ``enable`` is high.

    Members
    -------
    events: Out of the core, a bit a counter (the last, ``saturated``, adds ``saturated`` instead).
    select, value: combinational read-out; beyond the last counter it reads 0.
    """

    def __init__(self, *, saturated_bits: int):
        super().__init__({
            "clear": In(1), "enable": In(1), "events": In(len(COUNTERS)), "saturated": In(saturated_bits),
            "select": In(6), "value": Out(48),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        counters = [Signal(WIDTH, name=name) for name in COUNTERS]
        with m.Switch(self.select):
            for i, counter in enumerate(counters):
                with m.Case(i):
                    m.d.comb += self.value.eq(counter)
        with m.If(self.enable):
            for event, counter in zip(self.events, counters[:-1], strict=False):
                with m.If(event):
                    m.d.sync += counter.eq(counter + 1)
            m.d.sync += counters[-1].eq(counters[-1] + self.saturated)
        with m.If(self.clear):
            m.d.sync += [counter.eq(0) for counter in counters]
        return m
