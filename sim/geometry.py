"""Model geometries and what follows from them: weights, bytes of the stream, the roofline."""

import re
from dataclasses import dataclass

from trilobit.errors import ConfigError
from trilobit.isa.core import CoreConfig
from trilobit.isa.slots import stored_elements
from trilobit.isa.trits import ROWS_PER_BYTE

__all__ = ["GEOMETRIES", "Geometry", "parse_geometry", "roofline_share"]

BITS_PER_WEIGHT = 1.6
GAIN_BYTES = 2
STATE_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """A MatMul-free LM: width H, layers L, GLU width I, vocabulary V."""

    H: int
    L: int
    I: int
    V: int

    def __post_init__(self):
        for name, value in vars(self).items():
            if value < 1:
                raise ConfigError(f"expected geometry {name} of at least 1, got {value!r}")

    @property
    def ternary_weights(self) -> int:
        """Ternary weights that a token reads, unpadded: V*H + L*(4*H*H + 3*H*I)."""
        return self.V * self.H + self.L * (4 * self.H**2 + 3 * self.H * self.I)

    @property
    def matrices(self) -> list[tuple[int, int]]:
        """Rows and columns of a layer's products, in order."""
        return [(self.H, self.H)] * 4 + [(self.I, self.H)] * 2 + [(self.H, self.I)]

    def product_beats(self, rows: int, columns: int, core: CoreConfig) -> int:
        """Beats of one ternary matrix, padding included, its header not."""
        return -(-rows // ROWS_PER_BYTE) * -(-columns // core.beat_bytes)

    def head_tiles(self, core: CoreConfig) -> list[int]:
        """Rows of the tiles that lm_head is cut into, none longer than a register."""
        tiles, left = [], self.V
        while left:
            tiles.append(min(left, core.max_length))
            left -= tiles[-1]
        return tiles

    def layer_gains(self) -> list[int]:
        """Lengths of the gain vectors of a layer: attn_norm, i, f, g, g_norm, o, mlp_norm, gate, down."""
        return [self.H] * 8 + [self.I]

    def stream_beats(self, core: CoreConfig) -> int:
        """Beats of the whole stream of a token: matrices, gains and headers."""

        def gains(length: int) -> int:
            return core.header_beats + -(-length * GAIN_BYTES // core.beat_bytes)

        layer = sum(self.product_beats(r, c, core) + core.header_beats for r, c in self.matrices)
        layer += sum(gains(length) for length in self.layer_gains())
        head = sum(self.product_beats(r, self.H, core) + core.header_beats for r in self.head_tiles(core)) + 2 * gains(self.H)
        return self.L * layer + head

    def vector_beats(self, core: CoreConfig) -> int:
        """Beats beside the stream, of every sequence of a batch: embedding rows, the states read and written, and 1 - lower bound
        of all layers but the first, where it is 1."""

        def beats(elements: int, size: int) -> int:
            return -(-elements * size // core.beat_bytes)

        vector = stored_elements(core, self.H)
        states, bounds = 2 * self.L * beats(vector, STATE_BYTES), (self.L - 1) * beats(vector, GAIN_BYTES)
        return states + bounds + core.batch * beats(self.H, GAIN_BYTES)


# The published models (config.json of the MatMul-free LM release) and the paper's 13B geometry is left out: it was never released.
GEOMETRIES = {
    "370m": Geometry(H=1024, L=24, I=2816, V=32000),
    "1.3b": Geometry(H=2048, L=24, I=5632, V=32000),
    "2.7b": Geometry(H=2560, L=32, I=6912, V=32000),
    "tales": Geometry(H=256, L=8, I=768, V=2048),
}


def parse_geometry(text: str) -> Geometry:
    """A geometry by name (``370m``, ``1.3b``, ``2.7b``, ``tales``) or as ``H/L/I/V``."""
    if text.lower() in GEOMETRIES:
        return GEOMETRIES[text.lower()]
    if match := re.fullmatch(r"(\d+)/(\d+)/(\d+)/(\d+)", text):
        H, L, I, V = map(int, match.groups())
        return Geometry(H=H, L=L, I=I, V=V)
    raise ConfigError(f"expected a geometry ({', '.join(GEOMETRIES)}) or H/L/I/V such as 1024/24/2816/32000, got {text!r}")


def roofline_share(weights: int, beat_bytes: int, cycles: float) -> float:
    """1.6 bits x unpadded ternary weights over what memory could bring in these cycles."""
    return BITS_PER_WEIGHT * weights / 8 / (beat_bytes * cycles)
