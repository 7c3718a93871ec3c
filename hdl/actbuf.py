"""The two int8 activation buffers between the norm unit and the ternary product."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from trilobit.hdl.interfaces import ActReadSignature, ActWriteSignature
from trilobit.isa.core import CoreConfig

__all__ = ["ActivationBuffers"]


class ActivationBuffers(wiring.Component):
    """Buffers a0 and a1 with their scales and lengths.

    They are claimed at issue like registers: the norm unit fills one while the product reads the other, and a product may begin on a buffer
    that is still being filled. A writer waits (``write.ok``) for an older product on its buffer to finish altogether, since a product reads
    every beat once per five rows. With a batch a beat holds every slot's bytes, and each slot has a scale. Latency: read data one cycle
    after ``en``.

    Members
    -------
    write, read: the units' sides.
    claim_write, claim_read, claim_buf: the issuing instruction's claim.
    write_busy, read_busy: a bit a buffer.
    """

    def __init__(self, config: CoreConfig):
        self.config = config
        super().__init__({
            "write": In(ActWriteSignature(config)), "read": In(ActReadSignature(config)),
            "claim_write": In(1), "claim_read": In(1), "claim_buf": In(1), "write_busy": Out(2), "read_busy": Out(2),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        n, lanes, batch = self.config.beat_bytes, self.config.lanes, self.config.batch
        beats = -(-self.config.max_length // n)
        half = 1 << max(ceil_log2(beats), 1)  # beats of one buffer in the shared memory
        # A beat counts as ready from the cycle after it was written, and is overwritten only after its reader's release.
        m.submodules.memory = sram = memory.Memory(shape=8 * n * batch, depth=2 * half, init=[], attrs={"no_rw_check": 1})
        rport = sram.read_port()
        wport = sram.write_port(granularity=8 * lanes)
        part = ceil_log2(n // lanes)  # address bits that choose the word within a beat
        write, read = self.write, self.read

        m.d.comb += [
            wport.addr.eq(Cat((write.addr >> part)[: ceil_log2(half)], write.buf)),
            # Each slot's lanes are offered to every word of its part of the beat.
            wport.data.eq(Cat(write.data.word_select(slot, 8 * lanes).replicate(n // lanes) for slot in range(batch))),
            wport.en.eq(Mux(write.en, 1 << write.addr[:part] if part else 1, 0)[: n // lanes].replicate(batch)),
            rport.addr.eq(Cat(read.beat, Signal(max(ceil_log2(half) - len(read.beat), 0)), read.buf)),
            rport.en.eq(read.en),
            read.data.eq(rport.data),
        ]
        scales, lengths, raws, wars, starteds, beat_counts = [], [], [], [], [], []
        for b in range(2):
            scale, length = Signal.like(write.scale, name=f"scale{b}"), Signal(16, name=f"length{b}")
            raw, war, started = (Signal(name=f"{name}{b}") for name in ("raw", "war", "started"))
            words = Signal(range(self.config.words + 2), name=f"words{b}")
            ready = Signal(range(beats + 1), name=f"ready{b}")  # beats that are complete
            writer, reader = self.write_busy[b], self.read_busy[b]
            scales.append(scale), lengths.append(length), raws.append(raw), wars.append(war), starteds.append(started)
            beat_counts.append(ready)
            mine = write.buf == b
            last = Signal(name=f"last{b}")
            m.d.comb += last.eq(write.en & mine & (write.addr + 1 == words))
            with m.If(write.start & mine):
                m.d.sync += [scale.eq(write.scale), length.eq(write.length), started.eq(1), ready.eq(0)]
                m.d.sync += words.eq((write.length + lanes - 1) >> ceil_log2(lanes))
            with m.If(write.en & mine & (write.addr[:part].all() if part else 1)):
                m.d.sync += ready.eq(ready + 1)
            with m.If(last):
                m.d.sync += [writer.eq(0), raw.eq(0)]
            with m.If(read.release & (read.buf == b)):
                m.d.sync += [reader.eq(0), war.eq(0)]
            with m.If(self.claim_write & (self.claim_buf == b)):
                m.d.sync += [writer.eq(1), started.eq(0), war.eq(reader & ~(read.release & (read.buf == b)))]
            with m.If(self.claim_read & (self.claim_buf == b)):
                m.d.sync += [reader.eq(1), raw.eq(writer & ~last)]

        def pick(items, index):
            return Array(items)[index]  # two entries: a multiplexer

        m.d.comb += [
            write.ok.eq(~pick(wars, write.buf)),
            read.scale_ok.eq(~pick(raws, read.buf) | pick(starteds, read.buf)),
            read.ok.eq(pick([~r | (s & (read.beat < n)) for r, s, n in zip(raws, starteds, beat_counts, strict=True)], read.buf)),
            read.length.eq(pick(lengths, read.buf)),
            read.scale.eq(Mux(read.buf, scales[1].as_value(), scales[0].as_value())),
        ]
        return m
