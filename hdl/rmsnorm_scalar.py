"""The scalar part of the RMSNorm unit: everything that is computed once a vector, serially and exactly."""

from amaranth import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from trilobit.hdl.interfaces import EXPONENT_BITS, ScalarLayout
from trilobit.hdl.serial import SerialDivide, SerialRoot

__all__ = [
    "FEED_AHEAD",
    "INVERSE_CLOCKS",
    "NORMQ_FACTOR_CLOCKS",
    "NORM_FACTOR_CLOCKS",
    "REDUCED_BITS",
    "SUM_BITS",
    "SUM_W_BITS",
    "TOTAL_CLOCKS",
    "ScalarEngine",
]  # fmt: skip

SUM_BITS = 47  # 8191 squares of 18-bit numbers
SUM_W_BITS = 48  # those and the addend, of 47 bits too
REDUCED_BITS = 21  # 20 bits, and 2^20 itself after rounding up
SCALAR_REGISTERS = 4
MANTISSA = 18
SQUARE_MANTISSA = 36
TOTAL_BITS = 64
QUOTIENT_BITS = 19

_COARSE, _FINE = 7, 7  # clocks of the shift after the product, by 8 and by 1
_COARSE_NORM, _FINE_NORM = 3, 7  # clocks of the normalisation, by 16 and by 2

FEED_AHEAD = 6  # one cycle to begin pass 2, five from reading a z to its multiplication by the factor

