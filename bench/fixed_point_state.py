"""The error of the recurrent state: the recurrence alone for gates down to 2^-13, and the states of whole models."""

from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from fixed_point_machine import _ROUNDINGS, Arithmetic, Machine, keep

from trilobit.assembler.compiler.points import fit
from trilobit.evaluation import FLOOR_NOISE
from trilobit.isa import semantics

__all__ = ["recurrence", "state"]

STEPS, CHANNELS, SMALLEST = 2000, 64, 13
WIDTHS = {
    "32 bits": Arithmetic(),
    "24 bits": Arithmetic(state_bits=24),
    "16 bits": Arithmetic(state_bits=16),
    "32 bits, truncated": Arithmetic(state="truncate"),
    "24 bits, truncated": Arithmetic(state_bits=24, state="truncate"),
    "16 bits, truncated": Arithmetic(state_bits=16, state="truncate"),
}
GATE_POINT, TABLE_POINT = 24, 17  # of the gate, and of the sigmoid's operand


def rms(x: np.ndarray, axis) -> np.ndarray:
    return np.sqrt((x * x).mean(axis=axis))


def recurrence(arithmetic: Arithmetic, steps: int = STEPS, seed: int = 1) -> np.ndarray:
    """The relative RMS error [steps, 13] of ``s += c * (x - s)`` over 64 channels, for gates c about 2^-1 to 2^-13.

    x is normal noise, new at each step, in the 16 bits and the state in the 32 that the compiler would give them; the gate is
    the ``sig`` instruction's of an operand that varies by +-0.25, against the exact sigmoid of the same operand.
    """
    rng = np.random.default_rng(seed)
    top = 4.0
    x_point, s_point = fit(top, 16, 1), fit(top, 32, 2)
    middle = np.repeat(np.log(2.0 ** np.arange(1, SMALLEST + 1) - 1), CHANNELS)  # sigmoid(-middle) = 2^-k
    s, exact, errors = np.zeros(len(middle), np.int64), np.zeros(len(middle)), []
    with arithmetic.applied():
        for _ in range(steps):
            x = np.round(np.clip(rng.normal(size=len(middle)), -top, top) * 2.0**x_point).astype(np.int64)
            y = np.round((middle + rng.uniform(-0.25, 0.25, len(middle))) * 2.0**TABLE_POINT).astype(np.int64)
            c = semantics.sig(y, sho=40 - GATE_POINT, neg=1, wide=1).value
            rounding = arithmetic.state or arithmetic.results
            with patch.object(semantics, "rs", _ROUNDINGS[rounding]):
                s = semantics.lerp(s, x, c, shb=x_point - s_point, sho=GATE_POINT).value
            s = keep(s, arithmetic.state_bits, rounding)
            exact += (x * 2.0**-x_point - exact) / (1 + np.exp(y * 2.0**-TABLE_POINT))
            shape = (SMALLEST, CHANNELS)
            errors.append(rms((s * 2.0**-s_point - exact).reshape(shape), 1) / rms(exact.reshape(shape), 1))
    return np.array(errors)


def of_model(model: str, text: Path, count: int, length: int) -> dict[str, Any]:
    """The relative RMS error of each layer's state, [L] a window of 50 tokens, of the program and of the reference under noise."""
    from fixed_point import CORE, folder_of, reference, streams

    folder = folder_of(model)
    inputs, _ = streams(folder, text, count, length)
    _, exact = reference(folder, inputs)
    _, noisy = reference(folder, inputs, FLOOR_NOISE)
    machine = Machine(compiled := Arithmetic().compile(folder, CORE), count)
    got: list[np.ndarray] = []
    gates = [np.inf]

    def on_lerp(pc: int, value: np.ndarray, gate: np.ndarray) -> None:
        instr = compiled.lines[pc].instr
        assert instr is not None
        got.append(value * 2.0**-instr.value.point)
        gates.append(float(gate.min()) * 2.0**-GATE_POINT)

    machine.on_lerp = on_lerp
    for row in inputs:
        machine.step(row)
    found = np.array(got).reshape(length, len(exact), count, -1).swapaxes(0, 1)  # [L, T, B, H]
    whole = length // 50 * 50

    def windows(states: np.ndarray) -> np.ndarray:
        error, size = ((states - exact)[:, :whole] ** 2, exact[:, :whole] ** 2)
        error, size = (v.reshape(len(exact), -1, 50, *v.shape[2:]).mean(axis=(2, 3, 4)) for v in (error, size))
        return np.sqrt(error / size)

    return {
        "tokens": length, "streams": count, "smallest_gate": min(gates), "saturated": machine.saturated, "window": 50,
        "program": windows(found).round(6).tolist(), "floor": windows(noisy).round(6).tolist(),
    }  # fmt: skip


def state(triples: list[tuple[str, str, Path]], count: int, length: int) -> None:
    """Measure both and save them."""
    from fixed_point import save

    alone = {name: recurrence(arithmetic) for name, arithmetic in WIDTHS.items()}
    data: dict[str, Any] = {
        "steps": STEPS, "channels": CHANNELS, "gates": [2.0**-k for k in range(1, SMALLEST + 1)],
        "largest": {name: error.max(axis=0).tolist() for name, error in alone.items()},
        "last_gate": {name: error[9::10, -1].round(9).tolist() for name, error in alone.items()},
        "models": {},
    }  # fmt: skip
    for name, largest in data["largest"].items():
        print(f"{name:20} largest error at c=2^-4 {largest[3]:.2e}, 2^-8 {largest[7]:.2e}, 2^-13 {largest[-1]:.2e}", flush=True)
    for name, model, text in triples:
        data["models"][name] = found = of_model(model, text, count, length)
        program, floor = np.array(found["program"]), np.array(found["floor"])
        print(f"{name}: smallest gate {found['smallest_gate']:.2e}; largest window by layer: "
              f"error {program.max(axis=1).round(5).tolist()}, "
              f"floor {floor.max(axis=1).round(5).tolist()}", flush=True)  # fmt: skip
    save("fixed_point_state.json", data)
