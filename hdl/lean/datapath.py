"""The arithmetic of the lean core's passes, an element a clock: what :func:`trilobit.hdl.lean.reference.run_pass` says, pipelined.

Look-up tables are what this core saves: shifts and limits are multiplications by powers of two and tables in block RAM, and what takes the
place of a result goes through the addend, which is zero then. A digit at the end of a signal's name is its stage: the cycles since the
element was issued.
"""

from collections.abc import Callable, Iterable

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from trilobit.hdl.lean.micro import Sat
from trilobit.hdl.multiply import Multiplier
from trilobit.hdl.shift import add_carry

__all__ = ["CLZ_AT", "LEVELS", "WORD", "Control", "Datapath", "limits"]

WORD = 36
FACTOR = 34
HASH = 18
CLZ_AT = 17
LEVELS = (8, 16, 18, 19, 24, 25, 32)
LIMB = 17
COARSE = 4  # the shift n is 17 * coarse + fine, coarse 0 to 3
_CHUNKS = ((35, 45), (45, 56), (56, 67))  # bits of the product that 36 bits of a result don't have, but for the sign

_LEVEL_OF = {Sat.S8: 8, Sat.S16: 16, Sat.S18: 18, Sat.S19: 19, Sat.S24: 24, Sat.S25: 25, Sat.S32: 32}


class Control(data.StructLayout):
    """What an element's microinstruction asks of the arithmetic; all zero for elements of moves and of the ternary product.

    ``choose``: ymode SELECT or AND. ``factor``: x counts, ``addend``: z is added.
    ``limits``: bit k is set if results have at most LEVELS[k] bits.
    """

    def __init__(self):
        super().__init__({
            "rest": 1, "absolute": 1, "choose": 1, "select": 1, "gain": 1, "ngate": 1, "hash": 1, "clz": 1, "read": 1, "index": 1,
            "factor": 1, "addend": 1, "round": 1, "limits": len(LEVELS), "relu": 1,
        })  # fmt: skip


def limits(sat, wide) -> Iterable:
    """The bits of :class:`Control`'s ``limits`` for a microinstruction's ``sat`` and the instruction's ``wide``."""
    for level in LEVELS:
        fixed = [number for number, bits in _LEVEL_OF.items() if bits <= level]
        found = sat.matches(*(int(number) for number in fixed))
        if level >= 16:
            found |= (sat == Sat.WIDE) & (1 if level == 32 else ~wide)
        yield found


def _rom(m: Module, name: str, width: int, address, word: Callable[[int], int]):
    """A table in block RAM: what it holds at ``address`` is there in the next cycle."""
    rom: memory.Memory = memory.Memory(
        shape=width,
        depth=1 << len(address),
        init=[word(index) for index in range(1 << len(address))],
        attrs={"ram_style": "block"},
    )
    m.submodules[name] = rom
    port = rom.read_port()
    m.d.comb += [port.addr.eq(address), port.en.eq(1)]
    return port.data


def _shift_word(index: int) -> int:
    """For n, signed of 9 bits: the fine shift's factor in the place of the coarse one, and the shift up to 32."""
    n = min(max(index - 512 * (index >> 8), 0), 63)
    coarse, fine = divmod(n, LIMB)
    factor = 1 << (LIMB - 1 - fine)
    return factor << LIMB * coarse | min(n, 32) << LIMB * COARSE


def _highest(index: int, bits: int) -> int:
    """One more than the highest bit that differs from the sign, the topmost one; zero without."""
    sign = index >> bits
    return ((index & ((1 << bits) - 1)) ^ (((1 << bits) - 1) * sign)).bit_length()


def _leading(index: int, bits: int, above: int) -> int:
    """The leading zeros of a number with ``above`` zeros in front of these bits, and below that a one; zero if no bit is set."""
    return (above + bits - index.bit_length()) << 1 | 1 if index else 0


