"""A model with one channel of the residual stream far above the others, as large models have, and how it fares."""

from pathlib import Path
from typing import Any

import numpy as np
from fixed_point_machine import Arithmetic, Machine

from trilobit.evaluation import FLOOR_NOISE, Tally

__all__ = ["outlier", "with_outlier"]

RATIOS = (1, 300, 1000, 3000, 10000)


def with_outlier(folder: Path, output: Path, ratio: float, calibration_ids: list[int], channel: int = 5) -> None:
    """Export a model whose embedding has one channel at ``ratio`` times the median channel's rms (1: as it is).

    The gains of the norms that read the residual stream undo the factor, so the model still predicts; the channel stays where it
    is through all layers, while the others grow by what layers add.
    """
    import torch

    from trilobit.model import export_graph, load_pretrained

    model = load_pretrained(folder)
    if ratio != 1:
        with torch.no_grad():
            table = model.model.embeddings.weight
            sizes = table.square().mean(0).sqrt()
            others = torch.cat([sizes[:channel], sizes[channel + 1 :]])
            factor = ratio * float(others.median() / sizes[channel])
            table[:, channel] *= factor
            for norm in [model.model.norm, *(n for layer in model.layers for n in (layer.attn_norm, layer.mlp_norm))]:
                norm.weight[channel] /= factor
    export_graph(model, output, calibration_ids=calibration_ids, tokenizer=folder / "tokenizer.json")


def _with_rounded_embeddings(folder: Path, inputs: np.ndarray, exact: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """The reference itself, its embedding alone rounded to the 16 bits of the program's table."""
    import torch
    from fixed_point import compare, row_of

    from trilobit.model import load_pretrained

    point = next(v.point for v in Arithmetic().compile(folder).values if v.op == "emb")
    model, tally = load_pretrained(folder), Tally()
    with torch.no_grad():
        table = model.model.embeddings.weight
        table.copy_((table * 2.0**point).round() / 2.0**point)
        logits = model.forward_all(torch.from_numpy(np.ascontiguousarray(inputs.T)))[0].numpy()
    for t in range(len(inputs)):
        compare(logits[:, t], exact[t], targets[t], tally)
    return row_of(tally)


def outlier(name: str, model: str, text: Path, count: int, length: int, work: Path) -> None:
    """Each ratio with the product's arithmetic and with operands of the norm unit of 24 bits; ranges from the text behind."""
    from fixed_point import compare, folder_of, reference, row_of, save, streams

    folder = folder_of(model)
    inputs, targets = (x[:, :count] for x in streams(folder, text, 2 * count, length))
    behind = streams(folder, text, 2 * count, length)[0][:, count:].T.ravel().tolist()
    data: dict[str, Any] = {"model": name, "text": text.name, "tokens": count * length, "rows": []}
    for ratio in RATIOS:
        with_outlier(folder, made := work / f"outlier-{ratio}", ratio, behind)
        exact, _ = reference(made, inputs)
        noisy, _ = reference(made, inputs, FLOOR_NOISE)
        tally = Tally()
        for t in range(length):
            compare(noisy[t], exact[t], targets[t], tally)
        row: dict[str, Any] = {"ratio": ratio, "floor": row_of(tally)}
        for operand_bits in (18, 24):
            arithmetic, tally = Arithmetic(operand_bits=operand_bits), Tally()
            machine = Machine(arithmetic.compile(made), count, arithmetic)
            for t in range(length):
                compare(machine.step(inputs[t]), exact[t], targets[t], tally)
            row[f"operands of {operand_bits} bits"] = found = {**row_of(tally), "saturated": machine.saturated}
            print(f"{name}: ratio {ratio}, {operand_bits} bits: KL {found['kl']:.2e} (floor {row['floor']['kl']:.2e}) top-1 "
                  f"{found['top1_agreement']:.2%} ({row['floor']['top1_agreement']:.2%}) loss {found['loss_change']:+.3%} "
                  f"saturated {machine.saturated}", flush=True)  # fmt: skip
        row["float with the table's embeddings"] = _with_rounded_embeddings(made, inputs, exact, targets)
        data["rows"].append(row)
    save("fixed_point_outlier.json", data)
