"""What the program counter keeps for each sequence of a batch: its token, its place, its prompt, whether it has ended."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value

from trilobit.hdl.interfaces import TOKEN_BITS

__all__ = ["COUNT_BITS", "TOKEN_BITS", "Slots"]

COUNT_BITS = 32


def _parts(value, width: int, batch: int) -> list:
    """The slots' parts of a signal."""
    return [value] if batch == 1 else [value.word_select(slot, width) for slot in range(batch)]


class Slots:
    """The slots' share of the control instructions, built into the program counter's module.

    A slot is suppressed from a ``poll`` that found a prompt token for it, but not for every slot that isn't done, to the next ``poll``:
    until then it commits, emits and ends nothing. It is done from the ``bdone`` that sees its end to the one that sees the last's. With
    one slot neither can be, and there is no logic for it.

    Parameters
    ----------
    m, pc: the program counter and its module. batch: slots.
    """

    def __init__(self, m: Module, pc, batch: int):
        self.m, self.pc, self.batch = m, pc, batch
        self.tokens, self.positions = _parts(pc.token, TOKEN_BITS, batch), _parts(pc.position, COUNT_BITS, batch)
        self.waiting, self.first = _parts(pc.prompt_valid, 1, batch), _parts(pc.prompt_token, TOKEN_BITS, batch)
        self.prompt = Signal(name="prompt")
        self.emitted = [Signal(COUNT_BITS) for _ in range(batch)]
        if batch > 1:
            self.prompted, self.done, self.suppressed = Signal(batch), Signal(batch), Signal(batch)
            self.turn = Signal(range(batch))  # whose token emit sends
            self.emits, self.steps = Signal(), Signal()  # emit could leave but for its tokens; a slot's turn is over
            m.d.comb += self.suppressed.eq(self.prompted & ~self.prompt.replicate(batch))

    def start(self) -> list:
        """Statements for a program's start."""
        more = [self.prompted.eq(0), self.done.eq(0), self.turn.eq(0)] if self.batch > 1 else []
        return [*(emitted.eq(0) for emitted in self.emitted), self.pc.position.eq(0), self.prompt.eq(0), *more]

    def beyond(self, rows) -> Value:
        """Whether a token has no row in a table."""
        return _any([token >= rows for token in self.tokens])

    def commit(self) -> None:
        """Take what argmax found."""
        m = self.m
        for slot, found in enumerate(_parts(self.pc.new_token, TOKEN_BITS, self.batch)):
            step = [self.tokens[slot].eq(found), self.positions[slot].eq(self.positions[slot] + 1)]
            if self.batch == 1:
                m.d.sync += step
            else:
                with m.If(~self.suppressed[slot]):
                    m.d.sync += step

    def poll(self) -> None:
        m, pc = self.m, self.pc
        m.d.comb += pc.prompt_ready.eq((1 << self.batch) - 1)
        if self.batch == 1:
            m.d.sync += self.prompt.eq(pc.prompt_valid)
        else:
            m.d.sync += [self.prompt.eq(pc.prompt_valid.any() & (pc.prompt_valid | self.done).all()), self.prompted.eq(pc.prompt_valid)]
        for token, waits, first in zip(self.tokens, self.waiting, self.first, strict=True):
            with m.If(waits):
                m.d.sync += token.eq(first)

    def wait(self, control_ready) -> None:
        m, pc = self.m, self.pc
        every = pc.prompt_valid if self.batch == 1 else pc.prompt_valid.all()
        m.d.comb += [
            pc.prompt_ready.eq(1 if self.batch == 1 else every.replicate(self.batch)),
            control_ready.eq(every),
            pc.waiting.eq(~every),
        ]
        with m.If(every):
            m.d.sync += pc.token.eq(pc.prompt_token)

    def emit(self, control_ready) -> None:
        """Send tokens, a slot a cycle; those that are suppressed or done send none."""
        m, pc = self.m, self.pc
        if self.batch == 1:
            m.d.comb += [pc.out_valid.eq(1), control_ready.eq(pc.out_ready)]
            with m.If(pc.out_ready):
                m.d.sync += self.emitted[0].eq(self.emitted[0] + 1)
            return
        sends = ~(self.suppressed | self.done).bit_select(self.turn, 1)
        m.d.comb += [
            self.emits.eq(1), pc.out_valid.eq(sends), pc.out_slot.eq(self.turn), self.steps.eq(~sends | pc.out_ready),
            control_ready.eq(self.steps & (self.turn == self.batch - 1)),
        ]  # fmt: skip
        with m.If(self.steps):
            m.d.sync += self.turn.eq(self.turn + 1)  # from the last to the first
            for slot, emitted in enumerate(self.emitted):
                m.d.sync += emitted.eq(emitted + (sends & (self.turn == slot)))

    def bdone(self, redirect) -> None:
        m, pc = self.m, self.pc
        ends = [(token == pc.eos) | (emitted == pc.limit) for token, emitted in zip(self.tokens, self.emitted, strict=True)]
        if self.batch == 1:
            m.d.comb += redirect.eq(ends[0])
            return
        done = Signal(self.batch)
        m.d.comb += [done.eq(self.done | (Cat(ends) & ~self.suppressed)), redirect.eq(done.all())]
        m.d.sync += self.done.eq(Mux(redirect, 0, done))

    def sent(self):
        """The token that emit sends."""
        return self.tokens[0] if self.batch == 1 else Array(self.tokens)[self.turn]

    def output_stalls(self, control_ready):
        """Whether emit stays at issue, which counts as a stall."""
        return self.pc.out_valid & ~self.pc.out_ready if self.batch == 1 else self.emits & ~control_ready


def _any(bits: list) -> Value:
    return bits[0] if len(bits) == 1 else Cat(bits).any()
