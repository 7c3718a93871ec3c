"""The lean core's engine against the arithmetic and the machine of hdl/lean/reference.py."""

from dataclasses import replace

import numpy as np
import pytest
from amaranth.sim import Simulator

from trilobit.hdl.lean.engine import Engine
from trilobit.hdl.lean.micro import (
    LATENCY,
    Dest,
    Kind,
    Length,
    Max,
    Micro,
    MicroProgram,
    Offset,
    Operand,
    Sat,
    Shift,
    Source,
    Target,
    YMode,
)  # fmt: skip
from trilobit.hdl.lean.reference import ReferenceMachine, signed
from trilobit.isa.core import load_core
from trilobit.isa.program import Program
from trilobit.isa.spec import ISA

MOST = 64
SCALAR_VALUES = 40  # scalars 1 to here have random first values
PAGES = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 15]
ZERO = Operand()
MASK = (1 << 36) - 1


def page(number: int) -> Operand:
    return Operand(Source.PAGE, number)


def scalar(index: int, stride: bool = False) -> Operand:
    return Operand(Source.SCALAR, index, stride)


def edge(rng) -> int:
    """A number of 36 bits: of any size, and often near one that limits look at."""
    size = int(rng.integers(0, 36))
    value = int(rng.integers(0, 1 << size)) if rng.random() < 0.4 else (1 << size) + int(rng.integers(-1, 2))
    return signed(-value if rng.random() < 0.5 else value)


def get(ctx, memory, at: int) -> int:
    """A word of one of the engine's memories."""
    return ctx.get(memory.data[at])


def put(ctx, memory, at: int, value: int) -> None:
    ctx.set(memory.data[at], value & ((1 << memory.shape) - 1))


