"""A small recurrent network as a program, for cores of any batch: embedding, norm, product, gated state, sampled head."""

from itertools import zip_longest

import numpy as np

from trilobit.isa.core import CoreConfig
from trilobit.isa.fixed import Scalar
from trilobit.isa.program import Program, Region
from trilobit.isa.segments import gains_segment, matrix_segment
from trilobit.isa.slots import stored_elements
from trilobit.isa.spec import ISA
from trilobit.isa.trits import pack
from trilobit.sim.backend import Backend, RunResult

__all__ = ["VOCABULARY", "push_all", "run_to_end", "sampling_program"]

VOCABULARY = 48
WIDTH = 21  # columns, no multiple of anything
TILE = 30  # rows of the head's first tile; the second has the rest
PITCH = 64
TABLE, STREAM, STATE = 0, 4096, 16384
STATE_BYTES = 4096


def sampling_program(config: CoreConfig, rng: np.random.Generator) -> Program:
    """A program that embeds a token, moves a state towards it, and samples the next token until every slot is done; then halts.

    Built as the compiler's: prompt tokens are polled, the head is left out while all slots read prompts. The weights depend on ``rng``
    alone, not on the batch.
    """
    table = np.zeros((VOCABULARY, PITCH // 2), dtype="<i2")
    table[:, :WIDTH] = rng.integers(-4000, 4000, (VOCABULARY, WIDTH))
    gains = rng.integers(2000, 6000, WIDTH).astype(np.int16)
    mixer = rng.integers(-1, 2, (WIDTH, WIDTH)).astype(np.int8)
    head = rng.integers(-1, 2, (VOCABULARY, WIDTH)).astype(np.int8)
    scale = Scalar(1 << 17, -17)
    stream = bytearray()
    places = []
    for segment in (gains_segment(gains, config.beat_bytes), *(matrix_segment(pack(t), len(t), scale, config.beat_bytes)
                                                               for t in (mixer, head[:TILE], head[TILE:]))):  # fmt: skip
        places.append(STREAM + len(stream))
        stream += segment
    ends = [*places[1:], STREAM + len(stream)]

    def queue(k: int) -> tuple[str, dict]:
        return "stream", {"addr": places[k], "beats": (ends[k] - places[k]) // config.beat_bytes}

    n = {"len": WIDTH}
    state_beats = -(-4 * stored_elements(config, WIDTH) // config.beat_bytes)
    items: list[tuple[str, dict] | str] = [
        ("clr", {"addr": STATE, "beats": state_beats}),
        ("wait", {}),
        "token:",
        ("emb", {"vd": 0, "addr": TABLE, "pitch": PITCH, "rows": VOCABULARY} | n),
        queue(0), queue(1),
        ("ldv", {"vd": 1, "addr": STATE, "wide": 1} | n),
        ("rms", {"sc": 1, "va": 0, "vb": 0, "k_m": 3, "k_e": 2} | n),
        ("normq", {"act": 0, "va": 0, "sc": 1, "scaled": 1, "gain": 1} | n),
        ("tmatmul", {"vd": 2, "act": 0, "addr": places[1], "bp": 9} | n),
        ("sig", {"vd": 3, "vb": 2, "shb": -6, "sho": 17, "wide": 1} | n),
        ("lerp", {"vd": 1, "va": 1, "vb": 2, "vc": 3, "shb": -4} | n),
        ("sv", {"va": 1, "addr": STATE, "wide": 1} | n),
        ("sv", {"va": 1, "addr": STATE + STATE_BYTES // 2} | n),  # saturates now and then
        ("poll", {}),
        ("bprompt", {"target": "token"}),
        ("add", {"vd": 7, "va": 1, "vb": 0, "shb": -7, "wide": 1} | n),
        ("norm", {"vd": 4, "va": 7, "sha": 3, "sho": 6, "k_m": 5} | n),
        ("normq", {"act": 1, "va": 4, "sc": 0} | n),
        queue(2), queue(3),
        ("tmatmul", {"vd": 5, "act": 1, "addr": places[2], "bp": -4, "len": TILE}),
        ("argmax", {"va": 5, "len": TILE, "sha": 8, "first": 1, "noise": 1}),
        ("tmatmul", {"vd": 6, "act": 1, "addr": places[3], "bp": -4, "len": VOCABULARY - TILE}),
        ("argmax", {"va": 6, "len": VOCABULARY - TILE, "base": TILE, "sha": 8, "last": 1, "noise": 1}),
        ("emit", {}),
        ("bdone", {"target": "end"}),
        ("jump", {"target": "token"}),
        "end:",
        ("halt", {}),
    ]  # fmt: skip
    labels: dict[str, int] = {}
    code = []
    for item in items:
        if isinstance(item, str):
            labels[item[:-1]] = len(code)
        else:
            code.append(item)
    words = [ISA.encode(name, **{k: labels[v] if k == "target" else v for k, v in fields.items()}) for name, fields in code]
    regions = {
        "table": Region(name="table", addr=TABLE, size=table.nbytes, data=table.tobytes()),
        "stream": Region(name="stream", addr=STREAM, size=len(stream), data=bytes(stream)),
        "state": Region(name="state", addr=STATE, size=STATE_BYTES, writable=True),
    }
    return Program("sampling", words, STATE + STATE_BYTES, STATE, regions)


def push_all(backend: Backend, prompts: list[list[int]]) -> None:
    """Push every slot's prompt, a token of each slot in turn."""
    for tokens in zip_longest(*prompts):
        for slot, token in enumerate(tokens):
            if token is not None:
                backend.push([token], slot)


def run_to_end(backend: Backend, prompts: list[list[int]]) -> RunResult:
    """Push every slot's prompt, run until the program stops, and return its result."""
    push_all(backend, prompts)
    return backend.run()
