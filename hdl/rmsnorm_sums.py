"""Trees over the lanes of the RMSNorm unit: exact sums and the largest."""

from amaranth import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from trilobit.hdl.shift import greater

__all__ = ["LaneMaximum", "LaneSum"]


def _tree(m: Module, values: list, combine, grow: int, name: str):
    """Combine neighbours, a register after each level, until one is left."""
    level = 0
    while len(values) > 1:
        level += 1
        pairs = []
        for i in range(0, len(values), 2):
            pair = Signal(len(values[0]) + grow, name=f"{name}{level}_{i // 2}")
            m.d.sync += pair.eq(combine(values[i], values[i + 1]))
            pairs.append(pair)
        values = pairs
    return values[0]


class LaneSum(wiring.Component):
    """``total`` grows by the sum over the lanes ``levels + 1`` cycles after the lanes' values.

    ``valid`` comes with the tree's result, ``levels`` cycles after the lanes' values. ``load`` sets the total to ``preset``,
    ``shift`` (not while valid) moves it by 4 bits to the left.

    Members
    -------
    i<k>: In(width) for each lane;  valid, load, shift: In(1);  preset, total: total_width bits
    """

    def __init__(self, lanes: int, width: int, total_width: int):
        self.lanes = lanes
        self.levels = (lanes - 1).bit_length()
        super().__init__({f"i{k}": In(width) for k in range(lanes)} | {
            "valid": In(1), "load": In(1), "shift": In(1), "preset": In(total_width), "total": Out(total_width),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        words = _tree(m, [getattr(self, f"i{k}") for k in range(self.lanes)], lambda a, b: a + b, 1, "sum")
        with m.If(self.load):
            m.d.sync += self.total.eq(self.preset)
        with m.Elif(self.valid | self.shift):
            m.d.sync += self.total.eq(Mux(self.shift, self.total << 4, self.total + words))
        return m


class LaneMaximum(wiring.Component):
    """``largest`` of all values so far, ``levels + 1`` cycles after the lanes' values; ``valid`` as in :class:`LaneSum`.

    Members
    -------
    i<k>: In(width) for each lane;  valid, clear: In(1);  largest: Out(width)
    """

    def __init__(self, lanes: int, width: int):
        self.lanes = lanes
        self.levels = (lanes - 1).bit_length()
        super().__init__({f"i{k}": In(width) for k in range(lanes)} | {
            "valid": In(1), "clear": In(1), "largest": Out(width),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        word = _tree(m, [getattr(self, f"i{k}") for k in range(self.lanes)], lambda a, b: Mux(greater(a, b), a, b), 0, "max")
        with m.If(self.clear):
            m.d.sync += self.largest.eq(0)
        with m.Elif(self.valid & greater(word, self.largest)):
            m.d.sync += self.largest.eq(word)
        return m
