"""Microcode of the program's own course: start, fetch, control instructions, loads, stores, and faults."""

from trilobit.hdl.lean.code_argmax import clear_hashes
from trilobit.hdl.lean.code_stream import stream
from trilobit.hdl.lean.idioms import VA
from trilobit.hdl.lean.micro import COUNT_FIRST, COUNT_LAST, Cond, Dest, Length, MicroProgram, Offset, Sat, Slice, Strobe, Target
from trilobit.isa.core import CoreConfig

__all__ = ["control"]

# Codes of docs/decisions/0001-machine.md.
FAULTS = {
    "bad_opcode": 1,
    "bad_length": 2,
    "bad_address": 3,
    "read_only": 4,
    "bad_segment": 5,
    "memory_error": 6,
    "bad_token": 7,
    "bad_pc": 8,
}


def control(u: MicroProgram, config: CoreConfig) -> None:
    """Everything but the row-wise and norm instructions. Must come first: a program begins at microinstruction 0 and ends where it is."""
    _start(u, config)
    _instructions(u)
    _memory(u, config)
    stream(u, config)
    for name, code in FAULTS.items():
        u.label(name)
        u.do(Strobe.FAULT, fault=code)


def _start(u: MicroProgram, config: CoreConfig) -> None:
    # Drop what a program that ended with a fault has left: its own microcode ends there, as the sequencer stands while nothing runs.
    u.do(Strobe.FLUSH)
    u.wait(Cond.FLUSHED)
    u.do(Strobe.BEGIN)
    for name, slice in (("window", Slice.WINDOW0), ("write_start", Slice.WRITE0), ("eos", Slice.EOS0), ("limit", Slice.LIMIT0),
                        ("seed", Slice.SEED0)):  # fmt: skip
        u.join(slice, u.var(name))
    u.move(Slice.TEMPERATURE_M, u.var("temperature_m"))
    u.move(Slice.TEMPERATURE_E, u.var("temperature_e"), signed=1)
    u.sca(u.var("temperature_e"), u.const(1 << 17), to=u.var("temperature_e"))
    for name in ("emitted", "position", "prompted", "head", "head_end"):
        u.sca(u.const(0), to=u.var(name))
    u.sca(u.const(config.gain_buffer_elements), to=u.var("gain_room"))
    clear_hashes(u, config.max_length)

    u.label("next")
    u.jump("bad_pc", Cond.PC_BAD, strobe=Strobe.FETCH)
    u.do(Strobe.DISPATCH)
    u.label("retire")
    u.jump("memory_error", Cond.ERROR)
    u.do(Strobe.RETIRE, target="next")


def _instructions(u: MicroProgram) -> None:
    """Control instructions."""
    minus, token = u.const(-1), u.var("token")
    counter = u.block("x").strided

    def take() -> None:
        u.join(Slice.PROMPT0, token, strobe=Strobe.POP)

    u.entry("nop")
    u.jump("retire")
    u.entry("jump")
    u.label("branch")
    u.do(Strobe.RETIRE_BRANCH, target="next")

    u.entry("seti")
    u.move(Slice.WORD7, counter, offset=Offset.CNT)
    u.jump("retire")
    u.entry("loop")
    u.sca(counter, None, minus, offset=Offset.CNT, sat=Sat.RELU, to=counter, drain=1)
    u.sca(counter, offset=Offset.CNT, drain=1, cond=Cond.ZERO, invert=1, target="branch")
    u.jump("retire")

    u.entry("poll")
    u.sca(u.const(0), to=u.var("prompted"))
    u.jump("retire", Cond.PROMPT, unless=True, drain=1)
    u.sca(u.const(1), to=u.var("prompted"))
    take()
    u.jump("retire")
    u.entry("bprompt")
    u.sca(u.var("prompted"), drain=1, cond=Cond.ZERO, invert=1, target="branch")
    u.jump("retire")
    u.entry("wait")
    u.wait(Cond.PROMPT, strobe=Strobe.WAITING)
    take()
    u.jump("retire")

    u.entry("emit")
    u.wait(Cond.OUT_READY)
    u.sca(token, to=Target.OUT)
    u.sca(u.var("emitted"), None, u.const(1), to=u.var("emitted"))
    u.jump("retire", drain=1)
    u.entry("bdone")
    u.sca(token, minus, u.var("eos"), drain=1, cond=Cond.ZERO, target="branch")
    u.sca(u.var("emitted"), minus, u.var("limit"), drain=1, cond=Cond.ZERO, target="branch")
    u.jump("retire")

    u.entry("halt")
    u.do(Strobe.RETIRE)
    u.do(Strobe.FLUSH)
    u.wait(Cond.FLUSHED)
    u.do(Strobe.HALT)