class Datapath(wiring.Component):
    """Operands to results, an element a clock, without back-pressure; free of resets.

    Latency: an element that is issued in cycle 0 has its result in cycle 9.

    Members
    -------
    control1 : In(Control()), f1 : In(signed(8))
        Its microinstruction, and the first part of its shift, cycle 1.
    c1 : In(1), y1 : In(34), gain1 : In(16)
        Its condition bit, y, and the gain that takes its place; cycle 1.
    x2 : In(34), z2 : In(36), n2 : In(8), h2 : In(18)
        Its other operands, cycle 2.
    move2, product2 : In(36)
        Results of moves and of the ternary product, zero for other elements; cycle 2.
    largest : In(36), largest_index : In(12)
        The running maximum; what Max.READ and Max.INDEX write.
    half5 : Out(18)
        The low half of the product, cycle 5.
    zero8 : Out(1)
        Whether the result before its limit is zero, cycle 8.
    result9 : Out(36), limited9 : Out(1)
        Cycle 9.
    """

    control1: In(Control())
    f1: In(signed(8))
    c1: In(1)
    y1: In(FACTOR)
    gain1: In(16)
    x2: In(FACTOR)
    z2: In(WORD)
    n2: In(8)
    h2: In(HASH)
    move2: In(WORD)
    product2: In(WORD)
    largest: In(WORD)
    largest_index: In(12)
    half5: Out(HASH)
    zero8: Out(1)
    result9: Out(WORD)
    limited9: Out(1)

    def elaborate(self, platform):
        m = Module()

        def later(value, name: str, reset=None, init: int = 0):
            """A register; ``reset`` is a synchronous reset, which costs no gates."""
            # The same value at power-on: flip-flops have only one.
            register = Signal(value.shape(), name=name, reset_less=True, init=init & ((1 << len(value)) - 1))
            m.d.sync += register.eq(value if reset is None else Mux(reset, init, value))
            return register

        control = [None, self.control1]
        for stage in range(2, 9):
            register = Signal(Control(), name=f"control{stage}", reset_less=True)
            m.d.sync += register.eq(control[-1])
            control.append(register)

        y3 = self._y(m, later, control)

        # ---- x, z, and what takes the place of z ------------------------------------------------------------------------------
        c = control[2]
        x3 = later(self.x2, "x3", ~c.factor)
        z3 = later(self.z2, "z3", ~c.addend)
        move3, product3 = later(self.move2, "move3"), later(self.product2, "product3")
        largest3 = later(self.largest, "largest3", ~c.read)
        z4 = later(z3 | move3 | product3 | largest3, "z4")

        hash3, half3 = later(self.z2[:HASH], "hash3", ~c.hash), later(self.h2, "half3", ~c.hash)
        index3 = later(self.largest_index, "index3", ~c.index)
        flips = later(hash3 ^ half3 ^ index3, "flips4")
        for stage in range(5, 9):
            flips = later(flips, f"flips{stage}")

        # Leading zeros of x's low 32 bits: of three parts, the first that isn't zero says.
        parts = [(21, 32), (10, 21), (0, 10)]
        found3 = [
            _rom(m, f"leading{low}", 7, self.x2[low:high], lambda index, low=low, high=high: _leading(index, high - low, 32 - high))
            for low, high in parts[:2]
        ]
        last3 = _rom(m, "leading0", 7, self.x2[:10], lambda index: 32 - index.bit_length() if index else 127)
        off, some = ~control[3].clz, found3[0][0]
        leading4 = [
            later(found3[0][1:], "leading_high4", off), later(found3[1][1:], "leading_middle4", off | some),
            later(last3, "leading_low4", off | some | found3[1][0]),
        ]  # fmt: skip
        replaced4 = leading4[0] | leading4[1] | leading4[2]
        z5 = later(Cat(z4[:CLZ_AT], z4[CLZ_AT : CLZ_AT + 7] | replaced4, z4[CLZ_AT + 7 :]), "z5")
        z6 = later(z5, "z6")

        # ---- product, and how far it is shifted ---------------------------------------------------------------------------------
        m.submodules.multiplier = multiplier = Multiplier(FACTOR, FACTOR)
        m.d.comb += [multiplier.a.eq(x3), multiplier.b.eq(y3), self.half5.eq(multiplier.product)]
        p5 = multiplier.product

        f3 = later(later(self.f1, "f2"), "f3")
        c2 = later(self.c1, "c2")
        n3 = later(self.n2, "n3", c.ngate & ~c2)
        n4 = later((f3 - n3.as_signed())[:9], "n4", control[3].hash, init=HASH)
        shift5 = _rom(m, "shifts", LIMB * COARSE + 6, n4, _shift_word)
        factors5, amount6 = shift5[: LIMB * COARSE], later(shift5[LIMB * COARSE :], "amount6")
        short = n4[-1]
        for stage in range(5, 8):
            short = later(short, f"short{stage}")

        w6 = self._shift(later, p5, factors5, control[5])
        over7 = self._over(m, p5, amount6)
        negative7 = p5[-1]
        for stage in range(6, 8):
            negative7 = later(negative7, f"p_negative{stage}")

        # ---- sum and limit -------------------------------------------------------------------------------------------------------
        t7 = later(add_carry(w6[1:].as_signed(), z6.as_signed(), w6[0])[: WORD + 1], "t7")
        self._limit(m, later, t7, control[7], over7, short, negative7, flips)
        return m

    def _y(self, m, later, control):
        """The multiplier's other factor, by ymode or from the gains."""
        c = control[1]
        hidden = c.choose & ~self.c1 | c.gain
        low2 = later(self.y1[:9], "y_low2", hidden)
        high2 = Signal(FACTOR - 9, reset_less=True)
        m.d.sync += high2.eq(Mux(hidden | c.rest, 0, self.y1[9:]))
        with m.If(c.select & ~self.c1):
            m.d.sync += high2[18 - 9].eq(1)
        y2 = Cat(low2, high2)
        gain2 = later(self.gain1, "gain2", ~c.gain)
        ones2 = later(c.absolute & self.c1, "ones2")
        low3 = later(y2[0] | gain2[0], "y0_3")
        middle3 = later(y2[1:16] | gain2[1:], "y_middle3", ones2, init=-1)
        high3 = later(y2[16:], "y_high3", ones2 | gain2[-1], init=-1)
        return Cat(low3, middle3, high3)

    def _shift(self, later, p5, factors5, control5):
        """Bits of p >> n, 36 of them, above the bit that rounds; cycle 6.

        Limbs times a power of two fall into two neighbouring limbs of the result and never overlap; coarse shifts that aren't meant
        have a factor of zero.
        """
        # Bit 0 stands for what lies below the point.
        value = Cat(0, p5)
        limbs = [value[:LIMB], value[LIMB : 2 * LIMB], value[2 * LIMB : 3 * LIMB], value[3 * LIMB :].as_signed()]
        terms = [[] for _ in range(WORD + 1)]
        for coarse in range(COARSE):
            factor = factors5[LIMB * coarse : LIMB * (coarse + 1)]
            for k in range(coarse, COARSE):
                top = k == COARSE - 1
                # Mixed signs as two signed factors; two unsigned ones stay unsigned.
                product = limbs[k] * Cat(factor, 0).as_signed() if top else limbs[k] * factor
                for bit in range(WORD + 1):
                    place = bit - LIMB * (k - coarse) + LIMB - 1
                    if 0 <= place < len(product):
                        terms[bit].append(product[place])
                    elif place >= len(product) and top:
                        terms[bit].append(product[-1])
        joined = [Cat(*bits).any() for bits in terms]
        return Cat(later(joined[0], "w0_6", ~control5.round), later(Cat(*joined[1:]), "w6"))

    def _over(self, m, p5, amount6):
        """Whether p >> n has more than 36 bits, cycle 7: in parts, the highest bit unlike the sign against n."""
        found = []
        for low, high in _CHUNKS:
            bits = high - low
            highest6 = _rom(m, f"highest{low}", 4, Cat(p5[low:high], p5[-1]), lambda index, bits=bits: _highest(index, bits))
            base = low - _CHUNKS[0][0]
            found.append(_rom(m, f"beyond{low}", 1, Cat(amount6, highest6),
                              lambda index, base=base: int(index >> 6 != 0 and base + (index >> 6) - 1 >= (index & 63))))  # fmt: skip
        return Cat(*found).any()

    def _limit(self, m, later, t7, control7, over7, short7, negative7, flips8):
        """The result: t, or the limit that it is beyond."""
        enabled, sign, zero = control7.limits, t7[-1], Signal()
        # A level's bits from its sign on, up to where the next level's begin.
        starts = [level - 1 for level in LEVELS]
        beyond = [
            enabled[k] & (t7[start:end] ^ sign.replicate(end - start)).any()
            for k, (start, end) in enumerate(zip(starts, [*starts[1:], WORD], strict=True))
        ]
        limited, negative = Signal(), Signal()
        m.d.comb += [
            zero.eq(~t7[:WORD].any()),
            limited.eq(enabled[-1] & (over7 | Cat(*beyond).any() | (short7 & ~zero))),
            negative.eq(Mux(over7, negative7, sign)),
        ]
        t8, limited8 = later(t7[:WORD], "t8"), later(limited, "limited8")
        clear8, hash8 = later(control7.relu & negative, "clear8"), later(control7.hash, "hash8")
        below8 = later(~negative, "limit_below8")
        limits8 = [later(~(negative ^ enabled[k]), f"limit{k}_8") for k in range(len(LEVELS) - 1)] + [later(negative, "limit_above8")]
        m.d.comb += self.zero8.eq(later(zero, "zero8"))
        bits = []
        for bit in range(WORD):
            limit = limits8[max(k for k, start in enumerate(starts) if start <= bit)] if bit >= starts[0] else below8
            bits.append(Mux(limited8, limit, t8[bit]) ^ (flips8[bit] if bit < HASH else 0))
        low9 = later(Cat(*bits[:HASH]), "result_low9", clear8)
        high9 = later(Cat(*bits[HASH:]), "result_high9", clear8 | hash8)
        m.d.comb += [self.result9.eq(Cat(low9, high9)), self.limited9.eq(later(limited8, "limited9"))]
