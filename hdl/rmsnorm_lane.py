"""One lane of the RMSNorm unit: an element a clock through two passes."""

from amaranth import C, Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from trilobit.hdl.interfaces import ELEMENT_BITS, GAIN_BITS
from trilobit.hdl.rmsnorm_scalar import MANTISSA, REDUCED_BITS
from trilobit.hdl.rmsnorm_shift import RoundShift

__all__ = [
    "A_LEFT",
    "B_LEFT",
    "LONGEST_SHIFT",
    "MAGNITUDE_BITS",
    "SQUARE_BITS",
    "SQUARE_W_STAGE",
    "SQUARE_X_STAGE",
    "WRITE_STAGE",
    "Z_STAGE",
    "Lane",
]

NARROW = 18  # bits of x, y and w
MAGNITUDE_BITS = 33  # |z| = |x*g| is at most 2^32
SQUARE_BITS = 35
PRODUCT_BITS = REDUCED_BITS - 1 + MANTISSA  # at most 2^20 times 18 bits
LONGEST_SHIFT = 47  # shifts the widest product to zero, as any longer one
A_LEFT = 16
B_LEFT = 19  # reducing |z| to 20 bits shifts a single bit by 19

# Stages, counted from the cycle in which a word is read (0): the cycle in which a value is there.
SQUARE_X_STAGE = 6
Z_STAGE = 7
SQUARE_W_STAGE = 11
WRITE_STAGE = 11  # counted from reading z


