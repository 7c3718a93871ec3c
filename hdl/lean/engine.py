"""The lean core's vector engine: its memory, and passes and moves over it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from trilobit.hdl.interfaces import decode
from trilobit.hdl.lean.datapath import WORD, Control, Datapath, limits
from trilobit.hdl.lean.micro import (
    COUNT_FIRST,
    COUNT_LAST,
    COUNT_MORE,
    LATENCY,
    PAGE_IOTA,
    PAGE_NOISE,
    PAGE_TABLES,
    PAGE_TEMPORARY,
    PLACES,
    SCALARS,
    WORD_BITS,
    Dest,
    Kind,
    Length,
    Max,
    Offset,
    Sat,
    Shift,
    Source,
    Target,
    YMode,
)
from trilobit.hdl.lean.sequencer import micro_field
from trilobit.hdl.shift import greater
from trilobit.isa.core import CoreConfig
from trilobit.isa.noise import NOISE_TABLE
from trilobit.isa.spec import ISA
from trilobit.isa.tables import EXP2, RECIP

__all__ = ["Engine", "index_bits"]

FACTOR = 34
STRIDE_BITS = 4
SCALAR_AT = 1 << (SCALARS - 1).bit_length()  # the first scalar's index in its page
EXPONENT = slice(17, 25)
TABLE_AT = 9  # the lowest bit of y that chooses an entry
NOISE_TABLE_NUMBER = 2


def index_bits(config: CoreConfig) -> int:
    """Bits of an element's index: a page has room for the tables at least."""
    return max(10, ceil_log2(config.max_length))


def contents(config: CoreConfig, values: Mapping[int, int], *, slopes: bool) -> list[int]:
    """The engine's memory at power-on as x (``slopes``) or z sees it."""
    size = 1 << index_bits(config)
    words = [0] * (16 * size)
    words[PAGE_IOTA * size : (PAGE_IOTA + 1) * size] = range(size)
    for page, at, entries in [
        (PAGE_NOISE, 0, NOISE_TABLE[slopes]), (PAGE_TABLES, 0, EXP2.slope if slopes else EXP2.base),
        (PAGE_TABLES, 256, RECIP.slope if slopes else RECIP.base),
    ]:  # fmt: skip
        words[page * size + at : page * size + at + len(entries)] = [int(entry) for entry in entries]
    for index, value in values.items():
        words[PAGE_TABLES * size + SCALAR_AT + index] = value
    return words


class OperandFields(NamedTuple):
    """An operand of a microinstruction."""

    index: Any
    stride: Any
    source: Any


class Steps(NamedTuple):
    """The element under way: its index, the next one's, whether there is one."""

    index: Any
    number: Any
    valid: Any


