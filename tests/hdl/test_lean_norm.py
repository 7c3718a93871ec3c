"""The lean core's microcode of the norms equals the instructions' definitions, bit for bit and count for count."""

from itertools import product
from math import isqrt

import numpy as np
import pytest

from trilobit.hdl.lean.code_norm import NORM_BIAS, norms
from trilobit.hdl.lean.micro import LATENCY, SCALARS, Dest, Kind, Length, Micro, MicroProgram, Offset, Operand, Sat, Shift, Source, YMode
from trilobit.hdl.lean.reference import ReferenceMachine, run_pass, signed
from trilobit.isa.core import load_core
from trilobit.isa.fixed import Scalar, rsqrt, square_norm
from trilobit.isa.program import Program
from trilobit.isa.semantics import norm, normq, rms
from trilobit.isa.spec import ISA
from trilobit.isa.tables import RECIP

CONFIG = load_core("ulx3s").replace(max_length=4096)  # the longest there can be: sums are exact up to there
X_LOW, X_HIGH = -(1 << 31), (1 << 31) - 1
GAINS_EDGES = np.array([-(1 << 15), (1 << 15) - 1, 0, 1, -1])


def _program() -> MicroProgram:
    u = MicroProgram()
    norms(u)
    for label in ("bad_length", "bad_segment", "segment", "retire"):  # those of the control's code
        u.label(label)
        u.emit()
    return u


MICRO = _program()


class Bench:
    """One machine whose scalars, flags and temporaries stay from instruction to instruction, as in hardware."""

    def __init__(self):
        self.machine = ReferenceMachine(MICRO, CONFIG, Program("norm", []))
        self.clocks = 0

    def run(self, name: str, gains=None, vectors=None, **fields) -> int:
        """Run an instruction; the number of saturated elements. ``vectors`` are the registers' new contents."""
        machine = self.machine
        for register, values in (vectors or {}).items():
            machine.pages[register][: len(values)] = [int(v) for v in values]
        if gains is not None:
            machine.gains.extend([len(gains), *(int(g) & 0xFFFF for g in gains)])
            fields["gain"] = 1
        word = ISA.by_name[name].opcode
        for key, value in fields.items():
            spec = ISA.fields[key]
            word |= (int(value) << spec.lo) & spec.mask
        machine.word, machine.upc = word, machine.entries[ISA.by_name[name].opcode]
        before, self.clocks = machine.saturated, 0
        while (where := machine.upc) != MICRO.labels["retire"]:
            assert where not in (MICRO.labels["bad_length"], MICRO.labels["bad_segment"])
            micro = MICRO.code[where]
            self.clocks += max(machine.length(micro) + 2, LATENCY) if micro.kind == Kind.PASS else 2
            machine.step()
        assert not machine.gains
        return machine.saturated - before

    def scalar(self, name: str, offset: int = 0) -> int:
        return self.machine.scalars[MICRO.names[name] + offset]

    def exponent(self, name: str, offset: int = 0) -> int:
        return signed(self.scalar(name, offset) >> 17, 8)

    # ---- each against its definition ------------------------------------------------------------------------------------------

    def rms(self, a, b, gains=None, *, sc=0, same=False, **options) -> Scalar:
        b = a if same else b
        square, saturated = rms(a, b, gains, **options)
        registers = {2: a} if same else {2: a, 5: b}
        assert self.run("rms", gains, registers, len=len(a), sc=sc, va=2, vb=2 if same else 5, **options) == saturated
        expected = rsqrt(square)
        assert self.scalar("square_m", sc) == expected.mantissa
        if expected.mantissa:
            assert self.exponent("square_e", sc) - 32 == expected.exponent
        return square

    def norm(self, a, gains=None, **options) -> None:
        value, saturated = norm(a, gains, **{"c_m": 32768, **options})
        assert self.run("norm", gains, {7: a}, len=len(a), va=7, vd=1, **{"c_m": 32768, **options}) == saturated
        assert self.machine.pages[1][: len(a)] == value.tolist()

    def normq(self, a, gains=None, square=None, *, act=0, sc=0, sha=0) -> None:
        expected = normq(a, gains, square, sha=sha)
        assert self.run("normq", gains, {3: a}, len=len(a), va=3, act=act, sc=sc, scaled=square is not None, sha=sha) == expected.saturated
        assert self.machine.act[act][: len(a)].tolist() == expected.value.tolist()
        assert (self.scalar("act_m", act), self.exponent("act_e", act)) == expected.scale
        assert self.scalar("act_len", act) == len(a)


