"""Instructions bound to a state: each becomes a function without arguments that executes it.

Fields, register views and memory views are looked up once, when the program is loaded. A bound function returns the
next pc, or None for the following instruction, or :data:`HALT` or :data:`WAIT`. What an instruction does it does for every slot; the
stream's segments are consumed once.
"""

from collections.abc import Callable

import numpy as np

from trilobit.isa import semantics
from trilobit.isa.fixed import sat
from trilobit.isa.spec import Instruction
from trilobit.sim.func_fault import ADDRESS, SEGMENT, TOKEN, MachineFault, footprint
from trilobit.sim.func_state import Slot, State

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


def _rowwise(instruction: Instruction, pc: int, state: State) -> Bound:
    function = semantics.ROWWISE[instruction.name]
    n, options = instruction["len"], _options(instruction)
    sources = [[slot.registers[instruction[name]][:n] for name in instruction.opcode.reads] for slot in state.slots]
    targets, saturated = state.registers[instruction["vd"], :, :n], state.saturated

    def run() -> None:
        for target, operands in zip(targets, sources, strict=True):
            value, count = function(*operands, **options)
            target[:] = value
            if count:
                saturated[pc] += count

    return run


def _argmax(instruction: Instruction, pc: int, state: State) -> Bound:
    sources = state.registers[instruction["va"], :, : instruction["len"]]
    base, sha, noise = instruction["base"], instruction["sha"], instruction["noise"]
    first, last = instruction["first"], instruction["last"]

    def run() -> None:
        for slot, source in zip(state.slots, sources, strict=True):
            scores = semantics.argmax_scores(
                source, sha=sha, base=base, noise=noise, temperature=state.temperature, seed=slot.seed, position=slot.position
            )
            index = int(scores.argmax())
            score = int(scores[index])
            if first or score > slot.best[0]:
                slot.best = (score, base + index)
            if last:
                token = slot.best[1] & 0xFFFFFF
                state.committed.append(token)
                if not state.suppressed(slot):
                    slot.token = token
                    slot.position += 1

    return run


# ---- load/store ------------------------------------------------------------------------------------------------------


