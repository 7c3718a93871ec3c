"""The parameters of a core: named presets, validated once, and the geometry that follows from them."""

import math
from dataclasses import MISSING, asdict, dataclass, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from trilobit.errors import ConfigError

__all__ = ["MACHINES", "REQUEST_BOUNDARY", "CoreConfig", "load_core", "presets"]

MACHINES = ("pipelined", "lean")
REQUEST_BOUNDARY = 4096  # bytes; no memory request crosses a multiple, as AXI asks


def _power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


@dataclass(frozen=True, kw_only=True)
class CoreConfig:
    """What a core is built with.

    Attributes:
        name: the preset's name.
        beat_bytes: bytes of one memory beat, and columns of one weight-group read a clock (5 weights each). Power of two.
        lanes: vector elements a clock in every vector unit. Power of two, at most beat_bytes.
        max_length: elements that a vector register, an activation buffer and the norm unit hold.
        program_words: instructions that the instruction memory holds.
        weight_fifo_beats: depth of the weight FIFO behind the stream fetch.
        gain_buffer_elements: 16-bit gains that the gain buffer holds.
        burst_beats: longest memory request, in beats.
        load_fifo_beats: beats that the load/store unit takes before it must write them to a register.
        machine: "pipelined", units that overlap (docs/decisions/0001-machine.md), or "lean", few gates and one thing after the other
            (docs/decisions/0008-lean.md).
        batch: sequences ("slots") that share a pass over the weights, in lockstep; 1, 2, 4 or 8. ``lanes`` and ``max_length`` are per slot.
        clock_mhz: the clock that figures are quoted at, in MHz.
        description: one line for people.
    """

    name: str
    beat_bytes: int
    lanes: int
    max_length: int
    program_words: int = 1024
    weight_fifo_beats: int = 512
    gain_buffer_elements: int = 4096
    burst_beats: int = 16
    load_fifo_beats: int = 32
    batch: int = 1
    machine: str = "pipelined"
    clock_mhz: float = 60.0
    description: str = ""

    def __post_init__(self):
        for field in ("beat_bytes", "lanes", "burst_beats", "load_fifo_beats", "weight_fifo_beats", "program_words", "batch"):
            if not _power_of_two(getattr(self, field)):
                raise ConfigError(f"core {self.name!r}: expected {field} to be a power of two, got {getattr(self, field)!r}")
        if self.machine not in MACHINES:
            raise ConfigError(f"core {self.name!r}: expected machine to be one of {', '.join(MACHINES)}, got {self.machine!r}")
        if self.machine == "lean":
            lean = {"lanes": (1, 1), "batch": (1, 1), "beat_bytes": (4, 64), "max_length": (8, 4096)}
            for field, (low, high) in lean.items():
                if not low <= getattr(self, field) <= high:
                    wanted = low if low == high else f"from {low} to {high}"
                    raise ConfigError(f"core {self.name!r}: expected {field} to be {wanted} for a lean core, got {getattr(self, field)!r}")
        limits = {"beat_bytes": (1, 256), "lanes": (1, self.beat_bytes), "max_length": (8, 8191),
                  "program_words": (16, 65536), "burst_beats": (1, 256), "weight_fifo_beats": (2 * self.burst_beats, 65536),
                  "load_fifo_beats": (2 * self.burst_beats, 1024), "batch": (1, 8)}  # fmt: skip
        for field, (low, high) in limits.items():
            if not low <= getattr(self, field) <= high:
                raise ConfigError(f"core {self.name!r}: expected {field} from {low} to {high}, got {getattr(self, field)!r}")
        if self.max_length % self.lanes:
            raise ConfigError(f"core {self.name!r}: expected max_length to be a multiple of lanes={self.lanes}, got {self.max_length}")
        if self.gain_buffer_elements % (2 * self.beat_bytes) or self.gain_buffer_elements < self.max_length:
            raise ConfigError(f"core {self.name!r}: expected gain_buffer_elements of at least max_length={self.max_length} and a "
                              f"multiple of {2 * self.beat_bytes}, got {self.gain_buffer_elements}")  # fmt: skip
        if not 0 < self.clock_mhz < math.inf:  # a NaN is neither
            raise ConfigError(f"core {self.name!r}: expected a finite clock_mhz above 0, got {self.clock_mhz!r}")

    @property
    def words(self) -> int:
        """Words of ``lanes`` elements in a vector register."""
        return self.max_length // self.lanes

    @property
    def word_elements(self) -> int:
        """Elements of one word of a vector register, all slots together."""
        return self.lanes * self.batch

    @property
    def header_beats(self) -> int:
        """Beats of a stream segment's 16-byte header."""
        return -(-16 // self.beat_bytes)

    @property
    def burst_block(self) -> int:
        """Memory requests end at multiples of this many beats: no longer than a burst, and never across 4 KiB."""
        return min(self.burst_beats, REQUEST_BOUNDARY // self.beat_bytes)

    @property
    def weights_per_clock(self) -> int:
        """Ternary weights consumed a clock when no one waits; each serves every slot."""
        return 5 * self.beat_bytes

    def require_one_slot(self, what: str) -> None:
        """Refuse a batch where the host has no way to tell sequences apart.

        Raises:
            ConfigError: a batch above 1.
        """
        if self.batch > 1:
            raise ConfigError(f"core {self.name!r}: expected a batch of 1 for {what}, which has one queue of tokens, got {self.batch}; "
                              "leave --batch out, or simulate the core")  # fmt: skip

    def parameters(self) -> dict[str, Any]:
        """The parameters as reports and bundles keep them: ``machine`` only if it isn't the default, which older ones don't have."""
        kept = asdict(self)
        return kept if self.machine != MACHINES[0] else {key: value for key, value in kept.items() if key != "machine"}

    def replace(self, **changes) -> "CoreConfig":
        """A copy with some parameters changed, validated again."""
        return replace(self, **changes)


def presets() -> list[str]:
    """The names of the presets that come with Trilobit."""
    return sorted(p.name[:-5] for p in resources.files("trilobit.isa").joinpath("presets").iterdir() if p.name.endswith(".yaml"))


def load_core(name: str, batch: int | None = None) -> CoreConfig:
    """A preset by name, or a YAML file of the same form by path; ``batch`` replaces its own.

    Raises:
        ConfigError: no such preset or file, an unknown key, or a value that makes no sense.
    """
    if name in presets():
        text = resources.files("trilobit.isa").joinpath(f"presets/{name}.yaml").read_text()
    elif name.endswith((".yaml", ".yml")) and Path(name).is_file():
        try:
            text = Path(name).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"core {name!r}: can't read it as text: {error}") from error
    else:
        raise ConfigError(f"expected a core preset ({', '.join(presets())}) or a YAML file, got {name!r}")
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"core {name!r}: not readable as YAML: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"core {name!r}: expected a mapping of parameters, got {type(data).__name__}")
    known = get_type_hints(CoreConfig)
    if unknown := set(data) - set(known):
        raise ConfigError(f"core {name!r}: unknown parameter {min(unknown, key=str)!r}; known are {', '.join(known)}")
    if missing := [field.name for field in fields(CoreConfig) if field.default is MISSING and field.name not in {*data, "name"}]:
        raise ConfigError(f"core {name!r}: expected {' and '.join(missing)} too, got a core without; give it a value")
    data.setdefault("name", Path(name).stem)
    for key, value in data.items():
        kind = {int: (int,), float: (int, float), str: (str,)}[known[key]]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ConfigError(f"core {name!r}: expected {key} as {known[key].__name__}, got {value!r}")
    if batch is not None:
        data["batch"] = batch
    return CoreConfig(**data)
