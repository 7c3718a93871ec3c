"""The performance counters: one list of names, in the order in which the host reads them."""

from amaranth.hdl import Module, Mux, Signal
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
RUN_BITS = 8


class Counters(wiring.Component):
    """Counters of :data:`COUNTERS`, 40 bits each, cleared by ``clear``, counting while ``enable`` is high.

    Events last. So a counter is increased when one of them changes, by the clocks since the last change, which one short counter counts
    for all of them; the counters work in clock domain ``counts``, whose clock is needed only in cycles in which ``changes`` is high.

    Members
    -------
    changes: Out(1), an edge of ``counts`` changes something.
    events: Out of the core, a bit a counter (the last, ``saturated``, adds ``saturated`` instead).
    select, value: combinational read-out; beyond the last counter it reads 0.
    """

    def __init__(self, *, saturated_bits: int):
        super().__init__({
            "clear": In(1), "enable": In(1), "events": In(len(COUNTERS)), "saturated": In(saturated_bits),
            "select": In(6), "value": Out(48), "changes": Out(1),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        counters = [Signal(WIDTH, name=name) for name in COUNTERS]
        latest = Signal(len(counters) - 1)  # events of the last ``run`` cycles
        run = Signal(RUN_BITS)
        events, update = Signal.like(latest), Signal()
        m.d.comb += [
            events.eq(self.events[: len(latest)] & self.enable.replicate(len(latest))),
            update.eq((events != latest) | run.all()),
            self.changes.eq(update | (self.enable & (self.saturated != 0)) | self.clear),
        ]
        chosen, lasting = Signal(WIDTH), Signal()
        with m.Switch(self.select):
            for i, (counter, event) in enumerate(zip(counters, [*latest, 0], strict=True)):
                with m.Case(i):
                    m.d.comb += [chosen.eq(counter), lasting.eq(event)]
        m.d.comb += self.value.eq(chosen + Mux(lasting, run, 0))
        m.d.sync += run.eq(Mux(update, 1, run + 1))
        with m.If(update):
            m.d.counts += latest.eq(events)
            for event, counter in zip(latest, counters[:-1], strict=True):
                with m.If(event):
                    m.d.counts += counter.eq(counter + run)
        with m.If(self.enable):
            m.d.counts += counters[-1].eq(counters[-1] + self.saturated)
        with m.If(self.clear):
            m.d.counts += [latest.eq(0), *(counter.eq(0) for counter in counters)]
        return m