def _memory(u: MicroProgram, config: CoreConfig) -> None:
    """Loads, stores, and the stream's regions. ``at`` and ``end``: beats from and up to which memory is read or written."""
    n = config.beat_bytes
    shift = (n - 1).bit_length()
    minus, at, end, scratch = u.const(-1), u.var("at"), u.var("end"), u.var("scratch")

    def address() -> None:
        u.jump("bad_address", Cond.ADDRESS_HIGH)
        u.join(Slice.ADDRESS0, at)

    def inside() -> None:
        """``end`` must be in the window."""
        u.sca(end, minus, u.var("window"), drain=1, cond=Cond.NEGATIVE, target="bad_address")

    def writable() -> None:
        u.sca(u.var("write_start"), minus, at, drain=1, cond=Cond.NEGATIVE, target="read_only")

    def vector(wide: bool) -> None:
        """``end`` behind a vector at ``at``."""
        u.move(Slice.WORD2, scratch)
        if wide:
            with u.unless(Cond.WIDE, inverted=True):
                u.sca(scratch, u.const(2), to=scratch)
        u.sca(scratch, u.const(2), u.const(n - 1), to=scratch)
        u.sca(scratch, n=shift, to=scratch)
        u.sca(scratch, None, at, to=end)

    def beats_field() -> None:
        """``end`` behind field beats."""
        u.join(Slice.WORD2, scratch)
        u.sca(scratch, None, at, to=end)

    def bursts(request: Strobe, after: Cond | None) -> None:
        """A request for each block of beats that ``at`` to ``end`` touches; their answers, if ``after`` says so, before the next."""
        block = config.burst_block
        last, edge = u.var("last"), u.var("edge")
        again = u.fresh("burst")
        u.sca(end, None, minus, to=end)
        u.label(again)
        u.sca(at, n=(block - 1).bit_length(), to=edge)
        u.sca(edge, u.const(block), u.const(block - 1), to=edge)
        u.sca(end, minus, edge, sat=Sat.RELU, to=last)
        u.sca(last, minus, edge, to=last)
        u.sca(at, minus, last, to=Target.BEATS)
        u.sca(at, to=Target.ADDRESS, drain=1, strobe=request)
        u.sca(last, None, u.const(1), to=at)
        u.wait(Cond.TAKEN)
        if after is not None:
            u.wait(after)
            u.jump("memory_error", Cond.ERROR)
        u.sca(last, minus, end, drain=1, cond=Cond.ZERO, invert=1, target=again)

    def load() -> None:
        u.do(Strobe.HOLD)
        u.wait(Cond.QUIET)
        u.do(Strobe.REREAD)
        bursts(Strobe.READ, None)
        u.wait(Cond.READ_DONE)
        u.do(Strobe.RELEASE)
        u.move(Slice.LOAD, Dest.VD, length=Length.LEN, signed=1)
        u.jump("retire")

    u.entry("ldv")
    u.jump("bad_length", Cond.LENGTH_BAD)
    address()
    vector(wide=True)
    inside()
    u.label("load")
    load()

    u.entry("emb")
    u.jump("bad_length", Cond.LENGTH_BAD)
    address()
    vector(wide=False)
    inside()
    rows = u.var("rows")
    u.move(Slice.WORD6, scratch)
    u.sca(scratch, n=8, to=scratch)
    u.move(Slice.WORD7, rows)
    u.sca(rows, u.const(256), scratch, to=rows)
    u.sca(rows, minus, u.var("token"), drain=1, cond=Cond.NEGATIVE, invert=1, target="bad_token")
    pitch, row = u.var("rows"), u.var("edge")
    u.move(Slice.WORD3, pitch)
    u.sca(pitch, n=shift, to=pitch)
    u.sca(u.var("token"), pitch, sat=Sat.S32, to=row)
    u.sca(row, None, at, to=at)
    u.sca(row, None, end, to=end)
    inside()
    u.jump("load")

    u.entry("sv")
    u.jump("bad_length", Cond.LENGTH_BAD)
    address()
    vector(wide=True)
    inside()
    writable()
    u.do(Strobe.STORE_START)
    u.vec(VA, sat=Sat.WIDE, count=COUNT_FIRST | COUNT_LAST, to=Dest.STORE, drain=1)
    bursts(Strobe.WRITE, Cond.WRITE_DONE)
    u.jump("retire")

    u.entry("clr")
    address()
    beats_field()
    inside()
    writable()
    bursts(Strobe.ZEROS, Cond.WRITE_DONE)
    u.jump("retire")

    u.entry("stream")
    address()
    beats_field()
    inside()
    u.wait(Cond.QUEUE_FULL, unless=True)
    u.sca(at, to=u.block("queue").strided, offset=Offset.QUEUE_WRITE)
    u.sca(end, to=u.block("queue_end").strided, offset=Offset.QUEUE_WRITE)
    u.sca(at, to=Target.REGION)
    u.sca(end, to=Target.REGION_END, drain=1, strobe=Strobe.PUSH)
    u.jump("retire")
