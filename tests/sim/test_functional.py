"""Every instruction that moves or computes, in a machine: registers, memory, stream, counts."""

import numpy as np
import pytest
from functional_support import TINY, WRITE_START, gains, machine, matrix

from trilobit.errors import ConfigError, ProgramError
from trilobit.isa import semantics
from trilobit.isa.fixed import Scalar
from trilobit.isa.program import Program
from trilobit.isa.spec import ISA
from trilobit.sim.backend import HostSettings, Retire
from trilobit.sim.functional import FunctionalSimulator

ROWWISE_OPTIONS = {
    "add": {"shb": 2, "sho": 1}, "sub": {"shb": -3}, "mul": {"shb": 1, "sho": 11}, "div": {"sho": 15},
    "exp": {"shb": -3, "sho": 24}, "sig": {"shb": -4, "sho": 26, "neg": 1}, "silu": {"shb": -4, "sho": 22},
    "onem": {"sha": 14}, "lerp": {"shb": -8, "sho": 16}, "max": {"shb": -1}, "mov": {"shb": 3},
    "addi": {"imm": -77, "sha": 2}, "muli": {"imm": 1234, "sho": 9},
}  # fmt: skip
FIELDS = {"va": 3, "vb": 4, "vc": 5}


def random_registers(sim, rng, bits=16):
    values = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), (8, TINY.max_length))
    for index in range(8):
        sim.set_register(index, values[index])
    return values


@pytest.mark.parametrize("name", sorted(semantics.ROWWISE))
@pytest.mark.parametrize("length", [1, 7, TINY.max_length])
def test_rowwise_instruction_writes_what_its_function_says_and_nothing_beyond_its_length(name, length, rng):
    opcode, options = ISA.by_name[name], ROWWISE_OPTIONS[name]
    sim = machine((name, {"vd": 2, "len": length, **options, **{field: FIELDS[field] for field in opcode.reads}}))
    before = random_registers(sim, rng)
    assert sim.step() == Retire(0, "rowwise")
    sources = [before[FIELDS[field]][:length] for field in opcode.reads]
    expected = semantics.ROWWISE[name](*sources, **options)
    after = sim.register(2)
    assert (after[:length] == expected.value).all()
    assert (after[length:] == before[2][length:]).all()
    assert sim.result().saturated == ({0: expected.saturated} if expected.saturated else {})
    for other in set(range(8)) - {2}:
        assert (sim.register(other) == before[other]).all()


def test_every_instruction_of_the_set_can_be_bound():
    """A program that holds each instruction once is loaded; so none is missing in the dispatch."""
    words = []
    for name, opcode in ISA.by_name.items():
        required = {key: max(o.low, 1) for key, o in opcode.options.items() if o.default is None}
        if "pitch" in required:
            required["pitch"] = 16
        words.append(ISA.encode(name, **{f.name: 0 for f in opcode.operands} | required))
    sim = FunctionalSimulator(TINY, Program("all", words, 64, 0))
    assert len(sim.program.code) == len(ISA.by_name)


def test_destination_may_be_a_source():
    sim = machine(("add", {"vd": 1, "va": 1, "vb": 1, "len": 3}))
    sim.set_register(1, np.array([1, -5, 20000]))
    result = sim.run()
    assert sim.register(1)[:3].tolist() == [2, -10, 32767]
    assert result.saturated == {0: 1}


@pytest.mark.parametrize("wide", [0, 1])
def test_store_and_load_give_back_the_vector_saturated_unless_wide(wide):
    where = {"addr": WRITE_START, "len": 5, "wide": wide}
    sim = machine(("sv", {"va": 0, **where}), ("ldv", {"vd": 1, **where}), "halt")
    values = np.array([1, -1, 40000, -(1 << 31), (1 << 31) - 1])
    sim.set_register(0, values)
    result = sim.run()
    limit = values if wide else np.clip(values, -32768, 32767)
    assert sim.register(1)[:5].tolist() == limit.tolist()
    assert sim.memory[WRITE_START : WRITE_START + (20 if wide else 10)].tobytes() == limit.astype("<i4" if wide else "<i2").tobytes()
    assert result.saturated == ({} if wide else {0: 3})
    assert result.halted and result.counters["bytes_stored"] == result.counters["bytes_loaded"] == (20 if wide else 10)


