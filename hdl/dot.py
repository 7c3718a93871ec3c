"""Five ternary dot products side by side: the weight path of the ternary product."""

from amaranth.hdl import Cat, Const, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from trilobit.hdl.interfaces import of_slot
from trilobit.hdl.shift import add_carry
from trilobit.hdl.trit import DIGIT_BITS, decode_byte
from trilobit.isa.trits import ROWS_PER_BYTE

__all__ = ["TernaryDot", "dot_latency", "sum_bits"]

ACT_BITS = 8
LEVELS_A_STAGE = 2  # adders between two registers of the tree


def sum_bits(max_length: int) -> int:
    """Bits of a signed sum of ``max_length`` activations (-127 to 127) times trits."""
    return (127 * max_length).bit_length() + 1


def _stages(beat_bytes: int) -> int:
    levels = beat_bytes.bit_length() - 1
    return max(-(-levels // LEVELS_A_STAGE), 1)


def dot_latency(beat_bytes: int) -> int:
    """Cycles from the last beat of a group to its sums."""
    return 2 + _stages(beat_bytes)


class TernaryDot(wiring.Component):
    """Sums of trit times activation over the beats of a group, for its five rows and every slot of a batch.

    A beat a clock, no back-pressure. A beat enters in a cycle of ``valid`` with ``weights``; its activations follow
    one cycle later. With the last beat of a group in cycle t, ``sums_valid`` and ``sums`` stand in cycle t +
    :func:`dot_latency` for that cycle only. Beats of a group need not be adjacent.

    How it adds: a term is the activation, its complement or zero, as an unsigned number with an offset of 128, so
    that no adder extends a sign; the one that a complement lacks to the negative enters as the carry of an adder. A
    tree of n - 1 adders takes n - 1 such carries, the accumulator the last, and the offsets of all n terms are one
    inverted bit. No multiplier is used. Slots share what only depends on the trits: their decoding and the carries.

    Parameters
    ----------
    beat_bytes : int
        Columns a beat; power of two.
    max_length : int
        Most columns of a matrix.
    batch : int
        Slots: vectors that the trits are multiplied by.

    Members
    -------
    valid : In(1)
    last : In(1)
        With ``valid``: the group ends with this beat.
    weights : In(8 * beat_bytes)
        Packed trits, a byte a column.
    activations : In(8 * beat_bytes * batch)
        int8, one cycle after their weights, slot by slot. Columns whose trits are all zero may hold anything.
    sums_valid : Out(1)
    sums : Out(signed(sum_bits)), five for each slot
        That of row r in slot b is ``sums[5 * b + r]``.
    """

    def __init__(self, beat_bytes: int, max_length: int, batch: int = 1):
        if beat_bytes < 1 or beat_bytes & (beat_bytes - 1):
            raise ValueError(f"expected beat_bytes to be a power of two, got {beat_bytes!r}")
        self._beat_bytes = beat_bytes
        self._batch = batch
        self._sum_bits = sum_bits(max_length)
        super().__init__({
            "valid": In(1), "last": In(1), "weights": In(8 * beat_bytes), "activations": In(ACT_BITS * beat_bytes * batch),
            "sums_valid": Out(1), "sums": Out(signed(self._sum_bits)).array(ROWS_PER_BYTE * batch),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        n = self._beat_bytes
        stages = _stages(n)

        # valid and last beside the data: bit k is k + 1 cycles old.
        valid = Signal(1 + stages + 1)
        last = Signal(1 + stages + 1)
        m.d.sync += [valid.eq(Cat(self.valid, valid)), last.eq(Cat(self.last, last))]

        # Cycle t+1: weights stand in registers, activations arrive; decode. Cycle t+2: digits and activations in
        # registers.
        terms = [[[] for _ in range(self._batch)] for _ in range(ROWS_PER_BYTE)]  # by row, slot, column
        ones = [[] for _ in range(ROWS_PER_BYTE)]
        for j in range(n):
            byte = Signal(8, name=f"byte{j}", reset_less=True)
            with m.If(self.valid):
                m.d.sync += byte.eq(self.weights.word_select(j, 8))
            digits = Signal(DIGIT_BITS * ROWS_PER_BYTE, name=f"digits{j}", reset_less=True)
            m.d.sync += digits.eq(decode_byte(byte))
            digit = [digits.word_select(row, DIGIT_BITS) for row in range(ROWS_PER_BYTE)]
            for slot in range(self._batch):
                # What a digit selects: complement, zero, activation; each with the offset.
                choices = Signal(3 * ACT_BITS, name=of_slot(f"choices{j}", slot))
                offset = Signal(ACT_BITS, name=of_slot(f"act{j}", slot), reset_less=True)
                m.d.sync += offset.eq(self.activations.word_select(slot * n + j, ACT_BITS) ^ 0x80)
                m.d.comb += choices.eq(Cat(~offset, Const(0x80, ACT_BITS), offset))
                for row in range(ROWS_PER_BYTE):
                    terms[row][slot].append((choices >> Cat(Const(0, 3), digit[row]))[:ACT_BITS])
            for row in range(ROWS_PER_BYTE):
                ones[row].append(digit[row] == 0)

        # Cycle t+2+stages: accumulate; a group's last beat hands the sum on and clears.
        ends = valid[-1] & last[-1]
        m.d.comb += self.sums_valid.eq(ends)
        for row in range(ROWS_PER_BYTE):
            trees, one = self._trees(m, terms[row], ones[row], row, stages)
            for slot, tree in enumerate(trees):
                total = self.sums[slot * ROWS_PER_BYTE + row]
                acc = Signal(signed(self._sum_bits), name=of_slot(f"acc{row}", slot))
                beat = Cat(tree[:-1], ~tree[-1]).as_signed()  # less the n offsets of 128
                m.d.comb += total.eq(add_carry(acc, beat, one))
                with m.If(valid[-1]):
                    m.d.sync += acc.eq(total)
                with m.If(ends):
                    m.d.sync += acc.eq(0)
        return m

    @staticmethod
    def _trees(m, terms, ones, row, stages):
        """Adds each slot's terms of a row, with ``ones`` as the carries; registered after every LEVELS_A_STAGE levels.

        Returns:
            the slots' sums, and the one that is left over.
        """
        for stage in range(stages):
            for _ in range(LEVELS_A_STAGE):
                if len(ones) > 1:
                    terms = [[add_carry(a, b, one) for a, b, one in zip(t[::2], t[1::2], ones[::2], strict=True)] for t in terms]
                    ones = ones[1::2]
            held_ones = [Signal(name=f"one{row}_{stage}_{k}", reset_less=True) for k in range(len(ones))]
            held = [
                [Signal(len(value), name=of_slot(f"tree{row}_{stage}_{k}", slot), reset_less=True) for k, value in enumerate(values)]
                for slot, values in enumerate(terms)
            ]
            m.d.sync += [register.eq(one) for register, one in zip(held_ones, ones, strict=True)]
            for registers, values in zip(held, terms, strict=True):
                m.d.sync += [register.eq(value) for register, value in zip(registers, values, strict=True)]
            terms, ones = held, held_ones
        return [values[0] for values in terms], ones[0]
