"""The golden self-test: a small program whose results are known, and the clock against the host's."""

import zlib
from dataclasses import dataclass

import numpy as np

from trilobit.errors import HostError
from trilobit.host.board import Board
from trilobit.isa.core import CoreConfig
from trilobit.isa.counters import COUNTERS
from trilobit.isa.program import Program, Region
from trilobit.isa.segments import gains_segment, matrix_segment, scalar_of
from trilobit.isa.spec import ISA
from trilobit.isa.trits import pack
from trilobit.sim.backend import FAULTS, HostSettings
from trilobit.sim.functional import FunctionalSimulator

__all__ = ["SelfTest", "clock_program", "self_test", "self_test_program"]

SEED = 2406_02528
LENGTH, ROWS = 32, 20
SPAN = 4 * LENGTH  # bytes of a wide vector
TIMEOUT_SECONDS = 5.0
CLOCK_TOLERANCE = 0.03
CLOCK_SECONDS = 0.4
CLOCK_READS, CLOCK_PATIENCE = 8, 10  # at first, of which the quickest counts; times CLOCK_SECONDS until the last must have come


@dataclass(frozen=True)
class SelfTest:
    """What the self-test found: bytes compared, and the clock as measured in Hz (None: not measured)."""

    compared: int
    clock_hz: float | None


