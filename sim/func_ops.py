"""Instructions bound to a state: each becomes a function without arguments that executes it.

Fields, register views and memory views are looked up once, when the program is loaded. A bound function returns the
next pc, or None for the following instruction, or :data:`HALT` or :data:`WAIT`.
"""

from collections.abc import Callable

import numpy as np

from trilobit.isa import semantics
from trilobit.isa.fixed import sat
from trilobit.isa.spec import Instruction
from trilobit.sim.func_fault import ADDRESS, SEGMENT, TOKEN, MachineFault
from trilobit.sim.func_state import State

__all__ = ["HALT", "WAIT", "Bound", "bind"]

HALT = -1  # the program has ended
WAIT = -2  # nothing was executed: a prompt token is needed first

Bound = Callable[[], int | None]


def bind(instruction: Instruction, pc: int, state: State) -> Bound:
    """The function that executes an instruction whose static checks have passed."""
    if instruction.name in semantics.ROWWISE:
        return _rowwise(instruction, pc, state)
    return _BINDERS[instruction.name](instruction, pc, state)


def _options(instruction: Instruction, *left_out: str) -> dict[str, int]:
    """The options that a semantic function takes: all but the length and what names registers or the stream."""
    return {k: instruction[k] for k in instruction.opcode.options if k not in ("len", *left_out)}


def _view(state: State, instruction: Instruction) -> np.ndarray:
    """The elements in memory that a vector instruction names."""
    size, kind = (4, "<i4") if instruction.get("wide") else (2, "<i2")
    return state.memory[instruction["addr"] : instruction["addr"] + size * instruction["len"]].view(kind)


def _rowwise(instruction: Instruction, pc: int, state: State) -> Bound:
    function = semantics.ROWWISE[instruction.name]
    n, options = instruction["len"], _options(instruction)
    sources = [state.registers[instruction[name]][:n] for name in instruction.opcode.reads]
    target, saturated = state.registers[instruction["vd"]][:n], state.saturated

    def run() -> None:
        value, count = function(*sources, **options)
        target[:] = value
        if count:
            saturated[pc] += count

    return run


def _argmax(instruction: Instruction, pc: int, state: State) -> Bound:
    source = state.registers[instruction["va"]][: instruction["len"]]
    base, sha, noise = instruction["base"], instruction["sha"], instruction["noise"]
    first, last = instruction["first"], instruction["last"]

    def run() -> None:
        scores = semantics.argmax_scores(
            source, sha=sha, base=base, noise=noise, temperature=state.temperature, seed=state.settings.seed,
            position=state.position,
        )  # fmt: skip
        index = int(scores.argmax())
        score = int(scores[index])
        if first or score > state.best[0]:
            state.best = (score, base + index)
        if last:
            state.token = state.best[1] & 0xFFFFFF
            state.position += 1
            state.committed.append(state.token)

    return run


# ---- load/store ------------------------------------------------------------------------------------------------------


def _ldv(instruction: Instruction, pc: int, state: State) -> Bound:
    target, source = state.registers[instruction["vd"]][: instruction["len"]], _view(state, instruction)

    def run() -> None:
        target[:] = source

    return run


def _sv(instruction: Instruction, pc: int, state: State) -> Bound:
    source, target = state.registers[instruction["va"]][: instruction["len"]], _view(state, instruction)
    bits, saturated = (32 if instruction["wide"] else 16), state.saturated

    def run() -> None:
        value = sat(source, bits)
        target[:] = value
        if count := np.count_nonzero(value != source):
            saturated[pc] += int(count)

    return run


def _emb(instruction: Instruction, pc: int, state: State) -> Bound:
    n, addr, pitch, rows = (instruction[key] for key in ("len", "addr", "pitch", "rows"))
    target, memory = state.registers[instruction["vd"]][:n], state.memory

    def run() -> None:
        if state.token >= rows:
            raise MachineFault(TOKEN, f"token {state.token} is not below rows={rows}")
        start = addr + state.token * pitch
        if start + 2 * n > len(memory):
            raise MachineFault(ADDRESS, f"row {state.token} at {start:#x} leaves the window of {len(memory)} bytes")
        target[:] = memory[start : start + 2 * n].view("<i2")

    return run


def _clr(instruction: Instruction, pc: int, state: State) -> Bound:
    size = instruction["beats"] * state.config.beat_bytes
    target = state.memory[instruction["addr"] : instruction["addr"] + size]

    def run() -> None:
        target[:] = 0

    return run


# ---- norm unit -------------------------------------------------------------------------------------------------------


def _rms(instruction: Instruction, pc: int, state: State) -> Bound:
    n, options, gain, sc = instruction["len"], _options(instruction, "gain"), instruction["gain"], instruction["sc"]
    a, b = (state.registers[instruction[name]][:n] for name in ("va", "vb"))

    def run() -> None:
        gains = state.stream.gains(n) if gain else None
        state.scalars[sc], count = semantics.rms(a, b, gains, **options)
        if count:
            state.saturated[pc] += count

    return run