class Bench:
    """An engine and the machine that says what it should do; ``run`` is the sequencer."""

    def __init__(self, rng):
        self.config = load_core("tiny").replace(lanes=1, beat_bytes=16)
        self.rng = rng
        program = MicroProgram()
        program.values |= {index: edge(rng) for index in range(1, SCALAR_VALUES)}
        self.engine = Engine(self.config, program.values, debug=True)
        nothing = Program("none", [], 16, 0)  # passes are run one by one
        self.reference = ReferenceMachine(program, self.config, nothing, np.zeros(16, dtype=np.uint8))
        self.seen = {"act": [], "store": [], "gain": [], "hw": [], "saturated": 0}
        self.last = {"act": [], "store": [], "gain": [], "hw": []}
        self.gains: list[int] = []

    def simulate(self, process) -> None:
        """Run a process, with the buffers around the engine."""
        simulator = Simulator(self.engine)
        simulator.add_clock(1e-6)

        async def outside(ctx):
            engine = self.engine
            while True:
                pops = ctx.get(engine.gain_pop)
                if ctx.get(engine.act_en):
                    self.seen["act"].append((ctx.get(engine.act_index), signed(ctx.get(engine.act_data), 8)))
                if ctx.get(engine.store_en):
                    self.seen["store"].append(ctx.get(engine.store_data))
                if ctx.get(engine.gain_push):
                    self.seen["gain"].append(ctx.get(engine.gain_data))
                if ctx.get(engine.hw_en):
                    self.seen["hw"].append((ctx.get(engine.hw_en).bit_length() - 1, ctx.get(engine.hw_data)))
                self.seen["saturated"] += ctx.get(engine.saturated)
                await ctx.tick()
                # A gain is there for one cycle only.
                ctx.set(engine.gain_in, self.gains.pop(0) if pops else 0x5A5A)

        simulator.add_testbench(outside, background=True)
        simulator.add_testbench(process)
        simulator.run()

    async def start(self, ctx, micro: Micro, moved=None) -> None:
        """A pass at the earliest allowed clock, or a move; returns in the cycle behind its last element. The reference does it, too."""
        engine, reference = self.engine, self.reference
        while not ctx.get(engine.ready) or (micro.kind == Kind.MOVE and not ctx.get(engine.drained)):
            await ctx.tick()
        ctx.set(engine.micro, replace(micro, target=0).encode())
        ctx.set(engine.start, 1)
        count = reference.length(micro)
        await ctx.tick()
        ctx.set(engine.start, 0)
        done = 0
        while True:
            if moved is not None:
                valid = self.rng.random() < 0.6
                ctx.set(engine.move_valid, valid)
                ctx.set(engine.move_data, moved[done] & MASK if valid else 0)
                done += valid
            else:
                done += 1
            ending = ctx.get(engine.ending)
            assert ending == (done == count), micro
            await ctx.tick()
            if ending:
                break
        ctx.set(engine.move_valid, 0)
        ctx.set(engine.move_data, 0)
        ctx.set(engine.micro, int(self.rng.integers(0, 1 << 62)))  # nobody needs it any more
        if moved is None:
            reference._pass(micro)
        else:
            for i, value in enumerate(moved):
                reference._write(micro, i, value)
        if micro.dest == Dest.ACT:
            act = reference.act[reference.field("act")]
            self.last["act"] += [(i, int(act[i])) for i in range(count)]
        elif micro.dest == Dest.HARDWARE and micro.kind:
            self.last["hw"].append(micro.dest_index)

    async def drain(self, ctx) -> None:
        while not ctx.get(self.engine.drained):
            await ctx.tick()

    def fill(self, ctx, pages=PAGES) -> None:
        """Other numbers in all vectors, on both sides."""
        for number in pages:
            for index in range(MOST):
                self.poke(ctx, int(number), index, edge(self.rng))

    def poke(self, ctx, number: int, index: int, value: int) -> None:
        memories, size = self.engine.memories, self.reference.page_size
        self.reference.pages[number][index] = value
        at = number * size + index
        for name, bits in (("x", 34), ("y", 34), ("z", 36)):
            put(ctx, memories[name], at, value & ((1 << bits) - 1))
        if number >= 8:
            put(ctx, memories["n"], at - 8 * size, value >> 17 & 0xFF)

    def check(self, ctx, what="") -> None:
        """Memory, flags, and all that has left the engine."""
        engine, reference = self.engine, self.reference
        memories, size = engine.memories, reference.page_size
        expected = {(number, index): reference.pages[number][index] for number in PAGES for index in range(MOST)}
        expected |= {(14, 512 + index): value for index, value in enumerate(reference.scalars)}
        for (number, index), value in expected.items():
            at = number * size + index
            assert signed(get(ctx, memories["z"], at)) == value, (what, number, index)
            low = value & ((1 << 34) - 1)
            assert get(ctx, memories["x"], at) == get(ctx, memories["y"], at) == low, (what, number, index)
            if number >= 8:
                assert get(ctx, memories["n"], at - 8 * size) == value >> 17 & 0xFF, (what, number, index)
        for name, values in (("flag", reference.flags), ("condition", reference.conditions), ("half", reference.hashes)):
            assert [get(ctx, memories[name], i) for i in range(MOST)] == values[:MOST], (what, name)
        assert self.seen["saturated"] == reference.saturated, what
        size = 4 if reference.field("wide") else 2
        assert b"".join((v & ((1 << 8 * size) - 1)).to_bytes(size, "little") for v in self.seen["store"]) == bytes(reference.store), what
        reference.store.clear()
        self.seen["store"].clear()
        assert self.seen["act"] == self.last["act"], what
        assert [target for target, _ in self.seen["hw"]] == self.last["hw"], what
        for target, value in self.seen["hw"][-1:]:
            kept = reference.hardware[Target(target)]
            narrow = target in (Target.SEGMENT_E, Target.ACT_E)
            assert (signed(value >> 17, 8) if narrow else signed(value)) == kept, (what, target)
        assert self.seen["gain"] == list(reference.gains)[-len(self.seen["gain"]) :] or not self.seen["gain"], what

    async def word(self, ctx, **fields) -> None:
        """Another instruction word; nothing may be in flight."""
        await self.drain(ctx)
        value = 0
        for name, number in fields.items():
            field = ISA.fields[name]
            value |= (int(number) & ((1 << field.width) - 1)) << field.lo
        self.reference.word = value
        ctx.set(self.engine.word, value)
        self.reference.queue = [int(self.rng.integers(0, 4)), int(self.rng.integers(0, 4))]
        ctx.set(self.engine.queue_write, self.reference.queue[0])
        ctx.set(self.engine.queue_read, self.reference.queue[1])


def random_word(rng, length: int) -> dict[str, int]:
    return {
        "len": length, "vd": rng.integers(0, 8), "va": rng.integers(0, 8), "vb": rng.integers(0, 8), "vc": rng.integers(0, 8),
        "wide": rng.integers(0, 2), "act": rng.integers(0, 2), "sc": rng.integers(0, 4), "cnt": rng.integers(0, 4),
        "sha": rng.integers(-16, 48), "shb": rng.integers(-128, 128), "sho": rng.integers(0, 64),
        "k_e": rng.integers(0, 32), "eps_e": rng.integers(0, 64),
    }  # fmt: skip