def _vector(rng, n: int, kind: int) -> np.ndarray:
    """Elements of 32 bits: of any size, small, all extremes, all zero, one alone, or all the same."""
    bits = int(rng.integers(1, 33))
    values = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), n)
    if kind == 1:
        values = rng.integers(-3, 4, n)
    elif kind == 2:
        values = rng.choice([X_LOW, X_HIGH, 0, 1, -1, -(1 << 17), (1 << 17) - 1], n)
    elif kind == 3:
        values = np.zeros(n, dtype=np.int64)
    elif kind == 4:
        values = np.where(np.arange(n) == rng.integers(n), values, 0)
    elif kind == 5:
        values = np.full(n, rng.choice([X_LOW, X_HIGH, 1, -1]))
    return values.astype(np.int64)


def _gains(rng, n: int) -> "np.ndarray | None":
    choice = rng.integers(4)
    if choice == 0:
        return None
    return rng.choice(GAINS_EDGES, n) if choice == 1 else rng.integers(-(1 << 15), 1 << 15, n)


def _shift(rng, low: int, high: int) -> int:
    return int(rng.choice([low, high, 0, 0, 1, rng.integers(low, high + 1)]))


def test_rms_and_the_normq_that_uses_it_equal_their_definitions():
    rng, bench = np.random.default_rng(101), Bench()
    for case in range(250):
        n = int(rng.integers(1, 65))
        options = {"sha": _shift(rng, -16, 31), "shb": _shift(rng, -16, 31), "sho": _shift(rng, 0, 63)}
        options |= {"eps_m": int(rng.choice([0, 1, 32767, rng.integers(32768)])), "eps_e": int(rng.integers(64))}
        options |= {"k_m": int(rng.choice([0, 0, 1, 65535, rng.integers(65536)])), "k_e": int(rng.integers(32))}
        a, b, gains = _vector(rng, n, case % 7), _vector(rng, n, case // 7 % 7), _gains(rng, n)
        sc = int(rng.integers(4))
        square = bench.rms(a, b, gains, sc=sc, same=bool(rng.integers(2)), **options)
        bench.normq(_vector(rng, n, case % 6), _gains(rng, n), square if case % 3 else None, act=case & 1, sc=sc, sha=_shift(rng, -16, 31))


def test_norm_equals_its_definition():
    rng, bench = np.random.default_rng(102), Bench()
    for case in range(300):
        n = int(rng.integers(1, 65))
        a, gains, wide = _vector(rng, n, case % 7), _gains(rng, n), int(rng.integers(2))
        options = {"sha": _shift(rng, -16, 31), "c_m": int(rng.choice([32768, 65535, rng.integers(32768, 65536)])), "wide": wide}
        options |= {"k_m": int(rng.choice([0, 0, 1, 65535, rng.integers(65536)])), "k_e": int(rng.integers(32))}
        for sho in (_shift(rng, -128, 127), int(rng.integers(-40, 30))):
            bench.norm(a, gains, sho=sho, **options)


def test_the_scale_of_a_register_that_no_rms_has_written_is_zero():
    bench = Bench()
    bench.normq(np.array([5, -3]), None, Scalar(0, 0), sc=3)


def test_zeros_have_a_square_of_zero():
    bench, zeros = Bench(), np.zeros(3, dtype=np.int64)
    bench.rms(np.array([7, 8]), np.array([9, 10]), sc=2)
    assert bench.rms(zeros, zeros, sc=2) == (0, 0)
    bench.normq(np.array([1, 2, 3]), None, Scalar(0, 0), sc=2)
    bench.norm(zeros, sho=-128)


def test_long_vectors_of_the_largest_squares_and_products_are_exact():
    rng, n, bench = np.random.default_rng(103), CONFIG.max_length, Bench()
    low, lowest_gain = np.full(n, X_LOW), np.full(n, -(1 << 15))
    for eps_e in (0, 13, 31, 63):
        square = bench.rms(low, low, lowest_gain, eps_m=32767, eps_e=eps_e, k_m=65535, k_e=31)
    bench.normq(low, lowest_gain, square)
    bench.norm(low, lowest_gain, sho=-10, c_m=65535, k_m=65535, k_e=31, wide=1)
    values = rng.integers(-(1 << 17), 1 << 17, 1000)
    gains = rng.integers(-(1 << 15), 1 << 15, 1000)
    square = bench.rms(values, values[::-1].copy(), gains, sho=14, eps_m=30011, eps_e=17, k_m=40000, k_e=9)
    bench.normq(values, gains, square)
    bench.norm(values, gains, sho=-6, c_m=50000, k_m=3, k_e=3)


@pytest.mark.parametrize("largest_bits", range(1, 34))
def test_every_size_of_the_largest_element_has_its_shift(largest_bits):
    bench, n = Bench(), 20
    for largest in {1 << (largest_bits - 1), (1 << largest_bits) - 1} - {(1 << 33) - 1}:
        gain = -(1 << 15) if largest == 1 << 32 else max(1, min((1 << 15) - 1, largest >> 17))
        x = min(largest // abs(gain), 1 << 17)
        a = np.array([-x, x // 3, 1, 0, -1] * (n // 5))
        bench.normq(a, np.full(n, gain))
        bench.norm(a, np.full(n, gain), sho=-12)


# ---- the scalar algorithms, over their whole domains ---------------------------------------------------------------------------


class Scalars:
    """Runs passes over scalars alone for many cases at the same time: each scalar is an array [cases] of int64."""

    def __init__(self, cases: int):
        self.cases = cases
        self.values = {i: np.full(cases, MICRO.values.get(i, 0), dtype=np.int64) for i in range(SCALARS)}
        self.c = [np.zeros(cases, dtype=bool)] * 16

    @staticmethod
    def wrap(x, bits: int = 36):
        return (x << (64 - bits)) >> (64 - bits)

    def place(self, index: int, stride: bool, element: int) -> int:
        return (index & ~15) | ((index + element) & 15) if stride else index

    def get(self, operand, element: int):
        assert operand.source == Source.SCALAR
        return self.values[self.place(operand.index, operand.stride, element)]

    def run(self, micro: Micro) -> None:
        assert micro.kind == Kind.PASS and not micro.max and not micro.count and not micro.hash and micro.offset == Offset.ELEMENT
        assert micro.fsel == Shift.CONST and not micro.ngate and not micro.fneg
        for i in range({Length.ONE: 1, Length.TWO: 2}[Length(micro.length)]):
            x, y, z = self.wrap(self.get(micro.x, i), 34), self.wrap(self.get(micro.y, i), 34), self.get(micro.z, i)
            if micro.ymode == YMode.AND:
                y = np.where(self.c[i], y, 0)
            elif micro.ymode == YMode.SELECT:
                y = np.where(self.c[i], y, 1 << 18)
            assert micro.ymode in (YMode.PLAIN, YMode.AND, YMode.SELECT)
            shift = np.clip(micro.fconst - self.wrap(self.get(micro.n, i) >> 17, 8), 0, 63)
            if micro.clz:
                low = x & 0xFFFFFFFF
                bits = np.frexp(low.astype(np.float64))[1].astype(np.int64)  # exact below 2^53
                r = np.where(low == 0, 127, 32 - bits) << 17
            else:
                assert np.abs(x.astype(np.float64) * y.astype(np.float64)).max() < 2**62.9
                p = x * y
                r = (p >> shift) + np.where(shift > 0, (p >> np.maximum(shift - 1, 0)) & 1, 0) * micro.round + z
                assert micro.sat in (Sat.NONE, Sat.S19)
                r = np.clip(r, -(1 << 18), (1 << 18) - 1) if micro.sat else self.wrap(r)
            if micro.setc:
                self.c[i] = r < 0
            if micro.dest:
                assert micro.dest == Dest.SCALAR
                self.values[self.place(micro.dest_index, bool(micro.dest_stride), i)] = r


def _inverse_roots(totals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The routine ``inverse_root`` for numbers below 2^62: mantissas and exponents."""
    machine = Scalars(len(totals))
    pair = MICRO.names["norm_pair"]
    # High sums may be too low by what the terms' low parts carry.
    less = np.minimum(np.arange(len(totals)) % 3, totals >> 30)
    machine.values[pair], machine.values[pair + 1] = Scalars.wrap(totals), (totals >> 30) - less
    at = MICRO.labels["inverse_root"]
    while True:
        machine.run(MICRO.code[at])
        if MICRO.code[at].strobe:
            break
        at += 1
    exponents = Scalars.wrap(machine.values[MICRO.names["inverse_e"]] >> 17, 8) - NORM_BIAS
    return machine.values[MICRO.names["inverse"]], exponents


def test_every_root_and_its_reciprocal_are_exact_at_both_ends_of_its_mantissas():
    roots = np.arange(1 << 17, 1 << 18, dtype=np.int64)
    expected = np.minimum((1 << 35) // roots, (1 << 18) - 1)
    for mantissas in (roots * roots, roots * roots + roots, roots * (roots + 2)):
        inverses, exponents = _inverse_roots(mantissas)
        assert (inverses == expected).all()
        assert (exponents == -35).all()


def test_inverse_roots_of_numbers_of_every_size_are_exact():
    rng = np.random.default_rng(104)
    totals = []
    for bits in range(1, 63):
        totals += [1 << (bits - 1), (1 << bits) - 1, *rng.integers(1 << (bits - 1), (1 << bits) - 1, 300, endpoint=True).tolist()]
        root = isqrt((1 << bits) - 1)
        totals += [root * root, max(root * root - 1, 1)]
    inverses, exponents = _inverse_roots(np.array(totals))
    for total, inverse, exponent in zip(totals, inverses.tolist(), exponents.tolist(), strict=True):
        expected = rsqrt(square_norm(total))
        assert inverse == expected.mantissa, total
        assert exponent == expected.exponent, total


def test_every_divisor_of_normq_gives_its_quotient():
    largest = np.arange(1 << 19, (1 << 20) + 1, dtype=np.int64)
    machine = Scalars(len(largest))
    machine.values[MICRO.names["largest"]] = largest
    table = [i for i, micro in enumerate(MICRO.code) if micro.x.source == Source.TABLE and micro.kind == Kind.PASS]
    assert len(table) == 1
    machine.run(MICRO.code[table[0] - 1])
    index = machine.values[MICRO.names["divide_index"]]
    assert index.min() == 0 and index.max() < 1 << 17
    machine.values[MICRO.names["divide_guess"]] = RECIP(index)
    for micro in MICRO.code[table[0] + 1 :]:
        machine.run(micro)
        if micro.dest_index == MICRO.names["quotient"] and micro.round:
            break
    assert (machine.values[MICRO.names["quotient"]] == ((127 << 31) // largest + 1) >> 1).all()


def test_the_runner_of_many_cases_is_the_arithmetic_of_a_pass():
    rng = np.random.default_rng(105)
    micros = [micro for micro in MICRO.code[MICRO.labels["inverse_root"] : MICRO.entries["rms"]] if micro.length == Length.ONE]
    x, y, n = (Operand(index=100 + i) for i in range(3))
    for mode, f in product((YMode.PLAIN, YMode.SELECT), (0, 7, 40)):
        micros.append(Micro(kind=Kind.PASS, dest=Dest.SCALAR, dest_index=9, x=x, y=y, n=n, round=1, ymode=mode, fconst=f))
    for micro in micros:
        machine = Scalars(200)
        for operand, bits in ((micro.z, 35), (micro.n, 25), (micro.x, 31), (micro.y, 31)):
            if operand.index:
                machine.values[operand.index] = rng.integers(-(1 << bits), 1 << bits, 200)
        machine.c = [rng.integers(0, 2, 200).astype(bool)] * 16
        operands = [machine.get(operand, 0).copy() for operand in (micro.x, micro.y, micro.z, micro.n)]
        conditions = machine.c[0].copy()
        machine.run(micro)
        for i in range(200):
            case = [int(values[i]) for values in operands]
            r, *_ = run_pass(micro, *case[:3], signed(case[3] >> 17, 8), micro.fconst, c=int(conditions[i]))
            if micro.dest:
                assert machine.values[micro.dest_index][i] == r
            if micro.setc:
                assert machine.c[0][i] == (r < 0)


def _clocks(name: str, n: int, values: int, **fields) -> int:
    bench, gains = Bench(), np.full(n, values >> 3) if fields.pop("gain") else None
    bench.run(name, gains, {0: np.full(n, values), 1: np.full(n, -values)}, len=n, va=0, vb=1, c_m=40000 if name == "norm" else 0, **fields)
    return bench.clocks


@pytest.mark.parametrize(
    "name, gain, passes", [("rms", 0, 6), ("rms", 1, 7), ("norm", 0, 7), ("norm", 1, 8), ("normq", 0, 5), ("normq", 1, 6)]
)
def test_clocks_depend_on_the_length_alone(name, gain, passes):
    for n in (20, 50):
        assert _clocks(name, n, 0, gain=gain) == _clocks(name, n, 1, gain=gain) == _clocks(name, n, -77777, gain=gain)
    assert _clocks(name, 50, 3, gain=gain) - _clocks(name, 20, 3, gain=gain) == 30 * passes


def test_no_pass_reads_a_scalar_that_it_has_just_written():
    """Results are there LATENCY clocks later in hardware, but at once in the reference machine."""

    def place(operand, i):
        return (operand.index & ~15) | ((operand.index + i) & 15) if operand.stride else operand.index

    lengths = {Length.ONE: 1, Length.TWO: 2, Length.FOUR: 4, Length.EIGHT: 8, Length.SIXTEEN: 16, Length.LEN: 40}
    checked = 0
    for at, micro in enumerate(MICRO.code):
        if micro.kind == Kind.PASS and micro.dest == Dest.SCALAR and micro.offset == Offset.ELEMENT:
            to = Operand(Source.SCALAR, micro.dest_index, bool(micro.dest_stride))
            read = [operand for operand in (micro.x, micro.y, micro.z, micro.n) if operand.source == Source.SCALAR]
            for i in range(lengths[Length(micro.length)]):
                for later in range(i + 1, min(i + LATENCY, lengths[Length(micro.length)])):
                    checked += 1
                    assert place(to, i) not in [place(operand, later) for operand in read], (at, i, later)
    assert checked > 100


def test_the_program_fits_its_memory():
    assert len(MICRO.words()) < 1024