def _norm(instruction: Instruction, pc: int, state: State) -> Bound:
    n, options, gain = instruction["len"], _options(instruction, "gain"), instruction["gain"]
    source, target = state.registers[instruction["va"]][:n], state.registers[instruction["vd"]][:n]

    def run() -> None:
        value, count = semantics.norm(source, state.stream.gains(n) if gain else None, **options)
        target[:] = value
        if count:
            state.saturated[pc] += count

    return run


def _normq(instruction: Instruction, pc: int, state: State) -> Bound:
    n, sha, gain, scaled = (instruction[key] for key in ("len", "sha", "gain", "scaled"))
    source, buffer, sc = state.registers[instruction["va"]][:n], state.acts[instruction["act"]], instruction["sc"]

    def run() -> None:
        gains = state.stream.gains(n) if gain else None
        values, buffer.scale, count = semantics.normq(source, gains, state.scalars[sc] if scaled else None, sha=sha)
        buffer.values = values.astype(np.float32)
        if count:
            state.saturated[pc] += count

    return run


# ---- ternary matmul --------------------------------------------------------------------------------------------------


def _tmatmul(instruction: Instruction, pc: int, state: State) -> Bound:
    n, addr, bp, wide = (instruction[key] for key in ("len", "addr", "bp", "wide"))
    target, buffer = state.registers[instruction["vd"]][:n], state.acts[instruction["act"]]

    def run() -> None:
        entry = state.stream.matrix()
        segment = entry.segment
        if (segment.addr, segment.rows, segment.columns) != (addr, n, len(buffer.values)):
            raise MachineFault(
                SEGMENT,
                f"expected the matrix at {addr:#x} with {n} rows and {len(buffer.values)} columns, the stream has the one "
                f"at {segment.addr:#x} with {segment.rows} rows and {segment.columns} columns",
            )
        sums = state.stream.product(entry, buffer.values)
        scale = semantics.matmul_scale(buffer.scale, segment.scale)
        value, count = semantics.scale_products(sums, scale, bp=bp, wide=wide)
        target[:] = value
        state.weights += n * segment.columns
        if count:
            state.saturated[pc] += count

    return run


# ---- control ---------------------------------------------------------------------------------------------------------


def _nop(instruction: Instruction, pc: int, state: State) -> Bound:
    return lambda: None


def _stream(instruction: Instruction, pc: int, state: State) -> Bound:
    addr, beats = instruction["addr"], instruction["beats"]
    return lambda: state.stream.push(addr, beats)


def _poll(instruction: Instruction, pc: int, state: State) -> Bound:
    def run() -> None:
        state.prompt_flag = bool(state.prompts)
        if state.prompts:
            state.token = state.prompts.popleft()

    return run


def _bprompt(instruction: Instruction, pc: int, state: State) -> Bound:
    target = instruction["target"]
    return lambda: target if state.prompt_flag else None


def _jump(instruction: Instruction, pc: int, state: State) -> Bound:
    target = instruction["target"]
    return lambda: target


def _seti(instruction: Instruction, pc: int, state: State) -> Bound:
    def run() -> None:
        state.counters[instruction["cnt"]] = instruction["imm"]

    return run


def _loop(instruction: Instruction, pc: int, state: State) -> Bound:
    counter, target = instruction["cnt"], instruction["target"]

    def run() -> int | None:
        left = state.counters[counter] = max(state.counters[counter] - 1, 0)
        return target if left else None

    return run


def _wait(instruction: Instruction, pc: int, state: State) -> Bound:
    def run() -> int | None:
        if not state.prompts:
            return WAIT
        state.token = state.prompts.popleft()
        return None

    return run


def _emit(instruction: Instruction, pc: int, state: State) -> Bound:
    def run() -> None:
        state.emitted.append(state.token)
        if state.on_token is not None:
            state.on_token(state.token)

    return run


def _bdone(instruction: Instruction, pc: int, state: State) -> Bound:
    target, eos, limit = instruction["target"], state.settings.eos, state.settings.limit
    return lambda: target if state.token == eos or len(state.emitted) == limit else None


def _halt(instruction: Instruction, pc: int, state: State) -> Bound:
    def run() -> int:
        state.stream.clear()
        return HALT

    return run


_BINDERS: dict[str, Callable[[Instruction, int, State], Bound]] = {
    "argmax": _argmax, "ldv": _ldv, "sv": _sv, "emb": _emb, "clr": _clr, "rms": _rms, "norm": _norm, "normq": _normq,
    "tmatmul": _tmatmul, "nop": _nop, "stream": _stream, "poll": _poll, "bprompt": _bprompt, "jump": _jump,
    "seti": _seti, "loop": _loop, "wait": _wait, "emit": _emit, "bdone": _bdone, "halt": _halt,
}  # fmt: skip
