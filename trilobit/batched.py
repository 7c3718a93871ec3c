"""A compiled program on many streams at once: the functional simulator's integers, ten times as fast where many texts are scored.

Every stream executes the same instructions, teacher-forced, so each becomes one over arrays [B, len]. Row-wise instructions call
:mod:`trilobit.isa.semantics` itself, flattened over the streams; the norm unit's and the product's scalars are arrays of
mantissas and exponents here, equal to the semantics by test (tests/trilobit/test_batched.py).
"""

import numpy as np

import trilobit.isa.semantics as semantics
from trilobit.assembler.bundle import Logits, logit_places, teacher_forced
from trilobit.errors import BundleError
from trilobit.isa.core import CoreConfig
from trilobit.isa.fixed import bit_length, rs, sat
from trilobit.isa.program import Program
from trilobit.isa.segments import segment_trits
from trilobit.isa.spec import ISA, VECTOR_REGISTERS, Instruction
from trilobit.sim.func_stream import SegmentStream

__all__ = ["BatchedSimulator"]

# ---- scalars of many streams: mantissas and exponents [B] --------------------------------------------------------------


def _bits(x: np.ndarray) -> np.ndarray:
    """Significant bits of whole numbers of 0 to 2^62."""
    high = x >> 31
    return np.where(high > 0, 31 + bit_length(high), bit_length(x & 0x7FFFFFFF))


