"""The lean core's microsequencer: fetches microinstructions, runs their pass or move, then strobes and branches."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from trilobit.hdl.lean.micro import PLACES, TARGET_BITS, WORD_BITS, Cond, Kind, MicroProgram, Strobe
from trilobit.isa.spec import UNITS

__all__ = ["Sequencer", "micro_field"]

_UNIT_BITS = (len(UNITS) - 1).bit_length()


def micro_field(micro, name: str):
    """The bits of one field of a microinstruction, signed if the field is."""
    place = PLACES[name]
    found = micro[place.low : place.low + place.bits]
    return found.as_signed() if place.signed else found


class Sequencer(wiring.Component):
    """Microinstructions one after the other.

    A microinstruction takes a cycle to latch and at least one to execute: CONTROL is over in that cycle; a PASS starts in the first cycle
    in
    which the engine is ready, a MOVE when it is drained, and both go on to the cycle of ``ending``. With ``drain`` it goes on until the
    first later cycle in which the engine is drained. In its last cycle its strobe fires and its branch looks at its condition. The next one
    is latched in the following cycle, after a branch taken, DISPATCH or RETURN in the one after that.

    Parameters
    ----------
    program: the microprogram.

    Members
    -------
    micro: the microinstruction under way.
    start, ready, drained, ending: the engine's side.
    opcode: of the instruction word. unit: the instruction's unit (index in UNITS), from two cycles behind ``opcode`` on.
    conditions: a bit for each of Cond. strobes: a bit for each of Strobe, in the last cycle.
    """

    def __init__(self, program: MicroProgram):
        self.program = program
        super().__init__({
            "micro": Out(WORD_BITS), "start": Out(1), "ready": In(1), "drained": In(1), "ending": In(1),
            "opcode": In(8), "unit": Out(_UNIT_BITS), "conditions": In(len(Cond)), "strobes": Out(len(Strobe)),
        })  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        words = self.program.words()
        m.submodules.rom = rom = memory.Memory(
            shape=WORD_BITS, depth=1 << max(len(words) - 1, 1).bit_length(), init=words, attrs={"ram_style": "block"}
        )
        m.submodules.entries = entries = memory.Memory(
            shape=TARGET_BITS + _UNIT_BITS, depth=256, init=[at | unit << TARGET_BITS for at, unit in self.program.dispatch()],
            attrs={"ram_style": "block"},
        )  # fmt: skip
        fetch, entry = rom.read_port(), entries.read_port()
        upc, back = Signal(TARGET_BITS), Signal(TARGET_BITS)
        micro = self.micro
        m.d.comb += [fetch.addr.eq(upc), entry.addr.eq(self.opcode), self.unit.eq(entry.data[TARGET_BITS:])]

        def is_(strobe: Strobe):
            return micro_field(micro, "strobe") == strobe

        kind = micro_field(micro, "kind")
        over, taken = Signal(), Signal()
        chosen = Cat(self.conditions, 0)[: 1 << PLACES["cond"].bits].bit_select(micro_field(micro, "cond"), 1)
        m.d.comb += taken.eq(chosen ^ micro_field(micro, "invert"))
        m.d.comb += self.strobes.eq(Mux(over, 1 << micro_field(micro, "strobe"), 0)[: len(Strobe)])

        def end():
            """The last cycle."""
            m.d.comb += over.eq(1)
            m.next = "LATCH"
            with m.If(is_(Strobe.DISPATCH)):
                m.d.sync += upc.eq(entry.data)
                m.next = "FETCH"
            with m.Elif(is_(Strobe.RETURN)):
                m.d.sync += upc.eq(back)
                m.next = "FETCH"
            with m.Elif(taken):
                m.d.sync += upc.eq(micro_field(micro, "target"))
                m.next = "FETCH"
                with m.If(is_(Strobe.CALL)):
                    m.d.sync += back.eq(upc)

        with m.FSM():
            with m.State("FETCH"):
                m.next = "LATCH"
            with m.State("LATCH"):
                m.d.sync += [micro.eq(fetch.data), upc.eq(upc + 1)]
                m.next = "EXECUTE"
            with m.State("EXECUTE"):
                with m.If(kind == Kind.CONTROL):
                    with m.If(micro_field(micro, "drain") & ~self.drained):
                        m.next = "DRAIN"
                    with m.Else():
                        end()
                with m.Elif(Mux(kind == Kind.PASS, self.ready, self.drained)):
                    m.d.comb += self.start.eq(1)
                    m.next = "RUN"
            with m.State("RUN"):
                with m.If(self.ending):
                    with m.If(micro_field(micro, "drain")):
                        m.next = "DRAIN"
                    with m.Else():
                        end()
            with m.State("DRAIN"):
                with m.If(self.drained):
                    end()
        return m
