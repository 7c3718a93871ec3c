"""Embedding rows of several slots, which come one after the other, and leave as words of all of them."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from trilobit.hdl.gearbox import HALF_BITS, Unpacker
from trilobit.isa.core import CoreConfig

__all__ = ["RowStage"]


class RowStage(wiring.Component):
    """Beats of the slots' rows -> register words.

    ``start`` begins a row as :class:`trilobit.hdl.gearbox.Unpacker`'s. Words of all slots but the last are kept in a memory; the last
    slot's come out beside theirs in ``o_data``. A word leaves in the cycle in which it is offered.

    Parameters
    ----------
    config: of a core with a batch above 1.

    Members
    -------
    start, length: a row's first cycle, its elements. slot: In, whose row it is, steady from then on.
    i_valid, i_ready, i_data: beats.
    o_valid, o_last: Out(1), a word of the row is there; it is the last.
    o_data: Out, the word of all slots, 16 bits an element; counts while the last slot's row comes.
    """

    def __init__(self, config: CoreConfig):
        self.config = config
        super().__init__({
            "start": In(1), "length": In(range(config.max_length + 1)), "slot": In(range(config.batch)),
            "i_valid": In(1), "i_ready": Out(1), "i_data": In(8 * config.beat_bytes),
            "o_valid": Out(1), "o_last": Out(1), "o_data": Out(config.word_elements * HALF_BITS),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        config = self.config
        word_bits, kept = HALF_BITS * config.lanes, config.batch - 1
        m.submodules.unpacker = unpacker = Unpacker(config.beat_bytes, config.lanes, config.max_length, HALF_BITS)
        # What is read was written while another slot's row came.
        m.submodules.memory = storage = memory.Memory(shape=word_bits * kept, depth=config.words, init=[], attrs={"no_rw_check": 1})
        wport, rport = storage.write_port(granularity=word_bits), storage.read_port()
        word, following = Signal(range(config.words)), Signal(range(config.words))
        m.d.comb += [
            unpacker.start.eq(self.start), unpacker.length.eq(self.length), unpacker.o_ready.eq(1),
            unpacker.i_valid.eq(self.i_valid), unpacker.i_data.eq(self.i_data), self.i_ready.eq(unpacker.i_ready),
            self.o_valid.eq(unpacker.o_valid), self.o_last.eq(unpacker.o_last),
            following.eq(Mux(unpacker.o_valid, Mux(unpacker.o_last, 0, word + 1), word)),
            wport.addr.eq(word), wport.data.eq(unpacker.o_data.replicate(kept)), rport.addr.eq(following), rport.en.eq(1),
        ]  # fmt: skip
        m.d.comb += [wport.en[slot].eq(unpacker.o_valid & (self.slot == slot)) for slot in range(kept)]
        m.d.sync += word.eq(following)
        m.d.comb += self.o_data.eq(Cat(rport.data, unpacker.o_data))
        return m