def _shifted(value: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.where(right >= 0, value >> np.maximum(right, 0), value << np.maximum(-right, 0))


def _normalise(value: np.ndarray, exponent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    shift = _bits(value) - 18
    return _shifted(value, shift), np.where(value == 0, 0, exponent + shift)


def _square_norm(total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    shift = _bits(total) - 36
    shift += shift & 1
    return _shifted(total, shift), np.where(total == 0, 0, shift)


def _rsqrt(square: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    mantissa, exponent = square
    root = np.maximum(np.sqrt(mantissa.astype(np.float64)).astype(np.int64), 1)  # exact: below 2^52
    zero = mantissa == 0
    return np.where(zero, 0, np.minimum((1 << 35) // root, (1 << 18) - 1)), np.where(zero, 0, -35 - exponent // 2)


def _options(i: Instruction) -> dict[str, int]:
    """What the semantic function of a row-wise instruction takes."""
    return {name: i[name] for name in i.opcode.options if name != "len"}


class BatchedSimulator:
    """A compiled program, teacher-forced, on B streams.

    Args:
        core, program, memory: as :class:`~trilobit.sim.functional.FunctionalSimulator`; the program is the compiler's.
        logits: where the program stores them.
        streams: B.

    Attributes:
        saturated: elements that saturated so far, in all streams.

    Raises:
        BundleError: the logits are not stored, or the program is one for several sequences a pass.
        ProgramError: not the token loop that the compiler writes.
    """

    narrow_bits = 16
    operand_bits = 18  # of the norm unit

    def __init__(self, core: CoreConfig, program: Program, memory: np.ndarray, logits: Logits, streams: int):
        if logits.addr is None:
            raise BundleError(f"{program.name}: expected a program that stores its logits; compile it with --store-logits")
        self.streams, self.image, self.beat_bytes = streams, memory, core.beat_bytes
        if core.batch != 1:
            raise BundleError(f"{program.name}: expected a program for a core of batch 1, got batch {core.batch}")
        self._logits = logit_places(logits, core)[0] + (logits.addr - program.write_start) // 4
        self._scale = 2.0**-logits.point
        self.write_start = program.write_start
        self.written = np.zeros((streams, program.window_size - program.write_start), np.uint8)
        self.stream = SegmentStream(core, self.image, program.write_start, 1 << 30)
        self.registers = np.zeros((VECTOR_REGISTERS, streams, core.max_length), np.int64)
        self.acts = [(np.zeros((streams, 0), np.float32), np.zeros(streams, np.int64), np.zeros(streams, np.int64))] * 2
        self.scalars = [(np.zeros(streams, np.int64), np.zeros(streams, np.int64))] * 4
        self.tokens = np.zeros(streams, np.int64)
        self.saturated = 0
        self._code = [ISA.decode(word) for word in teacher_forced(program).code]
        self._trits: dict[int, np.ndarray] = {}
        self._pc = 0
        self._run()  # to the first token

    def step(self, tokens: np.ndarray) -> np.ndarray:
        """Feed one token to each stream, [B]; the logits [B, V] of float64."""
        self.tokens = np.asarray(tokens, dtype=np.int64)
        self._pc += 1
        self._run()
        return self.written.view("<i4")[:, self._logits] * self._scale

    def _run(self) -> None:
        while (i := self._code[self._pc]).name != "wait":
            self._pc = i["target"] if i.name == "jump" else self._pc + 1
            if i.name in semantics.ROWWISE:
                self._rowwise(i)
            else:
                getattr(self, f"_{i.name}", self._skip)(i)

    def _skip(self, i: Instruction) -> None:
        assert i.name in ("nop", "jump", "emit", "argmax", "clr"), (
            i.name
        )  # what is written begins cleared, and argmax's choice is not fed back

    def _stream(self, i: Instruction) -> None:
        self.stream.push(i["addr"], i["beats"])

    def _rowwise(self, i: Instruction) -> None:
        n = i["len"]
        sources = [self.registers[i[name], :, :n].ravel() for name in i.opcode.reads]
        value, count = self._vector(i, sources)
        self.registers[i["vd"], :, :n] = value.reshape(-1, n)
        self.saturated += count

    def _vector(self, i: Instruction, sources: list[np.ndarray]) -> semantics.VectorResult:
        """A row-wise result of all streams, flattened."""
        return semantics.ROWWISE[i.name](*sources, **_options(i))

    # ---- memory ----------------------------------------------------------------------------------------------------

    def _memory(self, i: Instruction) -> np.ndarray:
        size, kind = (4, "<i4") if i["wide"] else (2, "<i2")
        if i["addr"] >= self.write_start:
            start = i["addr"] - self.write_start
            return self.written[:, start : start + size * i["len"]].view(kind)
        return self.image[i["addr"] : i["addr"] + size * i["len"]].view(kind)

    def _ldv(self, i: Instruction) -> None:
        self.registers[i["vd"], :, : i["len"]] = self._memory(i)

    def _sv(self, i: Instruction) -> None:
        value = self.registers[i["va"], :, : i["len"]]
        limited = sat(value, 32 if i["wide"] else 16)
        self.saturated += int(np.count_nonzero(limited != value))
        self._memory(i)[:] = limited

    def _emb(self, i: Instruction) -> None:
        starts = i["addr"] + self.tokens * i["pitch"]
        for row, start in zip(self.registers[i["vd"]], starts.tolist(), strict=True):
            row[: i["len"]] = self.image[start : start + 2 * i["len"]].view("<i2")

    # ---- norm unit and product -------------------------------------------------------------------------------------

    def _rms(self, i: Instruction) -> None:
        n = i["len"]
        a, b = (self.registers[i[name], :, :n] for name in ("va", "vb"))
        gains = self.stream.gains(n) if i["gain"] else None
        s = semantics._Saturation((self.streams, n))
        x, w = s.sat(semantics.rs(a, i["sha"]), self.operand_bits), s.sat(semantics.rs(b, i["shb"]), self.operand_bits)
        if gains is not None:
            w = s.sat(semantics.rs(w * gains, i["sho"]), self.operand_bits)
        total = (w * w).sum(axis=1) + ((x * x).sum(axis=1) * i["eps_m"] >> i["eps_e"]) + (i["k_m"] << i["k_e"])
        self.scalars[i["sc"]] = _square_norm(total)
        self.saturated += int(s.mask.sum())

    def _operand(self, i: Instruction, s: semantics._Saturation) -> tuple[np.ndarray, np.ndarray]:
        n = i["len"]
        x = s.sat(semantics.rs(self.registers[i["va"], :, :n], i["sha"]), self.operand_bits)
        return x, x * self.stream.gains(n) if i["gain"] else x

    @staticmethod
    def _magnitudes(z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        largest = np.abs(z).max(axis=1)
        shift = np.where(largest == 0, 0, bit_length(largest) - 20)
        return rs(np.abs(z), shift[:, None]), rs(largest, shift), shift

    def _norm(self, i: Instruction) -> None:
        n, s = i["len"], semantics._Saturation((self.streams, i["len"]))
        x, z = self._operand(i, s)
        inverse, exponent = _rsqrt(_square_norm((x * x).sum(axis=1) + (i["k_m"] << i["k_e"])))
        factor, exponent = _normalise(inverse * i["c_m"], exponent)
        reduced, _, shift = self._magnitudes(z)
        result = s.finish(reduced * factor[:, None], (i["sho"] - exponent - shift)[:, None], 1)
        self.registers[i["vd"], :, :n] = s.sat(np.sign(z) * result.value, 32 if i["wide"] else self.narrow_bits)
        self.saturated += int(s.mask.sum())

    def _normq(self, i: Instruction) -> None:
        s = semantics._Saturation((self.streams, i["len"]))
        _, z = self._operand(i, s)
        reduced, largest, shift = self._magnitudes(z)
        reciprocal = ((127 << 31) // np.maximum(largest, 1) + 1) >> 1
        rounded = self._quantised(reduced * reciprocal[:, None])
        one = (np.ones_like(largest), np.zeros_like(largest))
        inverse, exponent = _rsqrt(self.scalars[i["sc"]]) if i["scaled"] else one
        mantissa, exponent = _normalise(largest * inverse, shift + exponent)
        self.acts[i["act"]] = ((np.sign(z) * np.minimum(rounded, 127)).astype(np.float32), mantissa, exponent)
        self.saturated += int(s.mask.sum())

    def _quantised(self, magnitudes: np.ndarray) -> np.ndarray:
        """Magnitudes [B, n] with 30 fraction bits, rounded half up: with their signs, half away from zero."""
        return rs(magnitudes, 30)

    def _tmatmul(self, i: Instruction) -> None:
        entry = self.stream.matrix()
        segment = entry.segment
        trits = self._trits.get(segment.addr)
        if trits is None:
            trits = segment_trits(self.image, segment, self.beat_bytes).astype(np.float32).T
            self._trits[segment.addr] = trits
        values, mantissa, exponent = self.acts[i["act"]]
        sums = (values @ trits).astype(np.int64)
        mantissa, exponent = _normalise(mantissa * segment.scale.mantissa, exponent + segment.scale.exponent)
        s = semantics._Saturation(sums.shape)
        result = s.finish(sums * mantissa[:, None], -(i["bp"] + exponent)[:, None], i["wide"])
        self.registers[i["vd"], :, : i["len"]] = result.value
        self.saturated += result.saturated
