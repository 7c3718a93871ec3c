"""A small compiled model on the core, on both simulators."""

from pathlib import Path

import numpy as np
from support import run_cocotb

import trilobit
from trilobit.hdl.core import Core
from trilobit.isa.core import load_core
from trilobit.model.evaluate import reference_logits

TOY = Path(__file__).resolve().parents[1] / "model" / "data" / "toy"


def test_logits_of_a_compiled_model_follow_the_reference(tmp_path, rng):
    core = load_core("tiny")
    trilobit.compile(TOY, core, tmp_path / "bundle", store_logits=True)
    tokens = rng.integers(0, 64, 6)
    np.save(tmp_path / "reference.npy", reference_logits(TOY, tokens))
    run_cocotb(Core(core), "trilobit_core", "cocotb_model", env={
        "BUNDLE": tmp_path / "bundle", "REFERENCE": tmp_path / "reference.npy", "TOKENS": ",".join(map(str, tokens)),
    })  # fmt: skip
