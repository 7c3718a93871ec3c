"""Cycles of a token from the geometry alone: a first-order estimate.

Memory sets the pace: the weight stream, its gains and headers, and the vectors that share the port, at a beat a clock. What the stream
can't hide is added: four places a layer where the next product waits for the last result of the one before, through row-wise
operations, a norm and a quantisation; and the tail of lm_head. Other units overlap with products and are not counted.
It is an estimate: :mod:`trilobit.sim.rtl` measures, and docs/performance.md compares the two.
"""

from dataclasses import dataclass
from typing import Any

from trilobit.isa.core import CoreConfig
from trilobit.sim.geometry import Geometry, roofline_share

__all__ = ["Estimate", "estimate"]

# Pipeline depths of the units in clocks (hdl/rowwise.py, hdl/rmsnorm.py, hdl/matmul.py) and the program counter's part.
ROWWISE = 18
RMS_TAIL = 14
MAXIMUM_TAIL = 12
FACTOR = 24
FIRST_BEAT = 10
DRAIN = 20
ISSUE = 4


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a token costs on a core.

    Attributes:
        cycles_per_token: clocks from a token's embedding to the next token.
        stream_beats: beats of weights, gains and headers; vector_beats: embedding row, state, constant vectors.
        exposed: clocks in which the stream waits.
        on_chip_bits: registers, activation buffers, norm buffer, gain buffer, weight FIFO and instruction memory.
    """

    geometry: Geometry
    core: CoreConfig
    clock_mhz: float
    stream_beats: int
    vector_beats: int
    exposed: int
    units: dict[str, dict[str, Any]]

    @property
    def cycles_per_token(self) -> int:
        """Clocks of one token."""
        return self.stream_beats + self.vector_beats + self.exposed

    @property
    def tokens_per_second(self) -> float:
        """At the clock asked for."""
        return self.clock_mhz * 1e6 / self.cycles_per_token

    @property
    def roofline(self) -> float:
        """Share of what the memory port could bring."""
        return roofline_share(self.geometry.ternary_weights, self.core.beat_bytes, self.cycles_per_token)

    @property
    def on_chip_bits(self) -> int:
        """Bits of on-chip memory that the core's buffers take."""
        core = self.core
        registers, activations, norm = 8 * 32 * core.max_length, 2 * 8 * core.max_length, 34 * core.max_length
        queues = 8 * core.beat_bytes * (core.weight_fifo_beats + core.load_fifo_beats) + 16 * core.gain_buffer_elements
        return registers + activations + norm + queues + 128 * core.program_words

    def to_dict(self) -> dict:
        """For ``--json``."""
        n = self.core.beat_bytes
        g = self.geometry
        return {
            "geometry": {"H": g.H, "L": g.L, "I": g.I, "V": g.V}, "core": self.core.name, "clock_mhz": self.clock_mhz,
            "cycles_per_token": self.cycles_per_token, "tokens_per_second": self.tokens_per_second, "roofline_share": self.roofline,
            "bytes_per_token": (self.stream_beats + self.vector_beats) * n, "weight_bytes_per_token": self.units["tmatmul"]["busy"] * n,
            "units": self.units, "on_chip_bits": self.on_chip_bits, "fits_registers": max(g.H, g.I) <= self.core.max_length,
            "evidence": "estimated: first-order model of the stream and its exposed latencies",
        }  # fmt: skip


def _exposed(geometry: Geometry, core: CoreConfig) -> int:
    """Clocks a token in which no weight can be consumed although memory would bring them."""

    def words(length: int) -> int:
        return -(-length // core.lanes)

    def quantise(length: int) -> int:
        # The sum of squares chains on the last product's results; the maximum needs a pass of its own, then the first int8 values follow.
        return RMS_TAIL + words(length) + MAXIMUM_TAIL + FACTOR + FIRST_BEAT + 3 * ISSUE

    per_layer = (
        (DRAIN + ROWWISE + quantise(geometry.H))  # down -> residual add -> i
        + (DRAIN + 2 * ROWWISE + quantise(geometry.H))  # g -> product with the state's gate -> o
        + (DRAIN + ROWWISE + quantise(geometry.H))  # o -> residual add -> gate
        + (DRAIN + 2 * ROWWISE + quantise(geometry.I))  # y -> silu(gate) * y -> down
    )
    products = 7 * geometry.L + len(geometry.head_tiles(core))
    head = DRAIN + ROWWISE + quantise(geometry.H) + 2 * DRAIN + 60  # final norm; the last tile's search for the largest
    return geometry.L * per_layer + head + 2 * products


def estimate(geometry: Geometry, core: CoreConfig, *, clock_mhz: float | None = None) -> Estimate:
    """Estimate a token of a MatMul-free LM of this geometry, with ideal memory and batch 1.

    Args:
        geometry: widths and layers.
        core: the core; its ``clock_mhz`` is used unless another is given.
        clock_mhz: clock in MHz.
    """
    exposed = _exposed(geometry, core)
    products = geometry.L * sum(geometry.product_beats(r, c, core) for r, c in geometry.matrices)
    products += sum(geometry.product_beats(r, geometry.H, core) for r in geometry.head_tiles(core))
    stream, vectors = geometry.stream_beats(core), geometry.vector_beats(core)
    units = {
        "tmatmul": {"busy": products, "stalls": {"dependencies": exposed, "gains_headers_and_vectors": stream + vectors - products}},
        "ldst": {"busy": vectors, "stalls": {}},
    }
    return Estimate(geometry=geometry, core=core, clock_mhz=clock_mhz or core.clock_mhz, stream_beats=stream, vector_beats=vectors,
                    exposed=exposed, units=units)  # fmt: skip
