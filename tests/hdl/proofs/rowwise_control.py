"""What the row-wise unit guarantees to the registers: the assumptions of their proof, of the unit that most instructions go to."""

from amaranth.hdl import Cat, Const, Mux, Signal
from amaranth.utils import ceil_log2

from proofs.solver import Harness, driven, opened
from trilobit.hdl import rowwise
from trilobit.hdl.interfaces import decode
from trilobit.isa.core import load_core
from trilobit.isa.spec import ISA

__all__ = ["RowWiseControl"]

PC_BITS = 2  # of a pc that are followed; the others have the same wires


class RowWiseControl(Harness):
    """:class:`trilobit.hdl.rowwise.RowWise` of the core ``tiny`` without its lanes, noise and search: nothing proved here depends on data.

    Words that enter are followed down the pipeline by books of their own: which instruction's, which word, whether the last.
    """

    def __init__(self, *, source=rowwise):
        super().__init__()
        self.config = load_core("tiny").replace(max_length=16)
        self.latency, self.retire = source.ROWWISE_LATENCY, source.RETIRE_LATENCY
        self.dut = source.RowWise(self.config)

    def build(self) -> None:
        m, dut, config = self.m, self.dut, self.config
        module, found = opened(dut)
        inside, signals = found[-1], driven(module)
        for name in [name for name in module._named_submodules if name.startswith(("lane", "noise", "search"))]:
            del module._named_submodules[name]
        m.submodules.dut = module
        ports = (dut.a, dut.b, dut.c)
        self.inputs += [dut.cmd.valid, dut.cmd.word, dut.cmd.pc, dut.write.ok, *(port.ok for port in ports)]
        enter, accept, word = inside["enter"], dut.cmd.valid & dut.cmd.ready, dut.cmd.word
        lane_bits, length = ceil_log2(config.lanes), decode(word, "len")
        row_wise = [op for op in ISA.by_name.values() if op.unit == "rowwise"]
        self.assumptions |= {
            "commands are row-wise": ~dut.cmd.valid | Cat(word[:8] == op.opcode for op in row_wise).any(),
            "lengths are those of vectors": ~dut.cmd.valid | ((length != 0) & (length <= config.max_length)),
        }

        # The instruction whose words enter.
        fields = {name: Signal(3, name=f"true_{name}") for name in ("va", "vb", "vc", "vd")}
        uses, argmax, pc = Signal(3, name="true_uses"), Signal(name="true_argmax"), Signal(PC_BITS, name="true_pc")
        slot, size, done = Signal(5, name="true_slot"), Signal(8, name="entries"), Signal(8, name="entered")
        running = Signal(name="true_running")
        is_argmax = word[:8] == ISA.by_name["argmax"].opcode
        last = done + 1 == size
        named = Cat(Cat(word[:8] == op.opcode for op in row_wise if name in op.reads).any() for name in ("va", "vb", "vc"))
        with m.If(enter):
            m.d.sync += [done.eq(done + 1), running.eq(~last)]
        with m.If(accept):
            m.d.sync += [
                *(register.eq(decode(word, name)) for name, register in fields.items()), uses.eq(named), argmax.eq(is_argmax),
                pc.eq(dut.cmd.pc[:PC_BITS]), slot.eq(inside["put_at"]), done.eq(0), running.eq(1),
                size.eq(Mux(is_argmax, length, ((length - 1) >> lane_bits) + 1)),
            ]  # fmt: skip
        position = Mux(argmax, done >> lane_bits, done)[:8]
        # What was in cycle 0 of the pipeline, so many cycles ago.
        names = {"entered": enter, "argmax": argmax, "last": last, "vd": fields["vd"], "pc": pc}
        names |= {"slot": slot, "word": position, "number": done}
        past = [{name: Signal.like(value, name=f"past{k}_{name}") for name, value in names.items()} for k in range(1, self.retire + 1)]
        for before, now in zip([names, *past[:-1]], past, strict=True):
            m.d.sync += [signal.eq(before[name]) for name, signal in now.items()]

        def ago(cycles: int) -> dict:
            return names if cycles == 0 else past[cycles - 1]

        written, retired = ago(self.latency), ago(self.retire)
        asked = Cat(port.en for port in ports)
        first_of_word = ~argmax | (done[:lane_bits] == 0)
        self.properties |= {
            "words are read only when ok": Cat(~port.en | port.ok for port in ports).all(),
            "all sources that the instruction names are read at once, and no other": (asked == 0) | (asked == uses),
            "what is read is the instruction's": Cat(
                ~port.en | (port.reg == fields[name]) for port, name in zip(ports, ("va", "vb", "vc"), strict=True)).all(),
            "words are read in order, once each": (asked.any() == (enter & first_of_word)) & Cat(
                ~port.en | (port.addr == position) for port in ports).all(),
            "no word is read before the instruction or behind its last": ~enter | running,
            "no instruction is left before its last word": ~accept | ~running | (enter & last),
            "a word enters only when its destination may be written":
                ~(enter & ~argmax) | (dut.write.ok & (dut.write.chk_reg == fields["vd"])),
            "progress: a word enters when its sources and its destination are ok":
                ~running | enter | ~(dut.write.ok | argmax) | ~Cat(port.ok | ~use for port, use in zip(ports, uses, strict=True)).all(),
            "each word is written ROWWISE_LATENCY cycles after it was read, once":
                dut.write.en == (written["entered"] & ~written["argmax"]),
            "to its instruction's register, in order": ~dut.write.en | (
                (dut.write.reg == written["vd"]) & (dut.write.addr == written["word"])),
            "an instruction retires RETIRE_LATENCY cycles after its last word was read": dut.retire.valid == (
                retired["entered"] & retired["last"]),
            "under its own pc": ~dut.retire.valid | (dut.retire.pc[:PC_BITS] == retired["pc"]),
        }  # fmt: skip
        self.covers |= {
            "the next instruction enters behind the last word": enter & ago(1)["entered"] & ago(1)["last"],
            "a word waits": running & ~enter,
            "a second argmax element enters": enter & argmax & (done == 1),
        }
        self._invariants(inside, signals, names, past, {"running": running, "size": size, "done": done, "uses": uses, **fields})
        self.shown |= {
            "cmd_valid": dut.cmd.valid, "cmd_ready": dut.cmd.ready, "cmd_opcode": word[:8], "cmd_len": length, "enters": enter,
            "is_running": running, "entries_done": done, "entries_all": size, "read_en": asked, "read_ok": Cat(p.ok for p in ports),
            "word_read": dut.a.addr, "write_may": dut.write.ok, "write_en": dut.write.en, "write_reg": dut.write.reg,
            "write_word": dut.write.addr, "true_write": written["entered"] & ~written["argmax"], "true_reg": written["vd"],
            "true_word": written["word"], "retires": dut.retire.valid, "retires_pc": dut.retire.pc,
        }  # fmt: skip

    def _invariants(self, inside, signals, names, past, now) -> None:
        m, running = self.m, now["running"]
        put_at, get_at, queue, get = (inside[name] for name in ("put_at", "get_at", "queue", "get"))
        lane_bits = ceil_log2(self.config.lanes)
        argmax = names["argmax"]
        held = {
            name: signals[f"held_{name}"]
            for name in ("va", "vb", "vc", "vd", "argmax", "last_word", "tail", "uses_va", "uses_vb", "uses_vc")
        }
        word, element = inside["word"], inside["element"]
        entries = Mux(argmax, (held["last_word"] << lane_bits) + held["tail"] + 1, held["last_word"] + 1)
        self.invariants |= {
            "occupied": inside["occupied"] == running,
            "held": ~running | (Cat(held[name] == now[name] for name in ("va", "vb", "vc", "vd")).all() & (held["argmax"] == argmax)
                                & (Cat(held[f"uses_{name}"] for name in ("va", "vb", "vc")) == now["uses"]) & now["uses"].any()),
            "size": ~running | ((now["size"] == entries) & (now["done"] < now["size"])),
            "place": ~running | ((word == names["word"]) & (element == Mux(argmax, now["done"][:lane_bits], 0))),
            "start": running | ((word == 0) & (element == 0)),
            "flight": Cat(inside["flight"][k] == each["entered"] for k, each in enumerate(past)).all(),
            "valid": (inside["valid20"] == past[19]["entered"]) & (inside["valid21"] == past[20]["entered"]),
            "lasts": Cat(~each["entered"] | (signals[f"last{k}"] == each["last"]) for k, each in enumerate(past, 1)).all(),
            "argmaxes": Cat(~each["entered"] | (signals[f"argmax{k}"] == each["argmax"]) for k, each in enumerate(past[:20], 1)).all(),
            "argmax reads a": ~(running & argmax) | (now["uses"] == 1),
        }  # fmt: skip
        # The destination of each word on its way stands in the queue, at its instruction's slot; words are counted again at the end.
        # From the oldest word to the youngest: the slot and the number of the next, and whether its instruction goes on.
        slot, number, goes_on = get_at, inside["written"], Const(0, 1)
        for k in range(len(past) - 1, 0, -1):
            each, entered = past[k - 1], past[k - 1]["entered"]
            ends = entered & each["last"]
            self.invariants[f"number {k}"] = ~entered | (each["number"][: len(number)] == number)
            number = self._named(f"number_behind{k}", Mux(entered, Mux(each["last"], 0, number + 1), number)[: len(number)])
            goes_on = self._named(f"goes_on{k}", Mux(entered, ~each["last"], goes_on))
            if k <= 18:
                probe = queue.read_port(domain="comb")
                m.d.comb += probe.addr.eq(slot)
                self.invariants[f"slot {k}"] = ~entered | (
                    (slot == each["slot"]) & (probe.data.vd == each["vd"]) & (probe.data.pc[:PC_BITS] == each["pc"]))  # fmt: skip
                slot = self._named(f"slot_behind{k}", (slot + ends)[: len(slot)])
        probe = queue.read_port(domain="comb")
        m.d.comb += probe.addr.eq(put_at - 1)
        self.invariants |= {
            "put": ~running | (put_at == (names["slot"] + 1)[: len(put_at)]),
            "current slot": ~running | ((probe.data.vd == now["vd"]) & (probe.data.pc[:PC_BITS] == names["pc"])),
            "slots in flight": slot == (put_at - running)[: len(slot)],
            "number at entry": number == Mux(running, now["done"], 0)[: len(number)],
            "goes on": ~goes_on | running,
            "looked up": ~past[18]["entered"] | ((get.data.vd == past[18]["vd"]) & (get.data.pc[:PC_BITS] == past[18]["pc"])),
            "entry": ~past[19]["entered"] | ((inside["entry20"].vd == past[19]["vd"]) & (inside["entry20"].pc[:PC_BITS] == past[19]["pc"])),
            "pc": ~past[20]["entered"] | (signals["pc21"][:PC_BITS] == past[20]["pc"]),
            "words are numbers": Cat(
                ~each["entered"] | each["argmax"] | ((each["number"] == each["word"]) & (each["word"] < self.config.words))
                for each in past).all(),
        }  # fmt: skip

    def _named(self, name: str, value) -> Signal:
        signal = Signal.like(value, name=name)
        self.m.d.comb += signal.eq(value)
        return signal