def test_embedding_row_follows_the_token():
    table = np.arange(40, dtype="<i2").reshape(5, 8)
    sim = machine("wait", ("emb", {"vd": 6, "addr": 0, "len": 8, "pitch": 16, "rows": 5}), "halt", data=table.tobytes())
    sim.push([3])
    assert sim.run().halted
    assert sim.register(6)[:8].tolist() == table[3].tolist()


def test_clear_zeroes_whole_beats_only():
    sim = machine(("clr", {"addr": WRITE_START + 16, "beats": 3}), "halt")
    sim.memory[WRITE_START:] = 255
    sim.run()
    touched = np.flatnonzero(sim.memory[WRITE_START:] == 0)
    assert touched.tolist() == list(range(16, 16 + 3 * TINY.beat_bytes))


def test_norm_unit_and_product_follow_their_functions(rng):
    g, trits = rng.integers(-30000, 30000, (3, 20)), rng.integers(-1, 2, (13, 20))
    scale = Scalar(200000, -24)
    stream = gains(g[0]) + gains(g[1]) + gains(g[2]) + matrix(trits, scale)
    rms = {"sha": 1, "shb": 2, "sho": 14, "eps_m": 300, "eps_e": 7, "k_m": 99, "k_e": 3}
    norm = {"sha": 1, "sho": 3, "c_m": 40000, "k_m": 5, "k_e": 2}
    sim = machine(
        ("stream", {"addr": 0, "beats": len(stream) // TINY.beat_bytes}),
        ("rms", {"sc": 2, "va": 0, "vb": 1, "len": 20, "gain": 1, **rms}),
        ("norm", {"vd": 4, "va": 0, "len": 20, "gain": 1, **norm}),
        ("normq", {"act": 1, "va": 1, "sc": 2, "len": 20, "gain": 1, "scaled": 1, "sha": 1}),
        ("tmatmul", {"vd": 5, "act": 1, "addr": len(stream) - len(matrix(trits, scale)), "len": 13, "bp": 12, "wide": 1}),
        "halt",
        data=stream,
    )
    registers = random_registers(sim, rng)
    a, b = registers[0][:20], registers[1][:20]
    result = sim.run()
    square, rms_saturated = semantics.rms(a, b, g[0], **rms)
    normed = semantics.norm(a, g[1], **norm)
    act = semantics.normq(b, g[2], square, sha=1)
    product = semantics.tmatmul(trits, act, scale, bp=12, wide=1)
    assert result.halted and result.fault == 0, (result, sim.fault_detail)
    assert (sim.register(4)[:20] == normed.value).all()
    assert (sim.register(5)[:13] == product.value).all()
    assert product.value.any()
    counts = {1: rms_saturated, 2: normed.saturated, 3: act.saturated, 4: product.saturated}
    assert result.saturated == {pc: n for pc, n in counts.items() if n}
    assert result.weights == 13 * 20
    assert result.counters["bytes_streamed"] == len(stream)
    assert result.counters["retired_rmsnorm"] == 3


def test_norm_unit_without_gains_leaves_the_stream_alone(rng):
    sim = machine(
        ("rms", {"sc": 0, "va": 0, "vb": 0, "len": 9}),
        ("normq", {"act": 0, "va": 0, "sc": 0, "len": 9}),
        ("norm", {"vd": 1, "va": 0, "len": 9, "sho": 0}),
        "halt",
    )
    a = random_registers(sim, rng)[0][:9]
    assert sim.run().halted
    assert (sim.register(1)[:9] == semantics.norm(a, sho=0).value).all()


@pytest.mark.parametrize(("cache_bytes", "native"), [(0, False), (700, False), (1 << 20, False), (0, True)])
def test_product_is_the_same_whether_weights_are_kept_decoded_at_each_use_or_stay_packed(cache_bytes, native, rng):
    """Three rounds over two matrices; 700 bytes hold the smaller one only."""
    first, second = rng.integers(-1, 2, (63, 64)), rng.integers(-1, 2, (6, 20))
    scale = Scalar(1 << 17, -20)
    stream = matrix(first, scale) + matrix(second, scale)
    sim = machine(
        ("seti", {"cnt": 0, "imm": 3}),
        ("stream", {"addr": 0, "beats": len(stream) // TINY.beat_bytes}),
        ("normq", {"act": 0, "va": 0, "sc": 0, "len": 64}),
        ("tmatmul", {"vd": 1, "act": 0, "addr": 0, "len": 63, "bp": 8}),
        ("normq", {"act": 1, "va": 1, "sc": 0, "len": 20}),
        ("tmatmul", {"vd": 2, "act": 1, "addr": len(matrix(first, scale)), "len": 6, "bp": 8}),
        ("mov", {"vd": 0, "vb": 1, "len": 6}),
        ("loop", {"cnt": 0, "target": 1}),
        "halt",
        data=stream, cache_bytes=cache_bytes, native=native,
    )  # fmt: skip
    x = random_registers(sim, rng)[0]
    assert sim.run().halted
    for _ in range(3):
        one = semantics.tmatmul(first, semantics.normq(x), scale, bp=8).value
        two = semantics.tmatmul(second, semantics.normq(one[:20]), scale, bp=8).value
        x[:6] = one[:6]
    assert (sim.register(1)[:63] == one).all()
    assert (sim.register(2)[:6] == two).all()


def test_weights_in_the_writable_part_are_read_anew(rng):
    """A program may write what it streams later, as long as nothing below write_start changes."""
    scale = Scalar(1 << 17, -17)
    old, new = matrix(np.eye(8, dtype=int), scale), matrix(-np.eye(8, dtype=int), scale)
    sim = machine(
        ("stream", {"addr": WRITE_START, "beats": len(old) // TINY.beat_bytes}),
        ("normq", {"act": 0, "va": 0, "sc": 0, "len": 8}),
        ("tmatmul", {"vd": 1, "act": 0, "addr": WRITE_START, "len": 8, "bp": 0}),
        "poll",
        ("jump", {"target": 0}),
    )
    sim.set_register(0, np.arange(8))
    for content, sign in ((old, 1), (new, -1)):
        sim.memory[WRITE_START : WRITE_START + len(content)] = np.frombuffer(content, np.uint8)
        result = sim.run(max_instructions=5)
        assert not (result.halted or result.waiting or result.fault)
        assert np.sign(sim.register(1)[:8]).tolist() == [0] + [sign] * 7


def test_segments_are_steered_to_two_queues_each_in_the_stream_s_order(rng):
    """Gains that lie behind a matrix are taken before it, and regions are consumed in the order of their stream."""
    scale = Scalar(1 << 17, -20)
    g, trits = rng.integers(1, 30000, (2, 8)), rng.integers(-1, 2, (2, 5, 8))
    front = gains(g[0]) + matrix(trits[0], scale)
    back = gains(g[1]) + matrix(trits[1], scale)
    step = TINY.beat_bytes
    sim = machine(
        ("stream", {"addr": 0, "beats": len(front) // step}),
        ("stream", {"addr": len(front), "beats": len(back) // step}),
        ("normq", {"act": 0, "va": 0, "sc": 0, "len": 8, "gain": 1}),
        ("normq", {"act": 1, "va": 0, "sc": 0, "len": 8, "gain": 1}),
        ("tmatmul", {"vd": 1, "act": 0, "addr": len(gains(g[0])), "len": 5, "bp": 0}),
        ("tmatmul", {"vd": 2, "act": 1, "addr": len(front) + len(gains(g[1])), "len": 5, "bp": 0}),
        "halt", data=front + back,
    )  # fmt: skip
    x = random_registers(sim, rng)[0][:8]
    assert sim.run().halted
    for k, register in enumerate((1, 2)):
        expected = semantics.tmatmul(trits[k], semantics.normq(x, g[k]), scale, bp=0)
        assert (sim.register(register)[:5] == expected.value).all()


def test_loop_counts_down_and_leaves_at_zero():
    body = ("addi", {"vd": 0, "vb": 0, "imm": 1, "len": 1})
    sim = machine(("seti", {"cnt": 3, "imm": 5}), body, ("loop", {"cnt": 3, "target": 1}), "halt")
    assert sim.run().retired == 1 + 2 * 5 + 1
    assert sim.register(0)[0] == 5
    untouched = machine(body, ("loop", {"cnt": 2, "target": 0}), "halt")
    untouched.run()
    assert untouched.register(0)[0] == 1, "a counter of zero stays zero and does not branch"


def test_retires_are_recorded_in_program_order():
    sim = machine("nop", ("jump", {"target": 3}), "nop", ("mov", {"vd": 0, "vb": 0, "len": 1}), "halt")
    sim.record_retires = True
    sim.run()
    assert sim.retires == [Retire(0, "control"), Retire(1, "control"), Retire(3, "rowwise"), Retire(4, "control")]
    assert sim.step() is None, "nothing follows a halt"


@pytest.mark.parametrize(
    "values, message",
    [
        (np.zeros(65, int), "at most max_length=64 elements, got 65"),
        (np.array([1 << 31]), "32-bit values, got from 2147483648"),
        (np.array([0.5]), "vector of integers, got float64"),
        (np.zeros((2, 2), int), r"shape \(2, 2\)"),
    ],
)
def test_register_values_are_checked(values, message):
    with pytest.raises(ConfigError, match=message):
        machine("halt").set_register(1, values)
    with pytest.raises(ConfigError, match="from 0 to 7, got 8"):
        machine("halt").set_register(8, np.zeros(1, int))


def test_what_the_hardware_does_not_define_is_refused_when_the_program_is_loaded():
    good = ISA.encode("mov", vd=0, vb=0, len=1)
    with pytest.raises(ProgramError, match=r"word 1: mov: bits 0x[0-9a-f]+ must be zero"):
        machine("nop", good | 1 << 100)
    with pytest.raises(ProgramError, match="word 0: norm: expected 'sha' from -16 to 31, got 100"):
        machine(ISA.encode("norm", vd=0, va=0, len=1, sho=0) | 100 << 48)
    with pytest.raises(ProgramError, match="word 0: ldv: expected addr as a multiple of beat_bytes=4"):
        machine(("ldv", {"vd": 0, "addr": 2, "len": 1}))
    with pytest.raises(ProgramError, match="at most 256 instructions for core 'tiny', got 257"):
        machine(*["nop"] * 257)


def test_memory_must_fit_the_program():
    program = Program("p", [ISA.encode("halt")], 64, 0)
    with pytest.raises(ConfigError, match=r"window_size=64 bytes, got uint8 of shape \(65,\)"):
        FunctionalSimulator(TINY, program, np.zeros(65, np.uint8))
    frozen = np.zeros(64, np.uint8)
    frozen.flags.writeable = False
    with pytest.raises(ConfigError, match="read-only"):
        FunctionalSimulator(TINY, program, frozen)


@pytest.mark.parametrize("bad", [{"seed": 1 << 32}, {"temperature": 0.001}, {"temperature": -1.0},
                                 {"temperature": float("nan")}, {"eos": -1}, {"limit": 1 << 32}])  # fmt: skip
def test_host_settings_are_checked(bad):
    with pytest.raises(ConfigError, match=f"{next(iter(bad))}"):
        HostSettings(**bad)


@pytest.mark.parametrize("temperature", [0.01, 0.3, 0.8, 1.0, 1 / np.log(2), 7.5, 1e6])
def test_temperature_is_a_normalised_mantissa_of_16_bits(temperature):
    mantissa, exponent = HostSettings(temperature=temperature).temperature_scalar()
    assert 1 << 15 <= mantissa < 1 << 16
    assert mantissa * 2.0**exponent == pytest.approx(1 / (temperature * np.log(2)), rel=2.0**-16)