def self_test_program(config: CoreConfig) -> Program:
    """A program that uses every unit and most instructions, and stores what each computed.

    It needs registers of 32 elements and about two kilobytes of memory.
    """
    rng = np.random.default_rng(SEED)
    align = max(config.beat_bytes, 16)
    image = bytearray()

    def place(data: bytes) -> int:
        image.extend(bytes(-len(image) % align))
        image.extend(data)
        return len(image) - len(data)

    gains = rng.integers(8_000, 24_000, LENGTH)
    trits = rng.integers(-1, 2, (ROWS, LENGTH)).astype(np.int8)
    stream = gains_segment(gains, config.beat_bytes) + matrix_segment(pack(trits), ROWS, scalar_of(0.02), config.beat_bytes)
    matrix = len(gains_segment(gains, config.beat_bytes))
    stream_at = place(stream + bytes(-len(stream) % align))
    wide = place(rng.integers(-(1 << 24), 1 << 24, LENGTH).astype("<i4").tobytes())
    narrow = place(rng.integers(-(1 << 15), 1 << 15, LENGTH).astype("<i2").tobytes())
    table = place(rng.integers(-(1 << 15), 1 << 15, (4, LENGTH)).astype("<i2").tobytes())
    image.extend(bytes(-len(image) % align))
    write_start = results = len(image)
    code: list[int] = []

    def do(name: str, **fields: int) -> None:
        code.append(ISA.encode(name, **fields))

    def store(register: int) -> None:
        nonlocal results
        do("sv", va=register, addr=results, len=LENGTH, wide=1)
        results += -(-SPAN // align) * align

    beats = -(-len(stream) // align) * align // config.beat_bytes
    do("wait")
    do("stream", addr=stream_at, beats=beats)
    do("ldv", vd=0, addr=wide, len=LENGTH, wide=1)
    do("ldv", vd=1, addr=narrow, len=LENGTH)
    do("emb", vd=2, addr=table, len=LENGTH, pitch=2 * LENGTH, rows=4)
    do("rms", sc=0, va=0, vb=0, len=LENGTH, sha=8, shb=8)
    do("normq", act=0, va=0, sc=0, len=LENGTH, sha=8, gain=1, scaled=1)
    do("tmatmul", vd=3, act=0, addr=stream_at + matrix, len=ROWS, bp=-4)
    do("norm", vd=4, va=1, len=LENGTH, sho=-10, wide=1)
    for register in (3, 4):
        store(register)
    for name, fields in (
        ("add", {"va": 0, "vb": 1, "shb": -4, "wide": 1}),
        ("sub", {"va": 1, "vb": 2, "sho": 1}),
        ("mul", {"va": 0, "vb": 1, "sho": 12, "wide": 1}),
        ("div", {"va": 0, "vb": 1, "sho": 12, "wide": 1}),
        ("exp", {"vb": 2, "sho": 24, "shb": -1, "wide": 1}),
        ("sig", {"vb": 1, "sho": 16, "shb": -2, "wide": 1}),
        ("silu", {"vb": 2, "sho": 20, "shb": -2, "wide": 1}),
        ("onem", {"vb": 1, "sha": 15, "wide": 1}),
        ("lerp", {"va": 0, "vb": 2, "vc": 1, "sho": 15}),
        ("max", {"va": 1, "vb": 2}),
        ("muli", {"vb": 1, "imm": -77, "wide": 1}),
    ):
        register = 5 + len(code) % 3
        do(name, vd=register, len=LENGTH, **fields)
        store(register)
    do("argmax", va=3, len=ROWS, first=1, last=1, noise=1)
    do("emit")
    do("halt")
    regions = {"image": Region(name="image", addr=0, size=len(image), data=bytes(image))}
    return Program("self-test", code, results, write_start, regions)


def clock_program() -> list[int]:
    """Some seconds of nothing at any clock: nested loops."""
    return [
        ISA.encode("seti", cnt=0, imm=32767),
        ISA.encode("seti", cnt=1, imm=32767),
        ISA.encode("loop", cnt=1, target=2),
        ISA.encode("loop", cnt=0, target=1),
        ISA.encode("halt"),
    ]


def self_test(board: Board, config: CoreConfig, *, measure_clock: bool = True) -> SelfTest:
    """Run the self-test; it overwrites the first kilobytes of the memory.

    Args:
        board: idle or running, no matter.
        config: what the board's core should be.
        measure_clock: also compare the core's clock with the host's.

    Raises:
        HostError: the board computes wrong, stops on a fault, hangs, or runs at another clock than it was built for. Which, and what
            to do, is in the message.
    """
    program = self_test_program(config)
    settings = HostSettings(seed=7, temperature=0.8, limit=1)
    reference = FunctionalSimulator(config, program, settings=settings)
    reference.push([2])
    expected = reference.run()
    size = -(-program.window_size // config.beat_bytes) * config.beat_bytes
    image = np.zeros(size, dtype=np.uint8)
    image[: program.window_size] = program.memory()
    board.reset()
    board.wait_for_memory()
    board.load(image)
    board.prepare(program.code, window_size=program.window_size, write_start=program.write_start, settings=settings)
    board.push(2)
    board.start()
    deadline = board.now() + TIMEOUT_SECONDS
    while not (status := board.status()).done:
        if board.now() > deadline:
            raise HostError(f"the self-test did not end within {TIMEOUT_SECONDS:g} s: load the bitstream again")
    if status.fault:
        raise HostError(f"the self-test stopped on fault {status.fault} ({FAULTS.get(status.fault, 'unknown')}) at pc {status.fault_pc}; "
                        "the bitstream may be of another version, or its clock too fast for this board")  # fmt: skip
    tokens = board.pop()
    start = program.write_start // config.beat_bytes * config.beat_bytes
    found = board.read_memory(start, size - start)
    want = np.zeros(size, dtype=np.uint8)
    want[: program.window_size] = reference.memory
    wanted = want[start:].tobytes()
    if found != wanted or tokens != expected.tokens:
        wrong = sum(a != b for a, b in zip(found, wanted, strict=True))
        raise HostError(
            f"the board computes wrong: in the self-test {wrong} of {len(wanted)} bytes differ (CRC-32 {zlib.crc32(found):#010x}, expected "
            f"{zlib.crc32(wanted):#010x}), tokens {tokens}, expected {expected.tokens}; its clock may be too fast, or the bitstream of "
            "another version"
        )
    clock = _clock(board) if measure_clock else None
    return SelfTest(len(wanted), clock)


def _clock(board: Board) -> float:
    """The core's clock in Hz: cycles it counts while the host's clock goes on.

    When within a read the count was taken isn't known, so reads that take long don't count (on a noisy line, those that are repeated).
    """
    board.prepare(clock_program(), window_size=board.identity.beat_bytes, write_start=0, settings=HostSettings())
    board.select_counter(COUNTERS.index("cycles"))
    board.start()

    def count() -> tuple[float, float, int]:
        """Seconds that a read took, when it had ended, cycles."""
        before = board.now()
        cycles = board.read_register("counter")
        after = board.now()
        return after - before, after, cycles

    took, begin, first = min(count() for _ in range(CLOCK_READS))
    while True:
        took_last, end, last = count()
        if end >= begin + CLOCK_SECONDS and took_last <= took + CLOCK_SECONDS * CLOCK_TOLERANCE / 2:
            break
        if end > begin + CLOCK_PATIENCE * CLOCK_SECONDS:
            raise HostError("expected to read the board's count of cycles without repetitions, could not: the line is too noisy")
    board.reset()
    clock = (last - first) / (end - begin)
    built = board.identity.clock_hz
    if built and abs(clock / built - 1) > CLOCK_TOLERANCE:
        raise HostError(
            f"the board runs at {clock / 1e6:.2f} MHz, it was built for {built / 1e6:.2f} MHz: load the bitstream for this board"
        )
    return clock
