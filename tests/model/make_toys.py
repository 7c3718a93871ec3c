"""Writes the toy models in tests/model/data: random weights, so that tests of the whole path need no training.

Run ``python tests/model/make_toys.py`` after a change of the graph format; the result is checked in.
"""

from pathlib import Path

import numpy as np
import torch

from trilobit.model import MatMulFreeLM, ModelConfig, export_graph

DATA = Path(__file__).parent / "data"
TOYS = {"toy": 1, "toy2": 2}  # name -> layers; from two on, the forget gate has a lower bound


def make(layers: int) -> MatMulFreeLM:
    """A model of V=64, H=32, I=64 with weights that make every operation matter."""
    torch.manual_seed(layers)
    config = ModelConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=layers,
        intermediate_size=64,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = MatMulFreeLM(config)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("norm.weight"):
                value.uniform_(0.5, 1.5)
            elif name.endswith(("embeddings.weight", "lower_bounds")):
                value.normal_()
    return model


if __name__ == "__main__":
    for name, layers in TOYS.items():
        ids = np.random.default_rng(7).integers(0, 64, 4096)
        export_graph(make(layers), DATA / name, calibration_ids=ids, source="4096 random tokens, seed 7")