class Engine(wiring.Component):
    """Executes passes, an element a clock, and takes the results of moves and of the ternary product into its memory.

    An element that is issued in cycle t reads y, its count and its condition at t, x, z, n and its hash half at t + 1, and has its result
    written at the end of t + 9. Nothing is held up; the sequencer's part is to start nothing too early.

    Parameters
    ----------
    config: core parameters (one lane, a batch of one).
    values: first values of scalars, by index.
    debug: whether registers can be read out.

    Members
    -------
    micro : In(WORD_BITS), word : In(128), queue_write, queue_read : In(3)
        The microinstruction and what its operands name, stable from ``start`` to ``ending``; most of it is taken at ``start``.
    start : In(1)
        A pass or a move begins, its first element in the next cycle at the earliest; while ``ready``, a move while ``drained``.
    ready, drained : Out(1)
        LATENCY cycles since the latest start, and no pass or move under way. Nothing in flight: memory, flags and targets are up to date.
    ending : Out(1)
        The last element is issued, or moved.
    move_valid : In(1), move_data : In(36)
        An element of a move; zero if not valid.
    product_start, product_valid : In(1), product_data : In(signed(32))
        The ternary product's results to register vd, from element 0 on; nothing else may be under way. Zero if not valid.
        ``product_start`` at least one cycle before the first.
    negative, zero : Out(1)
        Of the latest pass's last element: the result's sign, and whether the result was zero before its limit (for hash, clz, Max.READ
        and Max.INDEX it means nothing).
    saturated : Out(1)
        A pulse for each element counted.
    hw_en : Out(len(Target)), hw_data : Out(36)
        The last element's result for a register outside, one bit each; Target.LIMIT is kept here too.
    act_en : Out(1), act_index : Out(index), act_data : Out(8)
        An element for the activations.
    store_en : Out(1), store_data : Out(32); gain_push : Out(1), gain_data : Out(16)
        An element for the store buffer or the end of the gain queue.
    gain_pop : Out(1), gain_in : In(signed(16))
        The next gain is taken, and is there in the following cycle.
    debug, debug_page, debug_index, debug_data : In(1), In(3), In(index), Out(32)
        An element of a register while nothing runs, one cycle later.
    """

    def __init__(self, config: CoreConfig, values: Mapping[int, int], *, debug: bool = False):
        self.config, self.values, self.debug_port = config, dict(values), debug
        index = self.index_bits = index_bits(config)
        ports = {
            "micro": In(WORD_BITS), "word": In(ISA.word_bits), "queue_write": In(3), "queue_read": In(3),
            "start": In(1), "ready": Out(1), "drained": Out(1), "ending": Out(1),
            "move_valid": In(1), "move_data": In(WORD),
            "product_start": In(1), "product_valid": In(1), "product_data": In(signed(32)),
            "negative": Out(1), "zero": Out(1), "saturated": Out(1), "hw_en": Out(len(Target)), "hw_data": Out(WORD),
            "act_en": Out(1), "act_index": Out(index), "act_data": Out(8), "store_en": Out(1), "store_data": Out(32),
            "gain_push": Out(1), "gain_data": Out(16), "gain_pop": Out(1), "gain_in": In(signed(16)),
        }  # fmt: skip
        if debug:
            ports |= {"debug": In(1), "debug_page": In(3), "debug_index": In(index), "debug_data": Out(32)}
        super().__init__(ports)
        size = 1 << index
        z = contents(config, self.values, slopes=False)
        low = PAGE_TEMPORARY * size
        inits = {"x": (FACTOR, contents(config, self.values, slopes=True)), "y": (FACTOR, z), "z": (WORD, z),
                 "n": (8, [value >> EXPONENT.start & 0xFF for value in z[low:]]),
                 "half": (18, []), "flag": (1, []), "condition": (1, [])}  # fmt: skip
        attrs: Any = {"no_rw_check": 1, "ram_style": "block"}
        self.memories: dict[str, memory.Memory] = {
            name: memory.Memory(shape=width, depth=len(init) or size, init=[value & ((1 << width) - 1) for value in init], attrs=attrs)
            for name, (width, init) in inits.items()
        }

    def _fields(self) -> dict[str, Any]:
        """The microinstruction's fields."""
        fields: dict[str, Any] = {name: micro_field(self.micro, name) for name in PLACES}
        for name in ("x", "y", "z", "n"):
            fields[name] = OperandFields(fields[name][:9], fields[name][9], fields[name][10:])
        return fields

    def elaborate(self, platform):
        m = Module()
        m.submodules.datapath = datapath = Datapath()
        for name, part in self.memories.items():
            m.submodules[f"memory_{name}"] = part
        fields = self._fields()
        ours = Signal()  # what begins is a pass
        m.d.comb += ours.eq((fields["kind"] == Kind.PASS) & ~self.product_start)
        index, number, last, first, running = self._issue(m, fields, ours)
        valid = Signal()
        m.d.comb += valid.eq(running | self.move_valid | self.product_valid)
        self._control(m, datapath, fields, ours)
        events = self._events(m, fields, ours, valid, last, first)
        self._read(m, datapath, fields, Steps(index, number, valid), running)
        self._results(m, datapath, fields, Steps(index, number, valid), events)
        return m

    # ---- small parts ------------------------------------------------------------------------------------------------------------

    def _taken(self, m, value, name: str, reset=None):
        """A register that takes a value with a start; ``reset``, also with one, is free."""
        register = Signal(len(value), name=name, reset_less=True)
        with m.If(self.start | self.product_start):
            m.d.sync += register.eq(value if reset is None else Mux(reset, 0, value))
        return register

    def _write(self, m, name: str, address, value, enable) -> None:
        """The one port that writes a memory."""
        port = self.memories[name].write_port()
        m.d.comb += [port.addr.eq(address), port.data.eq(value), port.en.eq(enable)]

    def _delayed(self, m, value, cycles: int, name: str, reset=None):
        """The value some cycles later; ``reset`` is for its first register."""
        for cycle in range(1, cycles + 1):
            register = Signal(len(value), name=f"{name}_by{cycle}", reset_less=True)
            m.d.sync += register.eq(value if reset is None or cycle > 1 else Mux(reset, 0, value))
            value = register
        return value

    # ---- which element ------------------------------------------------------------------------------------------------------------

    def _issue(self, m, fields, ours):
        """Counts elements, and the cycles since starts and elements."""
        running, moving, first, last = Signal(), Signal(), Signal(), Signal()
        index, number = Signal(self.index_bits), Signal(self.index_bits)  # number: one more
        limit = self.limit = Signal(self.index_bits, reset_less=True)
        valid = running | self.move_valid | self.product_valid
        with m.If(self.start | self.product_start):
            m.d.sync += [index.eq(0), number.eq(1)]
        with m.Elif(valid):
            m.d.sync += [index.eq(number), number.eq(number + 1)]
        with m.Switch(fields["length"]):
            for code in (Length.ONE, Length.TWO, Length.FOUR, Length.EIGHT, Length.SIXTEEN):
                with m.Case(int(code)):
                    m.d.comb += last.eq(number[int(code)])
            with m.Case(int(Length.LEN)):
                m.d.comb += last.eq(number == decode(self.word, "len")[: self.index_bits])
            with m.Default():
                m.d.comb += last.eq(index == limit)
        m.d.comb += self.ending.eq(last & (running | self.move_valid))
        with m.If(self.start):
            m.d.sync += [running.eq(ours), moving.eq(~ours)]
        with m.Elif(self.ending):
            m.d.sync += [running.eq(0), moving.eq(0)]
        m.d.sync += first.eq(self.start)

        # How long ago, as ones that move up.
        since_start, since_element = Signal(LATENCY - 2), Signal(LATENCY - 2)
        m.d.sync += [since_start.eq(Cat(1, since_start)), since_element.eq(Cat(1, since_element))]
        m.d.sync += [self.ready.eq(since_start[-1] & (~running | last)), self.drained.eq(since_element[-1])]
        with m.If(self.start | moving):
            m.d.sync += [since_start.eq(0), self.ready.eq(0)]
        with m.If(self.start | moving | valid):
            m.d.sync += [since_element.eq(0), self.drained.eq(0)]
        return index, number, last, first, running

    # ---- what to do with it -----------------------------------------------------------------------------------------------------

    def _control(self, m, datapath, fields, ours):
        """The arithmetic's control, of the pass under way."""
        mode, largest = fields["ymode"], fields["max"]
        held = Signal(Control(), name="control0", reset_less=True)
        no_factor, no_addend = Signal(), Signal()
        reads = largest.matches(int(Max.READ), int(Max.INDEX))
        m.d.comb += [no_factor.eq(~ours | fields["clz"] | reads), no_addend.eq(no_factor | fields["hash"])]
        plain = {
            "rest": mode == YMode.REST, "absolute": mode == YMode.ABS, "choose": (mode == YMode.SELECT) | (mode == YMode.AND),
            "select": mode == YMode.SELECT, "gain": fields["y"].source == Source.TABLE, "ngate": fields["ngate"],
            "round": fields["round"] & ~fields["hash"], "factor": ~no_factor, "addend": ~no_addend,
        }  # fmt: skip
        special = {"read": largest == Max.READ, "index": largest == Max.INDEX, "clz": fields["clz"], "hash": fields["hash"]}
        limit = {"limits": Cat(*limits(fields["sat"], decode(self.word, "wide"))), "relu": fields["sat"] == Sat.RELU}
        with m.If(self.start | self.product_start):
            m.d.sync += [held[name].eq(value) for name, value in plain.items()]
            m.d.sync += [held[name].eq(Mux(ours, value, 0)) for name, value in special.items()]
            m.d.sync += [held[name].eq(Mux(no_addend, 0, value)) for name, value in limit.items()]

        # The first part of the shift: sources that aren't meant are zero.
        found = Const(0, 8)
        for source in Shift:
            value = fields["fconst"] if source == Shift.CONST else decode(self.word, source.name.lower())
            extension = value[-1] if value.shape().signed else Const(0, 1)
            value = Cat(value, extension.replicate(8 - len(value)))
            found = found | self._taken(m, value, f"shift_{source.name.lower()}", fields["fsel"] != int(source))
        inverted = self._taken(m, fields["fneg"], "shift_inverted")
        control1, f1 = Signal(Control(), reset_less=True), Signal(signed(8), reset_less=True)
        m.d.sync += [control1.eq(held), f1.eq(found ^ inverted.replicate(8))]
        m.d.comb += [datapath.control1.eq(control1), datapath.f1.eq(f1)]

    def _events(self, m, fields, ours, valid, last, first):
        """What elements do in cycle 9 (5 for ``hash``, 1 for ``forget``), a bit each that is zero for no element."""
        dest, count, largest = fields["dest"], fields["count"], fields["max"]

        def event(name: str, value, reset=None, *, cycle: int = 9, only=valid):
            return self._delayed(m, self._delayed(m, self._taken(m, value, name, reset), 1, f"{name}_first", ~only), cycle - 1, name)

        to_memory = (dest == Dest.SCALAR) | (dest == Dest.PAGE) | (dest == Dest.VD)
        wheres = {"to_act": Dest.ACT, "to_store": Dest.STORE, "to_gain": Dest.GAIN}
        number = fields["dest_index"][:4]
        targets = Cat(*(number == int(target) for target in Target))
        return {
            "to_memory": event("to_memory", to_memory | self.product_start),
            **{name: event(name, dest == where, self.product_start) for name, where in wheres.items()},
            "targets": event("targets", targets, (dest != Dest.HARDWARE) | self.product_start, only=valid & last),
            "counts": event("counts", (count & (COUNT_FIRST | COUNT_MORE)).any(), ~ours),
            "counts_last": event("counts_last", (count & COUNT_LAST).any(), ~ours),
            "forget": event("forget", (count & COUNT_FIRST).any(), cycle=1),
            "condition": event("condition", fields["setc"], ~ours),
            "hash": event("hash", fields["hash"], ~ours, cycle=5),
            "maximum": event("maximum", largest.matches(int(Max.UPDATE), int(Max.START)), ~ours),
            # A search that starts takes its first element, whatever it is.
            "fresh": event("fresh", largest == Max.START, ~ours, only=first),
            "final": event("final", ours, only=valid & last),
        }  # fmt: skip

    # ---- addresses ---------------------------------------------------------------------------------------------------------------

    def _offset(self, fields):
        """What is added to strided scalars' indices, but for the element's own."""
        sources = {Offset.SC: decode(self.word, "sc"), Offset.CNT: decode(self.word, "cnt"), Offset.ACT: decode(self.word, "act"),
                   Offset.QUEUE_WRITE: self.queue_write, Offset.QUEUE_READ: self.queue_read}  # fmt: skip
        chosen = Const(0, 3)
        for offset, value in sources.items():
            chosen = Mux(fields["offset"] == int(offset), value, chosen)
        return chosen

    def _place(self, m, name: str, fields, steps: "Steps", operand: "OperandFields", scalar, whole):
        """The low bits, base and vector index of an operand of the element under way.

        Of a scalar the base is its index, and the low bits are the sum of that and its offset. Of a vector the base is zero.
        """
        strided = scalar & operand.stride
        moves = self._taken(m, whole | strided & (fields["offset"] == Offset.ELEMENT), f"{name}_moves")
        vector = self._taken(m, whole, f"{name}_vector")
        base = self._taken(m, operand.index, f"{name}_base", ~scalar)
        step = Signal(STRIDE_BITS, name=f"{name}_step", reset_less=True)
        high = Signal(self.index_bits - STRIDE_BITS, name=f"{name}_high", reset_less=True)
        begins = self.start | self.product_start
        with m.If(begins):
            m.d.sync += step.eq(Mux(strided, self._offset(fields), 0))
        with m.Elif(moves & steps.valid):
            m.d.sync += step.eq(steps.number[:STRIDE_BITS])
        with m.If(begins | ~vector):
            m.d.sync += high.eq(0)
        with m.Elif(steps.valid):
            m.d.sync += high.eq(steps.number[STRIDE_BITS:])
        return (base[:STRIDE_BITS] + step)[:STRIDE_BITS], Cat(base[STRIDE_BITS:], self._taken(m, scalar, f"{name}_scalar")), high

    def _page(self, m, name: str, operand: "OperandFields"):
        """An operand's page, from registers."""
        source, index = operand.source, operand.index
        noise = index[1]
        fixed = Mux(source == Source.PAGE, index[:4], Mux((source == Source.TABLE) & noise, PAGE_NOISE, PAGE_TABLES))
        page = self._taken(m, fixed[:4], f"{name}_page", source == Source.FIELD)
        for k, field in enumerate(("va", "vb", "vc")):
            page = page | self._taken(m, decode(self.word, field), f"{name}_{field}", (source != Source.FIELD) | (index[:2] != k))
        return page[:4]

    def _read(self, m, datapath, fields, steps: "Steps", running):
        """Addresses and data of operands."""
        ports = {name: part.read_port() for name, part in self.memories.items()}
        for port in ports.values():
            m.d.comb += port.en.eq(1)
        operands = {name: fields[name] for name in ("x", "y", "z", "n")}
        places = {}
        for name, operand in operands.items():
            whole = (operand.source == Source.PAGE) | (operand.source == Source.FIELD)
            places[name] = self._place(m, name, fields, steps, operand, operand.source == Source.SCALAR, whole)
        pages = {name: self._page(m, name, operands[name]) for name in ("x", "y", "z")}

        low, base, high = places["y"]
        address: Any = Cat(low, base | high, pages["y"])
        if self.debug_port:
            address = Mux(self.debug, Cat(self.debug_index, self.debug_page), address)
            m.d.comb += self.debug_data.eq(ports["y"].data)
        m.d.comb += ports["y"].addr.eq(address)
        y1 = ports["y"].data

        # The others' a cycle later, when an entry of a table is known.
        for name in ("x", "z"):
            low, base, high = places[name]
            operand = operands[name]
            table = operand.source == Source.TABLE
            entry = self._taken(m, table, f"{name}_entry")
            noise = self._taken(m, operand.index[1], f"{name}_noise", ~table)
            which = self._taken(m, operand.index[0], f"{name}_which", ~table)
            low1, high1 = self._delayed(m, low, 1, f"{name}_low"), self._delayed(m, high, 1, f"{name}_high")
            chosen = Cat(y1[TABLE_AT : TABLE_AT + 8] & entry.replicate(8), y1[TABLE_AT + 8 : TABLE_AT + 10] & noise.replicate(2))
            # A place of a table in its page: 256 entries each, but for the noise, which has a page of its own.
            m.d.comb += ports[name].addr.eq(
                Cat(Cat(low1, base | high1 | Cat(Const(0, 8 - STRIDE_BITS), which & ~noise)) | chosen, pages[name])
            )
        low, base, high = places["n"]
        page = self._taken(m, Mux(operands["n"].source == Source.PAGE, operands["n"].index[:3], PAGE_TABLES - PAGE_TEMPORARY)[:3], "n_page")
        m.d.comb += ports["n"].addr.eq(Cat(self._delayed(m, low, 1, "n_low"), base | self._delayed(m, high, 1, "n_high"), page))
        index1 = self._delayed(m, steps.index, 1, "index")
        m.d.comb += [
            ports["flag"].addr.eq(steps.index), ports["condition"].addr.eq(steps.index), ports["half"].addr.eq(index1),
            datapath.c1.eq(ports["condition"].data), datapath.y1.eq(y1), datapath.gain1.eq(self.gain_in),
            datapath.x2.eq(ports["x"].data), datapath.z2.eq(ports["z"].data), datapath.n2.eq(ports["n"].data),
            datapath.h2.eq(ports["half"].data),
            self.gain_pop.eq(running & self._taken(m, operands["y"].source == Source.TABLE, "gains")),
            datapath.move2.eq(self._delayed(m, self.move_data, 2, "move")),
            datapath.product2.eq(Cat(product2 := self._delayed(m, self.product_data, 2, "product"), product2[-1].replicate(WORD - 32))),
        ]  # fmt: skip
        self.flag1 = ports["flag"].data

    # ---- results -----------------------------------------------------------------------------------------------------------------

    def _results(self, m, datapath, fields, steps: "Steps", events):
        """Writes results, keeps the largest, and gives the rest away."""
        result = datapath.result9
        dest, index = fields["dest"], fields["dest_index"]
        scalar = (dest == Dest.SCALAR) & ~self.product_start
        operand = OperandFields(index, fields["dest_stride"], None)
        low, base, high = self._place(m, "to", fields, steps, operand, scalar, ~scalar)
        fixed = Mux(dest == Dest.SCALAR, PAGE_TABLES, Mux(dest == Dest.VD, decode(self.word, "vd"), index[:4]))[:4]
        page = self._taken(m, Mux(self.product_start, decode(self.word, "vd"), fixed), "to_page")
        address = self._delayed(m, Cat(low, base | high, page), 9, "to")
        for name in ("x", "y", "z"):
            self._write(m, name, address, result, events["to_memory"])
        self._write(m, "n", address[:-1], result[EXPONENT], events["to_memory"] & address[-1])

        index5 = self._delayed(m, steps.index, 5, "index_to5")
        index9 = self._delayed(m, index5, 4, "index_to9")
        flag9 = self._delayed(m, self.flag1, 8, "flag", events["forget"])
        flag = Signal()
        m.d.comb += flag.eq((datapath.limited9 & events["counts"]) | flag9)
        for name, place, value, enable in [
            ("half", index5, datapath.half5, events["hash"]), ("flag", index9, flag, events["counts"]),
            ("condition", index9, result[-1], events["condition"]),
        ]:  # fmt: skip
            self._write(m, name, place, value, enable)

        largest = Signal(signed(WORD), reset_less=True, init=-(1 << (WORD - 1)))
        largest_index = Signal(self.index_bits, reset_less=True)
        with m.If(events["maximum"] & (greater(result.as_signed(), largest) | events["fresh"])):
            m.d.sync += [largest.eq(result), largest_index.eq(index9)]
        m.d.comb += [datapath.largest.eq(largest), datapath.largest_index.eq(largest_index)]

        zero9 = self._delayed(m, datapath.zero8, 1, "zero")
        with m.If(events["final"]):
            m.d.sync += [self.negative.eq(result[-1]), self.zero.eq(zero9)]
        with m.If(events["targets"][Target.LIMIT]):
            m.d.sync += self.limit.eq(result)
        m.d.comb += [
            self.saturated.eq(flag & events["counts_last"]), self.hw_en.eq(events["targets"]), self.hw_data.eq(result),
            self.act_en.eq(events["to_act"]), self.act_index.eq(index9), self.act_data.eq(result),
            self.store_en.eq(events["to_store"]), self.store_data.eq(result), self.gain_push.eq(events["to_gain"]),
            self.gain_data.eq(result),
        ]  # fmt: skip
