"""Faults of the functional simulator, and the checks an instruction meets before it does anything.

The order of the checks is the machine's: program counter, opcode, length, address window, start of the writable part.
Only then come the token (``emb``) and the stream's segment (norm unit and product), which exist at run time alone.
"""

from trilobit.errors import ProgramError
from trilobit.isa.core import CoreConfig
from trilobit.isa.slots import stored_elements
from trilobit.isa.spec import Instruction

__all__ = ["ADDRESS", "BAD_OPCODE", "LENGTH", "MEMORY", "PROGRAM_COUNTER", "READ_ONLY", "SEGMENT", "TOKEN",
           "MachineFault", "check_alignment", "footprint", "static_fault"]  # fmt: skip

BAD_OPCODE, LENGTH, ADDRESS, READ_ONLY, SEGMENT, MEMORY, TOKEN, PROGRAM_COUNTER = range(1, 9)


class MachineFault(Exception):  # noqa: N818 - the machine's word for it
    """The machine stops: ``code`` as in :data:`trilobit.sim.backend.FAULTS`, ``detail`` for people."""

    def __init__(self, code: int, detail: str = ""):
        super().__init__(detail)
        self.code = code
        self.detail = detail


def footprint(instruction: Instruction, config: CoreConfig) -> int | None:
    """Bytes from ``addr`` on that an instruction touches; None if it has no address of its own.

    ``emb`` counts one row (its address depends on the token); the address of ``tmatmul`` is compared with its segment's.
    Vectors of several slots stand in memory as whole register words.
    """
    name = instruction.name
    if name in ("clr", "stream"):
        return instruction["beats"] * config.beat_bytes
    if name in ("ldv", "sv"):
        return stored_elements(config, instruction["len"]) * (4 if instruction["wide"] else 2)
    if name == "emb":
        return instruction["len"] * 2
    return None


def static_fault(instruction: Instruction, config: CoreConfig, window_size: int, write_start: int) -> int:
    """The cause an instruction faults with whatever the data, or 0."""
    if "len" in instruction.values and not 1 <= instruction["len"] <= config.max_length:
        return LENGTH
    size = footprint(instruction, config)
    if size is not None:
        if instruction["addr"] + size > window_size:
            return ADDRESS
        if instruction.name in ("sv", "clr") and instruction["addr"] < write_start:
            return READ_ONLY
    return 0


def check_alignment(instruction: Instruction, config: CoreConfig) -> None:
    """Refuse an address between two memory beats, which the hardware does not define.

    Raises:
        ProgramError: ``addr`` of a load, a store or a region, or a table's ``pitch``, is no multiple of beat_bytes.
    """
    if footprint(instruction, config) is None:
        return
    for name in ("addr", "pitch"):
        if instruction.get(name) % config.beat_bytes:
            raise ProgramError(
                f"{instruction.name}: expected {name} as a multiple of beat_bytes={config.beat_bytes} of core "
                f"{config.name!r}, got {instruction[name]:#x}"
            )
