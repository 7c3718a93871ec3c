"""Where everything lies in the memory window: stream, constants and tables, then the writable part."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from trilobit.assembler.compiler.instr import Instr, Place
from trilobit.assembler.compiler.ir import Value
from trilobit.assembler.compiler.select import integers
from trilobit.assembler.compiler.stream import arrange, check_gains, segment_bytes, segment_of, write_segment
from trilobit.assembler.compiler.tensors import Tensors
from trilobit.isa.core import CoreConfig
from trilobit.isa.program import Region
from trilobit.isa.segments import Segment
from trilobit.isa.slots import interleave, stored_elements

__all__ = ["Layout", "Part", "layout", "table_pitch"]

_INT16 = "<i2"
_CHUNK = 1 << 22  # bytes of a table that are made at once


@dataclass(frozen=True)
class Part:
    """Bytes of the read-only part: where they lie, and how to write them into that slice of a memory."""

    addr: int
    size: int
    write: Callable[[np.ndarray], None]


@dataclass
class Layout:
    """Addresses of the image.

    Attributes:
        regions: by name, without data.
        window_size, write_start: bytes.
        segments: id of an instruction that takes from the stream -> address of its segment's header.
        stream: what each of those segments holds, by address.
        parts: everything in the read-only part, by address.
    """

    regions: dict[str, Region] = field(default_factory=dict)
    window_size: int = 0
    write_start: int = 0
    segments: dict[int, int] = field(default_factory=dict)
    stream: list[Segment] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    _places: dict[tuple[str, str], int] = field(default_factory=dict)

    def address(self, place: Place) -> int:
        """The address of a load's or store's place."""
        return self._places[place.region, place.name] + place.offset

    def image(self) -> np.ndarray:
        """The read-only part: [write_start] of uint8."""
        image = np.zeros(self.write_start, dtype=np.uint8)
        self.fill(image)
        return image

    def fill(self, memory: np.ndarray) -> None:
        """Write the read-only part into a memory of zeros: [write_start or more] of uint8, such as a memmap."""
        for part in self.parts:
            part.write(memory[part.addr : part.addr + part.size])


def table_pitch(columns: int, core: CoreConfig) -> int:
    """Bytes from one row of a 16-bit table to the next."""
    return _up(2 * columns, max(core.beat_bytes, 16))


def _up(size: int, align: int) -> int:
    return -(-size // align) * align


def _write_constant(value: Value, core: CoreConfig, out: np.ndarray) -> None:
    """The same vector for every slot, in the order in which ``ldv`` reads it."""
    vector = integers(value.attrs["array"], value).astype("<i4" if value.wide else _INT16)
    out[:] = interleave(core, vector).view(np.uint8)


def _write_table(tensors: Tensors, name: str, value: Value, out: np.ndarray) -> None:
    """All rows of a table into ``out`` [rows, pitch / 2] of int16, some at a time."""
    step = max(_CHUNK // (2 * out.shape[1]), 1)
    for start in range(0, len(out), step):
        stop = min(start + step, len(out))
        out[start:stop, : value.length] = integers(tensors.table(name, start, stop), value)


def layout(order: Sequence[Instr], tensors: Tensors, core: CoreConfig, vocabulary: int, store_logits: bool) -> Layout:
    """Place all that the instructions use.

    Raises:
        CompileError: the gains that travel ahead don't fit the gain buffer.
    """
    return _Layouter(order, tensors, core, vocabulary).run(store_logits)


class _Layouter:
    def __init__(self, order: Sequence[Instr], tensors: Tensors, core: CoreConfig, vocabulary: int):
        self.order, self.tensors, self.core, self.vocabulary = order, tensors, core, vocabulary
        self.align = max(core.beat_bytes, 16)
        self.result = Layout()
        self.end = 0

    def run(self, store_logits: bool) -> Layout:
        self._stream("body", [i for i in self.order if not i.head])
        self._stream("head", [i for i in self.order if i.head])
        self._constants()
        self._tables()
        self.result.write_start = self.end
        self._vectors("state", "<i4")
        self._vectors("scratch", None)
        if store_logits:
            self._logits()
        self.result.window_size = self.end
        return self.result

    def _region(self, name: str, start: int, element: str | None, writable: bool = False) -> None:
        if self.end > start:
            self.result.regions[name] = Region(name=name, addr=start, size=self.end - start, element=element, writable=writable)

    def _stream(self, name: str, order: list[Instr]) -> None:
        items = arrange(order)
        check_gains(items, order, self.core)
        start = self.end
        for i in items:
            size = segment_bytes(i, self.core)
            self.result.segments[id(i)] = self.end
            self.result.stream.append(segment_of(i, self.end, self.core))
            self.result.parts.append(Part(self.end, size, partial(write_segment, i, self.tensors, self.core)))
            self.end += size
        self._region(name, start, None)  # whole segments and nothing more: the fetch would take padding for a header
        self.end = _up(self.end, self.align)

    def _used(self, region: str) -> dict[str, Instr]:
        """The first instruction that uses each name of a region."""
        found: dict[str, Instr] = {}
        for i in self.order:
            if i.place is not None and i.place.region == region:
                found.setdefault(i.place.name, i)
        return found

    def _constants(self) -> None:
        start = self.end
        for name, i in self._used("constants").items():
            value = i.value
            self.result._places["constants", name] = self.end
            size = stored_elements(self.core, i.length) * (4 if value.wide else 2)
            self.result.parts.append(Part(self.end, size, partial(_write_constant, value, self.core)))
            self.end += _up(size, self.align)
        self._region("constants", start, None)

    def _tables(self) -> None:
        for n, (name, i) in enumerate(self._used("embedding").items()):
            start = self.end
            self.result._places["embedding", name] = start
            pitch = table_pitch(i.length, self.core)

            def write(out: np.ndarray, name: str = name, value: Value = i.value, pitch: int = pitch) -> None:
                _write_table(self.tensors, name, value, out.view(_INT16).reshape(-1, pitch // 2))

            size = self.vocabulary * pitch
            self.result.parts.append(Part(start, size, write))
            self.end += size
            self._region(f"embedding{n or ''}", start, _INT16)

    def _logits(self) -> None:
        """The tiles of the logits one after the other, each from a place of its own on."""
        start = self.end
        self.result._places["logits", "logits"] = start
        for i in self.order:
            if i.place is not None and i.place.region == "logits":
                self.end = max(self.end, start + i.place.offset + _up(4 * stored_elements(self.core, i.length), self.align))
        self._region("logits", start, "<i4", writable=True)

    def _vectors(self, region: str, element: str | None) -> None:
        """Vectors that the program itself writes, of every slot, with room for 32 bits an element."""
        start = self.end
        for name, i in self._used(region).items():
            self.result._places[region, name] = self.end
            self.end += _up(4 * stored_elements(self.core, i.length), self.align)
        self._region(region, start, element, writable=True)