class Lane(wiring.Component):
    """Shifts, multipliers and the z buffer of one lane. Fully pipelined; control comes from :class:`RMSNorm`.

    Pass 1, an element read in cycle 0 (``gain`` counts in cycle 0, ``a``, ``b`` and ``keep`` in cycle 1):
    ``x = sat18(rs(a, amount_a - 16))``, ``y = sat18(rs(b, amount_b - 19))``, ``z = y*gain``, ``w = sat18(rs(z, amount_c))``.
    In the cycles of the ``*_STAGE`` constants: ``square_x`` = x*x; ``magnitude`` = abs(z), which ``z_write`` puts into the buffer;
    ``square_w`` = w*w, one cycle after ``saturated`` tells whether x, y or w saturated.

    Pass 2 (``second``), z read with ``z_read`` in cycle 0: ``reduced = rs(abs(z), amount_b - 19)`` in cycle 5, times ``factor``;
    in cycle ``WRITE_STAGE`` the result ``rs(reduced*factor, amount_c)`` with the sign of z, saturated to 32 (``wide``) or 16 bits, and in
    ``quantised`` limited to 127. ``short``: the shift would go left, so saturate unless zero. ``saturated`` is there in
    the same cycle; it includes the saturations of x and y in pass 1, and that of the result unless ``quantise``.

    ``inject`` takes ``largest`` in the place of z, so that the first lane reduces the largest magnitude.

    Parameters
    ----------
    depth: words of the z buffer.
    """

    def __init__(self, depth: int):
        self.depth = depth
        super().__init__({
            "a": In(ELEMENT_BITS), "b": In(ELEMENT_BITS), "keep": In(1), "gain": In(signed(GAIN_BITS)),
            "amount_a": In(6), "amount_b": In(6), "amount_c": In(6),
            "statistics": In(1), "quantise": In(1), "wide": In(1), "short": In(1),
            "second": In(1), "inject": In(1), "largest": In(MAGNITUDE_BITS), "factor": In(MANTISSA),
            "z_write": In(1), "z_write_addr": In(range(depth)), "z_read": In(1), "z_read_addr": In(range(depth)),
            "square_x": Out(SQUARE_BITS), "square_w": Out(SQUARE_BITS), "magnitude": Out(MAGNITUDE_BITS),
            "reduced": Out(REDUCED_BITS), "result": Out(ELEMENT_BITS), "quantised": Out(8), "saturated": Out(1),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        m.submodules.shift_a = shift_a = RoundShift(
            in_width=ELEMENT_BITS, left=A_LEFT, longest=A_LEFT + 31, out_width=NARROW, limit_width=NARROW
        )
        m.submodules.shift_b = shift_b = RoundShift(
            in_width=MAGNITUDE_BITS + 1, left=B_LEFT, longest=B_LEFT + 31, out_width=REDUCED_BITS, limit_width=NARROW
        )
        m.submodules.shift_c = shift_c = RoundShift(in_width=PRODUCT_BITS + 1, left=0, longest=LONGEST_SHIFT, out_width=PRODUCT_BITS + 1)
        m.submodules.buffer = buffer = Memory(shape=unsigned(MAGNITUDE_BITS + 2), depth=self.depth, init=[])
        z_write, z_read = buffer.write_port(), buffer.read_port()

        # 1: operands. In pass 2 the second shifter reduces |z|.
        operand_a = Signal(signed(ELEMENT_BITS))
        operand_b = Signal(signed(MAGNITUDE_BITS + 1))
        z_magnitude = z_read.data[:MAGNITUDE_BITS]
        m.d.sync += [
            operand_a.eq(self.a),
            operand_b.eq(
                (self.largest & self.inject.replicate(MAGNITUDE_BITS))
                | (z_magnitude & (self.second & ~self.inject).replicate(MAGNITUDE_BITS))
                | (self.b.as_signed() & (self.keep & ~self.second).replicate(MAGNITUDE_BITS + 1).as_signed())
            ),
        ]
        with m.If(~self.keep):  # a synchronous reset costs no logic
            m.d.sync += operand_a.eq(0)

        # 2 to 4: x and y, or the reduced |z|
        m.d.comb += [
            shift_a.i.eq(operand_a), shift_a.amount.eq(self.amount_a), shift_a.limit.eq(1),
            shift_b.i.eq(operand_b), shift_b.amount.eq(self.amount_b), shift_b.limit.eq(~self.second),
            self.reduced.eq(shift_b.o),
        ]  # fmt: skip
        x, y = shift_a.o.as_signed(), shift_b.o[:NARROW].as_signed()

        # 5: products. The reduced |z| has three bits more than a multiplier takes.
        gain = [Signal(signed(GAIN_BITS), name=f"gain_{i}") for i in range(5)]
        z = Signal(signed(NARROW + GAIN_BITS))
        high = Signal(36)
        low = Signal(21)
        m.d.sync += [gain[0].eq(self.gain)] + [gain[i].eq(gain[i - 1]) for i in range(1, 5)]
        m.d.sync += [
            z.eq(y * gain[4]), self.square_x.eq(x * x),
            high.eq(shift_b.o[3:] * self.factor), low.eq(shift_b.o[:3] * self.factor),
        ]  # fmt: skip

        # 6: magnitude (pass 1), the product's sum (pass 2)
        negative = Signal()
        product = Signal(PRODUCT_BITS)
        m.d.sync += [
            self.magnitude.eq(Mux(z[-1], -z, z)), negative.eq(z[-1]),
            product.eq((high << 3) + low),
        ]  # fmt: skip

        # Sign and saturation go beside the magnitude. Pass 1: saturation of x or y at 5, stored with |z| at 7 or joined by that of w at 9.
        narrowed = Signal(2)
        signs = Signal(9)  # bit k-2 is in cycle k of pass 2
        sats = Signal(9)
        inputs_saturated = shift_a.saturated | shift_b.saturated
        m.d.sync += [
            narrowed.eq(Cat(inputs_saturated, narrowed)),
            signs.eq(Cat(z_read.data[-1], signs)),
            sats.eq(Cat(z_read.data[-2], sats)),
        ]
        with m.If(self.statistics):
            m.d.sync += sats[5].eq(inputs_saturated)

        # 7: the buffer
        m.d.comb += [
            z_write.en.eq(self.z_write), z_write.addr.eq(self.z_write_addr),
            z_write.data.eq(Cat(self.magnitude, narrowed[1], negative)),
            z_read.en.eq(self.z_read), z_read.addr.eq(self.z_read_addr),
        ]  # fmt: skip

        # 6 to 8 (w), 7 to 9 (result)
        m.d.comb += [shift_c.i.eq(Mux(self.statistics, z, product)), shift_c.amount.eq(self.amount_c)]
        rounded = shift_c.o

        # w
        w = Signal(signed(NARROW))
        w_over = Mux(rounded[-1], ~rounded[NARROW - 1 :].all(), rounded[NARROW - 1 :].any())
        m.d.sync += [
            w.eq(Mux(w_over, Cat((~rounded[-1]).replicate(NARROW - 1), rounded[-1]), rounded)),
            self.square_w.eq(w * w),
        ]

        # The result. A magnitude saturates to 2^31 - 1 before its sign counts; a negative narrow one may reach -2^15.
        negate, nonzero = signs[8], rounded.any()
        over_wide = rounded[31:].any() | (self.short & nonzero)
        over_narrow = rounded[16:].any() | (rounded[15] & (~negate | rounded[:15].any())) | (self.short & nonzero)
        over = Mux(self.wide, over_wide, over_narrow)
        limit = Mux(
            self.wide,
            Mux(negate, C((1 << 31) + 1, ELEMENT_BITS), C((1 << 31) - 1, ELEMENT_BITS)),
            Mux(negate, C(-(1 << 15) & 0xFFFFFFFF, ELEMENT_BITS), C((1 << 15) - 1, ELEMENT_BITS)),
        )
        value = (rounded[:ELEMENT_BITS] ^ negate.replicate(ELEMENT_BITS)) + negate
        magnitude = Mux(rounded[7:].any(), 127, rounded[:7])
        m.d.sync += [
            self.result.eq(Mux(over, limit, value)),
            self.quantised.eq(Mux(negate, -magnitude, magnitude)),
            self.saturated.eq(sats[8] | Mux(self.statistics, w_over, over & ~self.quantise)),
        ]
        return m