# From the cycle in which the sums are handed over to the one in which a scalar register is written.
TOTAL_CLOCKS = 1 + MANTISSA + _COARSE + _FINE + 1 + _COARSE_NORM + _FINE_NORM
# From the cycle in which the root is started to the first in which the inverse is there.
INVERSE_CLOCKS = (SQUARE_MANTISSA // 2 + 1) + (QUOTIENT_BITS + 1) + 1
# From handing over the largest (normq), or from knowing the inverse (norm), to the first cycle with the factor.
NORMQ_FACTOR_CLOCKS = QUOTIENT_BITS + 2
NORM_FACTOR_CLOCKS = MANTISSA + 2


class ScalarEngine(wiring.Component):
    """Scalar registers s0-s3, and the serial arithmetic of rms, norm and normq. One job at a time.

    ``total`` (with ``sum_x``, ``sum_w``): ``sum_w + (sum_x*eps_m >> eps_e)`` as a 36-bit mantissa with an even exponent
    (:func:`trilobit.isa.fixed.square_norm`). For rms it is written to register ``sc``: ``stored`` pulses ``TOTAL_CLOCKS`` cycles
    after ``total``, and the engine is ``idle`` in the next cycle. For ``norm`` the job goes on in that cycle to ``1/sqrt``
    (``INVERSE_CLOCKS``) and ``factor = mantissa(inverse * c_m)`` (``NORM_FACTOR_CLOCKS``).

    ``quantise`` (a level; taken when idle): the inverse of register ``sq`` if ``scaled`` (``INVERSE_CLOCKS``; else it is 1). Then, once
    ``largest_valid``, in ``NORMQ_FACTOR_CLOCKS``: ``factor = (127 * 2^31 // largest + 1) >> 1``, ``scale = largest * 2^shift * inverse``.

    ``feed`` rises ``FEED_AHEAD`` cycles before the factor (and the scale, the factor's exponent) can be used and stays until
    ``release``. A scalar register that was never written is zero.
    No time depends on a value.

    Members
    -------
    total: In(1);  sum_x: In(47);  sum_w: In(48);  norm: In(1);  eps_m: In(15);  eps_e: In(6);  sc: In(2), stable from total until stored
    quantise, scaled: In(1);  sq: In(2), stable while quantise is high;  c_m: In(16);  release: In(1)
    largest_valid: In(1);  largest: In(21);  shift: In(signed(7)): the largest |z| is largest * 2**shift
    changes: Out(1), low when a clock edge changes nothing
    idle, stored, feed: Out(1);  factor: Out(18);  exponent: Out(signed(10)) of the norm's factor;  scale: Out(ScalarLayout)
    """

    def __init__(self):
        super().__init__({
            "total": In(1), "sum_x": In(SUM_BITS), "sum_w": In(SUM_W_BITS), "norm": In(1), "eps_m": In(15), "eps_e": In(6), "sc": In(2),
            "quantise": In(1), "scaled": In(1), "sq": In(2), "c_m": In(16), "release": In(1),
            "largest_valid": In(1), "largest": In(REDUCED_BITS), "shift": In(signed(7)),
            "changes": Out(1), "idle": Out(1), "stored": Out(1), "feed": Out(1),
            "factor": Out(MANTISSA), "exponent": Out(signed(EXPONENT_BITS)), "scale": Out(ScalarLayout()),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        m.submodules.root = root = SerialRoot(SQUARE_MANTISSA, held=False)
        m.submodules.divide = divide = SerialDivide(REDUCED_BITS, QUOTIENT_BITS, held=False)
        # Block RAM: ``sq`` stands in the cycle before the root begins, and nothing is written then.
        m.submodules.registers = registers = Memory(
            shape=unsigned(6 + SQUARE_MANTISSA), depth=SCALAR_REGISTERS, init=[], attrs={"ram_style": "block", "no_rw_check": 1}
        )
        write, read = registers.write_port(), registers.read_port()
        known = Signal(SCALAR_REGISTERS)  # a register that nothing has been written to since reset is zero
        stored_half = read.data[SQUARE_MANTISSA:].as_signed()
        stored_mantissa = read.data[:SQUARE_MANTISSA] & known.bit_select(self.sq, 1).replicate(SQUARE_MANTISSA)

        # A product bit a clock: the multiplier leaves at the bottom of the product as bits of the product come in at the top.
        multiplicand = Signal(SUM_BITS)
        product = Signal(SUM_BITS + MANTISSA)
        upper = Signal(SUM_BITS + 1)
        add = Signal()
        m.d.comb += upper.eq(product[MANTISSA:] + (multiplicand & (add & product[0]).replicate(SUM_BITS)))
        one_step = Cat(product[1:MANTISSA], upper)

        total = Signal(TOTAL_BITS)
        half = Signal(signed(6))  # half of the total's (even) exponent
        inverse = Signal(MANTISSA)
        inverse_exponent = Signal(signed(EXPONENT_BITS))
        zero = Signal()  # the square is zero, and so is its inverse
        count = Signal(range(QUOTIENT_BITS + 1))
        quantising = Signal()
        inverting = Signal()  # the division that starts now is the reciprocal of the root

        def go(state: str, clocks: int):
            m.d.sync += count.eq(clocks - 1)
            m.next = state

        def multiply(operand, multiplier):
            m.d.sync += [multiplicand.eq(operand), product.eq(multiplier)]

        m.d.comb += [
            read.addr.eq(self.sq),
            read.en.eq(1),
            write.addr.eq(self.sc),
            write.data.eq(Cat(total[-SQUARE_MANTISSA:], half)),
            root.radicand.eq(Mux(quantising, stored_mantissa, total[-SQUARE_MANTISSA:])),
            divide.dividend.eq(Mux(inverting, 1 << 16, 127 << 12)),
            divide.divisor.eq(Mux(inverting, root.root, self.largest)),
        ]
        with m.If(count != 0):
            m.d.sync += count.eq(count - 1)

        with m.FSM() as fsm:
            m.d.comb += [
                self.idle.eq(fsm.ongoing("IDLE")),
                self.changes.eq(
                    ~(fsm.ongoing("IDLE") & ~self.total & ~self.quantise) & ~(fsm.ongoing("LARGEST") & ~self.largest_valid)
                    & ~(fsm.ongoing("HOLD") & ~self.release)
                ),
            ]  # fmt: skip
            with m.State("IDLE"):
                m.d.sync += quantising.eq(self.quantise & ~self.total)
                with m.If(self.total):
                    multiply(self.sum_x, self.eps_m)
                    go("MULTIPLY", MANTISSA)
                with m.Elif(self.quantise):
                    # 1 is 2^17 * 2^-17, so that the product with the largest has as many bits as any other.
                    m.d.sync += [inverse.eq(1 << (MANTISSA - 1)), inverse_exponent.eq(1 - MANTISSA)]
                    with m.If(self.scaled):
                        m.next = "ROOT"
                    with m.Else():
                        m.next = "LARGEST"

            # ---- the sum of squares ----
            with m.State("MULTIPLY"):
                m.d.comb += add.eq(1)
                m.d.sync += product.eq(one_step)
                with m.If(count == 0):
                    go("SHIFT8", _COARSE)
            with m.State("SHIFT8"):
                with m.If(self.eps_e[3:] > count):
                    m.d.sync += product.eq(product >> 8)
                with m.If(count == 0):
                    go("SHIFT1", _FINE)
            with m.State("SHIFT1"):
                with m.If(self.eps_e[:3] > count):
                    m.d.sync += product.eq(one_step)
                with m.If(count == 0):
                    m.next = "ADD"
            with m.State("ADD"):
                m.d.sync += [total.eq(product + self.sum_w), half.eq((TOTAL_BITS - SQUARE_MANTISSA) // 2)]
                go("NORMALISE16", _COARSE_NORM)
            with m.State("NORMALISE16"):
                with m.If(total[-16:] == 0):
                    m.d.sync += [total.eq(total << 16), half.eq(half - 8)]
                with m.If(count == 0):
                    go("NORMALISE2", _FINE_NORM)
            with m.State("NORMALISE2"):
                with m.If(total[-2:] == 0):
                    m.d.sync += [total.eq(total << 2), half.eq(half - 1)]
                with m.If(count == 0):
                    m.next = "STORE"
            with m.State("STORE"):
                with m.If(self.norm):
                    m.next = "ROOT"
                with m.Else():
                    m.d.comb += [write.en.eq(1), self.stored.eq(1)]
                    m.d.sync += known.bit_select(self.sc, 1).eq(1)
                    m.next = "IDLE"

            # ---- 1/sqrt ----
            with m.State("ROOT"):
                m.d.comb += root.start.eq(1)
                m.d.sync += [
                    zero.eq(~root.radicand[-2:].any()),
                    inverse_exponent.eq(-35 - Mux(quantising, stored_half, half)),
                ]
                go("ROOTING", root.clocks)
            with m.State("ROOTING"):
                with m.If(count == 0):
                    m.next = "DIVIDE"
            with m.State("DIVIDE"):
                m.d.comb += [inverting.eq(1), divide.start.eq(1)]
                go("DIVIDING", divide.clocks)
            with m.State("DIVIDING"):
                with m.If(count == 0):
                    m.next = "INVERSE"
            with m.State("INVERSE"):
                # The quotient has a nineteenth bit only if the root is 2^17: then it is 2^18, limited to 2^18 - 1.
                limited = (divide.quotient[:MANTISSA] | divide.quotient[-1].replicate(MANTISSA)) & (~zero).replicate(MANTISSA)
                m.d.sync += inverse.eq(limited)
                with m.If(quantising):
                    m.next = "LARGEST"
                with m.Else():
                    m.next = "FACTOR"

            # ---- the norm's factor ----
            with m.State("FACTOR"):
                multiply(self.c_m, inverse)
                go("FACTORING", MANTISSA)
            with m.State("FACTORING"):
                m.d.comb += [add.eq(1), self.feed.eq(count < FEED_AHEAD - 1)]
                m.d.sync += product.eq(one_step)
                with m.If(count == 0):
                    m.next = "NORMALISE"
            with m.State("NORMALISE"):
                # 18 bits by 16, both with the top bit set: 33 or 34 bits.
                m.d.comb += self.feed.eq(1)
                m.d.sync += [
                    self.factor.eq(Mux(product[33], product[16:34], product[15:33])),
                    self.exponent.eq(inverse_exponent + 15 + product[33]),
                ]
                m.next = "HOLD"

            # ---- 127 / largest, and the scale ----
            with m.State("LARGEST"):
                multiply(self.largest, inverse)
                with m.If(self.largest_valid):
                    m.d.comb += divide.start.eq(1)
                    go("QUANTISING", divide.clocks)
            with m.State("QUANTISING"):
                m.d.comb += [add.eq(count != 0), self.feed.eq(count < FEED_AHEAD - 1)]
                with m.If(count != 0):  # one step fewer than the division has
                    m.d.sync += product.eq(one_step)
                with m.If(count == 0):
                    m.next = "SCALE"
            with m.State("SCALE"):
                # 20 bits (or 2^20) by 18, both with the top bit set: 37 or 38 bits.
                m.d.comb += self.feed.eq(1)
                m.d.sync += [
                    self.factor.eq((divide.quotient + 1) >> 1),
                    self.scale.mantissa.eq(Mux(product[37], product[20:38], product[19:37])),
                    self.scale.exponent.eq(self.shift + inverse_exponent + 19 + product[37]),
                ]
                with m.If(~product[36:38].any()):
                    m.d.sync += self.scale.exponent.eq(0)
                m.next = "HOLD"
            with m.State("HOLD"):
                m.d.comb += self.feed.eq(1)
                with m.If(self.release):
                    m.next = "IDLE"
        return m
