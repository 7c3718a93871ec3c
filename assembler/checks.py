"""Rules that an instruction alone can't show: what the core can hold and what the memory window contains.

The machine answers a breach with a fault; the assembler finds it earlier. ``.unchecked`` lets it pass.
"""

from collections.abc import Iterator

from trilobit.isa.core import CoreConfig
from trilobit.isa.slots import stored_elements
from trilobit.isa.spec import Opcode

__all__ = ["alignment", "breaches"]

UNKNOWN_BEAT = 256  # the widest beat a core can have: what fits it fits every core
LEAST_ALIGNMENT = 16


def alignment(config: CoreConfig | None) -> int:
    """Bytes that vectors and regions are aligned to: max(beat_bytes, 16), for any core if none is given."""
    return max(LEAST_ALIGNMENT, config.beat_bytes if config else UNKNOWN_BEAT)


def _extent(op: Opcode, values: dict[str, int], config: CoreConfig | None) -> int:
    """Bytes from addr on that the instruction touches, as far as they are known without the core."""
    if op.name in ("ldv", "sv"):
        elements = stored_elements(config, values["len"]) if config else values["len"]
        return elements * (4 if values["wide"] else 2)
    if op.name == "emb":
        return (values["rows"] - 1) * values["pitch"] + 2 * values["len"]
    if "beats" in values and config:
        return values["beats"] * config.beat_bytes
    if op.name == "tmatmul" and config:
        return config.header_beats * config.beat_bytes
    return 1


def breaches(
    op: Opcode, values: dict[str, int], *, config: CoreConfig | None, window: int, write_start: int, words: int
) -> Iterator[tuple[str, str]]:
    """The rules that an instruction breaks, each as the field and a message.

    Args:
        op: the instruction.
        values: its fields.
        config: the core, or None: then what depends on it is not checked.
        window: bytes of the memory window; write_start: its first writable byte.
        words: of the program.
    """
    if config and values.get("len", 0) > config.max_length:
        yield "len", f"expected len up to {config.max_length} on core {config.name!r}, got {values['len']}"
    if "target" in values and values["target"] >= words:
        yield "target", f"expected an instruction of the program (0 to {words - 1}), got {values['target']}"
    if "addr" not in values:
        return
    addr, extent = values["addr"], _extent(op, values, config)
    if addr + extent > window:
        size = f"{extent} bytes at {addr:#x}" if extent > 1 else f"{addr:#x}"
        yield "addr", f"expected an address inside the window of {window} bytes, got {size}"
    elif op.name in ("sv", "clr") and addr < write_start:
        yield "addr", f"expected an address in a writable region (from {write_start:#x} on), got {addr:#x}"
    # A segment follows its neighbour in the stream without a gap, so it is aligned to beats only.
    step = (config.beat_bytes if config else 1) if op.name == "tmatmul" else alignment(config) if config else LEAST_ALIGNMENT
    for field in ("addr", "pitch"):
        if values.get(field, 0) % step:
            yield field, f"expected {'an address' if field == 'addr' else field} in multiples of {step}, got {values[field]}"