def random_operand(rng, *, field: bool = True) -> Operand:
    kind = rng.random()
    if kind < 0.3:
        return scalar(int(rng.integers(0, SCALAR_VALUES)), bool(rng.integers(0, 2)))
    if kind < 0.5 and field:
        return Operand(Source.FIELD, int(rng.integers(0, 3)))
    return page(int(rng.choice(PAGES if field else [8, 9, 10, 11, 15])))


def random_pass(rng) -> Micro:
    """One of any mode whose operands are vectors and scalars."""
    fneg, hashes = int(rng.random() < 0.2), int(rng.random() < 0.1)
    return Micro(
        kind=Kind.PASS, x=random_operand(rng), y=random_operand(rng), z=random_operand(rng) if rng.random() < 0.5 else ZERO,
        n=random_operand(rng, field=False) if rng.random() < 0.4 else ZERO,
        fsel=int(rng.choice([Shift.CONST] * 5 + list(Shift))),
        fneg=fneg, fconst=int(rng.integers(-64, 1) if fneg else rng.integers(-1, 64)), round=int(rng.integers(0, 2)),
        ymode=int(rng.integers(0, 5)), ngate=int(rng.integers(0, 2)), hash=hashes, setc=int(rng.random() < 0.3),
        sat=int(rng.integers(0, 10)), count=int(rng.integers(0, 8)), clz=int(not hashes and rng.random() < 0.05),
        max=int(rng.choice([0, 0, Max.UPDATE, Max.START])), dest=int(rng.choice([Dest.NONE, Dest.PAGE, Dest.PAGE, Dest.VD, Dest.STORE])),
        dest_index=int(rng.choice(PAGES)), offset=int(rng.choice(list(Offset))),
        length=int(rng.choice([Length.ONE, Length.TWO, Length.FOUR, Length.EIGHT, Length.SIXTEEN, Length.LEN, Length.LEN])),
    )  # fmt: skip


def run(rng, scenario) -> None:
    """A scenario on a fresh engine; all that it did is compared at its end."""
    bench = Bench(rng)

    async def process(ctx):
        bench.fill(ctx)
        await scenario(bench, ctx)
        await bench.drain(ctx)
        bench.check(ctx)

    bench.simulate(process)


def vector(x: Operand, y: Operand, z: Operand = ZERO, **values) -> Micro:
    return Micro(kind=Kind.PASS, x=x, y=y, z=z, **({"length": Length.LEN, "dest": Dest.PAGE} | values))


def test_passes_of_all_modes_are_exact(rng):
    async def scenario(bench, ctx):
        for turn in range(40):
            await bench.word(ctx, **random_word(rng, int(rng.integers(1, 25))))
            bench.fill(ctx, rng.choice(PAGES, 4))
            for _ in range(4):
                micro = random_pass(rng)
                await bench.start(ctx, micro)
                await bench.drain(ctx)
                if not (micro.hash or micro.clz):
                    assert (ctx.get(bench.engine.negative), ctx.get(bench.engine.zero)) == (
                        bench.reference.negative,
                        bench.reference.zero,
                    ), micro
                bench.check(ctx, (turn, micro))

    run(rng, scenario)


def test_chained_passes_read_what_the_pass_before_wrote(rng):
    """At the earliest clock: starts LATENCY clocks apart, conditions and hash halves among what is handed on."""

    async def scenario(bench, ctx):
        for length in (1, 2, LATENCY - 2, LATENCY - 1, LATENCY, LATENCY + 1, 24):
            await bench.word(ctx, **random_word(rng, length))
            bench.fill(ctx)
            for _ in range(12):
                pages = [page(int(number)) for number in rng.choice(PAGES, 3)]
                micro = replace(random_pass(rng), x=pages[0], y=pages[1], z=pages[2], n=page(8), length=Length.LEN, fneg=0, fconst=20)
                await bench.start(ctx, replace(micro, dest=Dest.PAGE, dest_index=int(rng.choice(PAGES))))
            # A strided scalar after another, and a condition that chooses in the next pass.
            await bench.start(
                ctx, vector(page(0), scalar(1), length=Length.EIGHT, fconst=10, setc=1, dest=Dest.SCALAR, dest_stride=1, dest_index=480)
            )
            await bench.start(ctx, vector(scalar(480, True), scalar(2), scalar(480, True), length=Length.FOUR, fconst=3, ymode=YMode.SELECT,
                                          dest=Dest.SCALAR, dest_stride=1, dest_index=488))  # fmt: skip
            await bench.drain(ctx)
            bench.check(ctx, length)

    run(rng, scenario)


