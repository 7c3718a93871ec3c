"""A core's memory in the FPGA's block RAM: an image from power-on, and a part at its end that the program may write."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In

from trilobit.hdl.interfaces import MemorySignature
from trilobit.isa.core import CoreConfig

__all__ = ["BLOCK_BITS", "LATENCY", "OUTSTANDING", "OnChipMemory", "bank_sizes", "memory_blocks"]

LATENCY = 3
"""Cycles from a read request to its first beat, and from the last written beat to the response."""
OUTSTANDING = 2
"""Read requests whose last beat has not been delivered: another one is not taken."""
BLOCK_BITS = 16384
"""Bits of an ECP5's block RAM in words of a power of two; the other 2,048 are parity bits, which are not used."""


def memory_blocks(size: int) -> int:
    """Block RAMs that a memory of ``size`` bytes takes."""
    return -(-8 * size // BLOCK_BITS)


def bank_sizes(config: CoreConfig, size: int) -> list[int]:
    """Beats of each bank of a memory of ``size`` bytes: powers of two, falling, none deeper than a block RAM of words of one bit.

    A bank's blocks all work in each read, each for some of its bits, so that nothing has to be selected behind them but the bank.
    """
    blocks, largest = memory_blocks(size), 8 * config.beat_bytes
    sizes = [largest] * (blocks // largest)
    sizes += [1 << k for k in reversed(range(largest.bit_length())) if blocks % largest >> k & 1]
    return [count * BLOCK_BITS // largest for count in sizes]


class OnChipMemory(wiring.Component):
    """Block RAM behind a core's memory port. Contents are there from power-on; only the banks from ``write_start`` on can be written.

    A beat a clock. The timing is that of the memory model ``latency:3,outstanding=2`` (:mod:`trilobit.sim.memory`): a request
    taken in cycle t brings its first beat in cycle t + LATENCY at the earliest, behind the beats of the one before, then a beat a cycle.
    There are no errors: an address beyond the end reads as zero and is not written.

    Parameters
    ----------
    config : CoreConfig
    image : bytes
        Contents from address 0; what follows is zero.
    size : int
        Bytes, at least the image's; rounded up to whole block RAMs.
    write_start : int
        The program writes nothing below; a multiple of beat_bytes.

    Members
    -------
    mem : In(MemorySignature(config))
    """

    def __init__(self, config: CoreConfig, image: bytes, *, size: int, write_start: int):
        n = config.beat_bytes
        if not 0 < len(image) <= size:
            raise ValueError(f"expected an image of 1 to {size} bytes, got {len(image)}")
        if write_start % n or not 0 <= write_start <= size:
            raise ValueError(f"expected write_start as a multiple of {n} up to {size}, got {write_start!r}")
        self._config, self._write_start = config, write_start
        self._banks = bank_sizes(config, size)
        padded = image + bytes(-len(image) % n)
        self._words = [int.from_bytes(padded[k : k + n], "little") for k in range(0, len(padded), n)]
        super().__init__({"mem": In(MemorySignature(config))})

    def elaborate(self, platform):
        m = Module()
        n, mem = self._config.beat_bytes, self.mem
        beats = sum(self._banks)
        width = (beats - 1).bit_length() + 1  # one bit more: beyond the end is no bank
        shift = n.bit_length() - 1

        # ---- reads: the request at work, the next one, the beats on their way --------------------------------------------
        addr, left, busy = Signal(width), Signal(8), Signal()
        next_addr, next_left, waits = Signal(width), Signal(8), Signal()
        undelivered = Signal(range(OUTSTANDING + 1))
        take, last, delivered = Signal(), Signal(), Signal()
        m.d.comb += [
            mem.rd_ready.eq(undelivered != OUTSTANDING), take.eq(mem.rd_valid & mem.rd_ready), last.eq(busy & (left == 0)),
        ]  # fmt: skip
        m.d.sync += undelivered.eq(undelivered + take - delivered)
        with m.If(busy):
            m.d.sync += [addr.eq(addr + 1), left.eq(left - 1)]
        with m.If(last):
            m.d.sync += busy.eq(0)
        with m.If((last | ~busy) & waits):
            m.d.sync += [busy.eq(1), waits.eq(0), addr.eq(next_addr), left.eq(next_left)]
        with m.Elif((last | ~busy) & take):
            m.d.sync += [busy.eq(1), addr.eq(mem.rd_addr >> shift), left.eq(mem.rd_len)]
        with m.If(take & (waits | (busy & ~last))):
            m.d.sync += [waits.eq(1), next_addr.eq(mem.rd_addr >> shift), next_left.eq(mem.rd_len)]
        fetched, fetched_last = Signal(), Signal()
        m.d.sync += [fetched.eq(busy), fetched_last.eq(last), mem.rdata_valid.eq(fetched), delivered.eq(fetched_last)]

        # ---- writes ------------------------------------------------------------------------------------------------------
        write_addr, write_left = Signal(width), Signal(8)
        pause = Signal(range(LATENCY))
        store = Signal()
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += mem.wr_ready.eq(1)
                m.d.sync += [write_addr.eq(mem.wr_addr >> shift), write_left.eq(mem.wr_len), pause.eq(LATENCY - 1)]
                with m.If(mem.wr_valid):
                    m.next = "DATA"
            with m.State("DATA"):
                m.d.comb += [mem.wdata_ready.eq(1), store.eq(mem.wdata_valid)]
                with m.If(mem.wdata_valid):
                    m.d.sync += [write_addr.eq(write_addr + 1), write_left.eq(write_left - 1)]
                    with m.If(write_left == 0):
                        m.next = "RESPONSE"
            with m.State("RESPONSE"):
                m.d.sync += pause.eq(pause - 1)
                with m.If(pause == 0):
                    m.d.comb += mem.wresp_valid.eq(1)
                    m.next = "IDLE"

        # ---- banks -------------------------------------------------------------------------------------------------------
        start, found = 0, []
        for k, size in enumerate(self._banks):
            init = self._words[start : start + size]
            bits = size.bit_length() - 1
            # A beat is never read while it is written: the program waits for the response.
            m.submodules[f"bank{k}"] = bank = memory.Memory(
                shape=8 * n,
                depth=size,
                init=init,
                attrs={"no_rw_check": 1, "ram_style": "block"},
            )
            read = bank.read_port()
            chosen = Signal(name=f"chosen{k}")
            m.d.comb += [read.addr.eq(addr), read.en.eq(busy)]
            m.d.sync += chosen.eq(addr[bits:] == start >> bits)
            found.append(Mux(chosen, read.data, 0))
            if (start + size) * n > self._write_start:
                write = bank.write_port(granularity=8)
                hit = store & (write_addr[bits:] == start >> bits)
                m.d.comb += [write.addr.eq(write_addr), write.data.eq(mem.wdata), write.en.eq(Mux(hit, mem.wdata_strobe, 0))]
            start += size
        beat = found[0]
        for other in found[1:]:
            beat = beat | other
        m.d.sync += mem.rdata.eq(beat)
        return m