def _vector_views(state: State, instruction: Instruction, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The elements of a register and those in memory that ldv or sv moves, in the same shape.

    With one slot [length]; with several [words, slots, lanes], which is their order in memory.
    """
    n, config = instruction["len"], state.config
    kind = "<i4" if instruction["wide"] else "<i2"
    addr, size = instruction["addr"], footprint(instruction, config) or 0
    memory = state.memory[addr : addr + size].view(kind)
    registers = state.registers[instruction[name]]
    if config.batch == 1:
        return registers[0, :n], memory
    words = -(-n // config.lanes)
    return (
        registers.reshape(config.batch, -1, config.lanes)[:, :words].transpose(1, 0, 2),
        memory.reshape(words, config.batch, config.lanes),
    )


def _inside(instruction: Instruction, state: State) -> np.ndarray:
    """Which elements of several slots' words belong to the vector: [words, 1, lanes] of bool."""
    n, lanes = instruction["len"], state.config.lanes
    return (np.arange(-(-n // lanes) * lanes) < n).reshape(-1, 1, lanes)


def _ldv(instruction: Instruction, pc: int, state: State) -> Bound:
    target, source = _vector_views(state, instruction, "vd")
    inside = _inside(instruction, state)
    if state.config.batch == 1 or inside.all():

        def run() -> None:
            target[:] = source

    else:

        def run() -> None:
            np.copyto(target, source, where=inside)

    return run


def _sv(instruction: Instruction, pc: int, state: State) -> Bound:
    source, target = _vector_views(state, instruction, "va")
    bits, saturated = (32 if instruction["wide"] else 16), state.saturated
    inside = True if state.config.batch == 1 else _inside(instruction, state)

    def run() -> None:
        value = sat(source, bits)
        target[:] = value
        if count := np.count_nonzero((value != source) & inside):
            saturated[pc] += int(count)

    return run


def _emb(instruction: Instruction, pc: int, state: State) -> Bound:
    n, addr, pitch, rows = (instruction[key] for key in ("len", "addr", "pitch", "rows"))
    targets, memory = state.registers[instruction["vd"], :, :n], state.memory

    def run() -> None:
        for slot in state.slots:
            if slot.token >= rows:
                raise MachineFault(TOKEN, f"token {slot.token} is not below rows={rows}")
        starts = [addr + slot.token * pitch for slot in state.slots]
        for slot, start in zip(state.slots, starts, strict=True):
            if start + 2 * n > len(memory):
                raise MachineFault(ADDRESS, f"row {slot.token} at {start:#x} leaves the window of {len(memory)} bytes")
        for target, start in zip(targets, starts, strict=True):
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
    sources = [[slot.registers[instruction[name]][:n] for name in ("va", "vb")] for slot in state.slots]

    def run() -> None:
        gains = state.stream.gains(n) if gain else None
        for slot, (a, b) in zip(state.slots, sources, strict=True):
            slot.scalars[sc], count = semantics.rms(a, b, gains, **options)
            if count:
                state.saturated[pc] += count

    return run


def _norm(instruction: Instruction, pc: int, state: State) -> Bound:
    n, options, gain = instruction["len"], _options(instruction, "gain"), instruction["gain"]
    sources, targets = state.registers[instruction["va"], :, :n], state.registers[instruction["vd"], :, :n]

    def run() -> None:
        gains = state.stream.gains(n) if gain else None
        for source, target in zip(sources, targets, strict=True):
            value, count = semantics.norm(source, gains, **options)
            target[:] = value
            if count:
                state.saturated[pc] += count

    return run


def _normq(instruction: Instruction, pc: int, state: State) -> Bound:
    n, sha, gain, scaled = (instruction[key] for key in ("len", "sha", "gain", "scaled"))
    sources, act, sc = state.registers[instruction["va"], :, :n], instruction["act"], instruction["sc"]

    def run() -> None:
        gains = state.stream.gains(n) if gain else None
        for slot, source in zip(state.slots, sources, strict=True):
            buffer = slot.acts[act]
            values, buffer.scale, count = semantics.normq(source, gains, slot.scalars[sc] if scaled else None, sha=sha)
            buffer.values = values.astype(np.float32)
            if count:
                state.saturated[pc] += count

    return run


# ---- ternary matmul --------------------------------------------------------------------------------------------------


def _tmatmul(instruction: Instruction, pc: int, state: State) -> Bound:
    n, addr, bp, wide = (instruction[key] for key in ("len", "addr", "bp", "wide"))
    targets = state.registers[instruction["vd"], :, :n]
    buffers = [slot.acts[instruction["act"]] for slot in state.slots]

    def run() -> None:
        entry = state.stream.matrix()
        segment, columns = entry.segment, len(buffers[0].values)
        if (segment.addr, segment.rows, segment.columns) != (addr, n, columns):
            raise MachineFault(
                SEGMENT,
                f"expected the matrix at {addr:#x} with {n} rows and {columns} columns, the stream has the one "
                f"at {segment.addr:#x} with {segment.rows} rows and {segment.columns} columns",
            )
        all_sums = state.stream.products(entry, [buffer.values for buffer in buffers])
        for buffer, sums, target in zip(buffers, all_sums, targets, strict=True):
            scale = semantics.matmul_scale(buffer.scale, segment.scale)
            value, count = semantics.scale_products(sums, scale, bp=bp, wide=wide)
            target[:] = value
            if count:
                state.saturated[pc] += count
        state.weights += n * segment.columns

    return run


# ---- control ---------------------------------------------------------------------------------------------------------


def _nop(instruction: Instruction, pc: int, state: State) -> Bound:
    return lambda: None


def _stream(instruction: Instruction, pc: int, state: State) -> Bound:
    addr, beats = instruction["addr"], instruction["beats"]
    return lambda: state.stream.push(addr, beats)


def _poll(instruction: Instruction, pc: int, state: State) -> Bound:
    def run() -> None:
        for slot in state.slots:
            slot.prompted = bool(slot.prompts)
            if slot.prompted:
                slot.token = slot.prompts.popleft()
        took = [slot.prompted for slot in state.slots]
        state.prompt_flag = any(took) and all(slot.prompted or slot.done for slot in state.slots)

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
        if not all(slot.prompts for slot in state.slots):
            return WAIT
        for slot in state.slots:
            slot.token = slot.prompts.popleft()
        return None

    return run


def _emit(instruction: Instruction, pc: int, state: State) -> Bound:
    def send(number: int, slot: Slot) -> None:
        slot.emitted += 1
        state.emitted.append(slot.token)
        state.emitted_slots.append(number)
        if state.on_token is not None:
            state.on_token(slot.token)
        if state.on_slot_token is not None:
            state.on_slot_token(slot.token, number)

    def run() -> None:
        for number, slot in enumerate(state.slots):
            if not (slot.done or state.suppressed(slot)):
                send(number, slot)

    return run


def _bdone(instruction: Instruction, pc: int, state: State) -> Bound:
    target, eos, limit = instruction["target"], state.settings.eos, state.settings.limit

    def run() -> int | None:
        for slot in state.slots:
            if not state.suppressed(slot) and (slot.token == eos or slot.emitted == limit):
                slot.done = True
        if not all(slot.done for slot in state.slots):
            return None
        for slot in state.slots:
            slot.done = False
        return target

    return run


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