def test_starts_are_allowed_latency_clocks_apart(rng):
    async def scenario(bench, ctx):
        await bench.drain(ctx)
        for code, length in ((Length.ONE, 1), (Length.SIXTEEN, 16)):
            await bench.drain(ctx)
            await bench.start(ctx, vector(page(0), page(1), length=code))
            clocks = length + 1  # since the start
            while not ctx.get(bench.engine.ready):
                await ctx.tick()
                clocks += 1
            assert clocks == max(LATENCY, length + 1)
            while not ctx.get(bench.engine.drained):
                await ctx.tick()
                clocks += 1
            assert clocks == length + LATENCY

    run(rng, scenario)


def test_tables_are_read_where_y_says(rng):
    async def scenario(bench, ctx):
        await bench.word(ctx, len=48, vd=1, va=0)
        for table in range(3):
            for index in range(MOST):
                bench.poke(ctx, 0, index, int(rng.integers(-(1 << 35), 1 << 35)))
            entry = Operand(Source.TABLE, table)
            for y, ymode in ((page(0), YMode.REST), (Operand(Source.FIELD, 0), YMode.PLAIN)):
                await bench.start(ctx, vector(entry, y, entry, ymode=ymode, fconst=9, round=1, dest_index=2))
                await bench.drain(ctx)
                bench.check(ctx, (table, ymode))
        await bench.start(ctx, vector(page(12), page(0), page(12), dest_index=3))

    # z reads indices there as well, which the reference has for x alone; both hold them.
    run(rng, scenario)


def test_moves_reach_every_destination(rng):
    async def scenario(bench, ctx):
        for turn in range(24):
            await bench.word(ctx, **random_word(rng, int(rng.integers(1, 20))))
            dest = [Dest.PAGE, Dest.SCALAR, Dest.VD, Dest.GAIN, Dest.HARDWARE, Dest.ACT, Dest.STORE][turn % 7]
            index = {Dest.HARDWARE: turn % 10, Dest.PAGE: int(rng.choice(PAGES)), Dest.SCALAR: 300}.get(dest, 0)
            length = Length.ONE if dest in (Dest.HARDWARE, Dest.SCALAR) else Length.LEN
            micro = Micro(kind=Kind.MOVE, dest=dest, dest_index=index, length=length, slice=22, dest_stride=int(dest == Dest.SCALAR),
                          offset=int(rng.integers(0, 6)))  # fmt: skip
            await bench.start(ctx, micro, [edge(rng) for _ in range(bench.reference.length(micro))])
            # Right behind it, a pass that reads what it moved.
            await bench.start(ctx, vector(page(int(rng.choice(PAGES))), page(index if dest == Dest.PAGE else 0), fconst=12, dest_index=9))
            await bench.drain(ctx)
            bench.check(ctx, micro)

    run(rng, scenario)


def test_the_product_lands_in_vd(rng):
    async def scenario(bench, ctx):
        engine = bench.engine
        await bench.word(ctx, len=20, vd=5)
        # Whatever microinstruction stands there, even one that would count or limit.
        ctx.set(engine.micro, replace(vector(page(0), page(1), sat=Sat.S8, count=7, setc=1, max=Max.START, hash=1, clz=1,
                                             dest=Dest.HARDWARE, dest_index=2), target=0).encode())  # fmt: skip
        ctx.set(engine.product_start, 1)
        await ctx.tick()
        ctx.set(engine.product_start, 0)
        for index in range(20):
            for _ in range(int(rng.integers(0, 3))):
                await ctx.tick()
            value = signed(edge(rng), 32)
            bench.reference.pages[5][index] = value
            ctx.set(engine.product_valid, 1)
            ctx.set(engine.product_data, value)
            await ctx.tick()
            ctx.set(engine.product_valid, 0)
            ctx.set(engine.product_data, 0)

    run(rng, scenario)


