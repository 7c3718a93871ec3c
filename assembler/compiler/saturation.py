"""Counting saturations: the compiled program on the functional simulator, fed with a text token by token."""

import itertools
from collections.abc import Callable, Sequence

from trilobit.assembler.bundle import teacher_forced
from trilobit.assembler.compiler.pipeline import Compiled
from trilobit.errors import CompileError, FaultError

__all__ = ["count_saturations"]


def count_saturations(compiled: Compiled, tokens: Sequence[int], progress: Callable[[int, int], None] | None = None) -> dict[str, int]:
    """Run tokens through the program, each with its logits, and note the saturated elements of each vector.

    With a batch above one every sequence gets the same tokens, and the elements of one count.
    The counts (by name of the vector, scalar or activations; only those above zero) also go into the report.
    ``progress`` is called with tokens done and to do.

    Raises:
        CompileError: no tokens, or one outside the vocabulary.
        FaultError: the program stopped on a fault.
    """
    from trilobit.sim.functional import FunctionalSimulator

    vocabulary = compiled.graph.vocab_size
    if not len(tokens) or min(tokens) < 0 or max(tokens) >= vocabulary:
        raise CompileError(f"expected at least one token from 0 to {vocabulary - 1} to count saturations on")
    simulator = FunctionalSimulator(compiled.core, teacher_forced(compiled.program), compiled.memory())
    batch, done = compiled.core.batch, itertools.count(1)

    def each(token: int, slot: int) -> None:
        if progress is not None and slot == batch - 1:
            progress(next(done), len(tokens))

    with simulator:
        for slot in range(batch):
            simulator.push([int(token) for token in tokens], slot=slot)
        result = simulator.run(on_slot_token=each)
    if result.fault:
        raise FaultError(f"{compiled.name}: fault {result.fault} at instruction {result.fault_pc} while counting saturations")
    counts: dict[str, int] = {}
    for pc, elements in result.saturated.items():
        instr = compiled.lines[pc].instr
        if instr is not None and elements:
            counts[instr.value.name] = counts.get(instr.value.name, 0) + elements // batch
    compiled.saturated, compiled.checked_tokens = counts, len(tokens)
    return counts