def test_results_leave_for_every_destination(rng):
    async def scenario(bench, ctx):
        for dest in (Dest.ACT, Dest.STORE, Dest.GAIN, Dest.HARDWARE, Dest.NONE):
            for turn in range(12 if dest == Dest.HARDWARE else 2):
                await bench.word(ctx, **random_word(rng, 9))
                await bench.start(ctx, vector(page(turn % 8), page(9), fconst=30, sat=Sat.S25, dest=dest, dest_index=turn % len(Target)))
                await bench.drain(ctx)
                bench.check(ctx, (dest, turn))
        # A length from the register that was just written.
        await bench.start(ctx, vector(scalar(SCALAR_VALUES), ZERO, length=Length.ONE, dest=Dest.HARDWARE, dest_index=Target.LIMIT))
        for elements in (1, 17):
            await bench.drain(ctx)
            limit = Micro(kind=Kind.MOVE, dest=Dest.HARDWARE, dest_index=Target.LIMIT)
            await bench.start(ctx, limit, [elements - 1])
            await bench.drain(ctx)
            await bench.start(ctx, vector(page(0), page(1), fconst=33, length=Length.LIMIT, dest_index=elements % 8))

    run(rng, scenario)


def test_gains_are_taken_one_an_element(rng):
    async def scenario(bench, ctx):
        await bench.word(ctx, len=30)
        bench.gains = rng.integers(-(1 << 15), 1 << 15, 45).tolist()
        bench.reference.gains.extend(value & 0xFFFF for value in bench.gains)
        gain = Operand(Source.TABLE)
        await bench.start(ctx, vector(page(3), gain, fconst=14, round=1, sat=Sat.S18, dest_index=4))
        await bench.start(ctx, vector(page(4), page(4), dest_index=5))
        await bench.start(ctx, vector(page(2), gain, page(1), fconst=14, length=Length.EIGHT, dest_index=6))
        await bench.drain(ctx)
        assert bench.gains == [signed(value, 16) for value in bench.reference.gains] and len(bench.gains) == 7
        bench.reference.gains.clear()

    run(rng, scenario)


def test_the_largest_and_its_index(rng):
    async def scenario(bench, ctx):
        one = scalar(SCALAR_VALUES)
        await bench.word(ctx, len=24)
        await bench.start(ctx, Micro(kind=Kind.MOVE, dest=Dest.SCALAR, dest_index=one.index), [1])
        lowest = -(1 << 35)
        for turn in range(16):
            values = [edge(rng) for _ in range(24)]
            if turn % 4 == 0:
                values = [lowest] * 24 if turn == 0 else [max(values[3], 5)] * 24  # the first of equals
            for index, value in enumerate(values):
                bench.poke(ctx, 0, index, value)
            # The multiplier takes 34 bits; all 36 come by z.
            await bench.start(ctx, vector(ZERO, one, page(0), max=Max.UPDATE if turn % 3 == 2 else Max.START, dest=Dest.NONE))
            for which, index in ((Max.READ, 460), (Max.INDEX, 461)):
                await bench.drain(ctx)
                micro = vector(
                    page(1), page(2), page(3), fconst=3, sat=Sat.S8, max=which, dest=Dest.SCALAR, dest_index=index, length=Length.ONE
                )
                await bench.start(ctx, replace(micro, dest=Dest.SCALAR, dest_index=index))
            await bench.drain(ctx)
            bench.check(ctx, turn)

    run(rng, scenario)


@pytest.mark.parametrize("bits", [1, 10, 11, 20, 21, 31, 32])
def test_leading_zeros(rng, bits):
    async def scenario(bench, ctx):
        await bench.word(ctx, len=MOST)
        for index in range(MOST):
            noise = int(rng.integers(0, 1 << bits)) if index > 3 else (0, 1, (1 << bits) - 1, 1 << (bits - 1))[index]
            bench.poke(ctx, 0, index, signed(noise | int(rng.integers(0, 16)) << 32))
        await bench.start(ctx, vector(page(0), page(1), page(2), clz=1, sat=Sat.S8, dest_index=3))

    run(rng, scenario)


def test_a_register_can_be_read_out(rng):
    async def scenario(bench, ctx):
        ctx.set(bench.engine.debug, 1)
        for number, index in ((0, 0), (7, 63), (3, 17)):
            ctx.set(bench.engine.debug_page, number)
            ctx.set(bench.engine.debug_index, index)
            await ctx.tick().repeat(2)
            assert ctx.get(bench.engine.debug_data) == bench.reference.pages[number][index] & 0xFFFFFFFF
        ctx.set(bench.engine.debug, 0)

    run(rng, scenario)
