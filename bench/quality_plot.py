"""The plot and the tables of the scaling study, from ``bench/results/quality.jsonl``.

    python bench/quality_plot.py [-o docs/scaling.svg]

Each size counts with its best learning rate. Bytes of weights: ternary matrices at 1.6 bits, everything else, and all of
Transformer++, at 16 bits.
"""

import argparse
import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SIZES = {64: "s1", 128: "s2", 192: "s3", 256: "s4", 384: "s5"}


def results() -> list[dict[str, Any]]:
    """The records of the scaling study."""
    lines = (HERE / "results" / "quality.jsonl").read_text(encoding="utf-8").splitlines()
    return [record for record in map(json.loads, lines) if record["study"] == "scaling"]


def weight_bytes(record: dict[str, Any]) -> float:
    """Bytes of a model's weights as they would be stored."""
    return record["ternary"] / 5 + 2 * (record["parameters"] - record["ternary"])


def best() -> dict[str, dict[str, dict[str, Any]]]:
    """architecture -> size -> the record of its best learning rate."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for record in results():
        sizes = found.setdefault(record["model"].get("model_type", "hgrn_bit"), {})
        size = SIZES[record["model"]["hidden_size"]]
        if size not in sizes or record["held_out_loss"] < sizes[size]["held_out_loss"]:
            sizes[size] = record
    return found


def main() -> None:
    from matplotlib.figure import Figure

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=HERE.parent / "docs" / "scaling.svg", help="an SVG or PNG")
    out = parser.parse_args().output
    found = best()
    figure = Figure(figsize=(9, 4), layout="constrained")
    names = {
        "hgrn_bit": "MatMul-free LM",
        "transformer++": "Transformer++",
        "rwkv4_ternary": "ternary RWKV-4",
        "bitnet_b1.58": "BitNet b1.58",
    }
    left, right = figure.subplots(1, 2, sharey=True)
    for kind, name in names.items():
        points = [found[kind][size] for size in sorted(found[kind])]
        bits = [record["bits_per_character"] for record in points]
        style = "o-" if len(points) > 1 else "x"
        left.plot([record["parameters"] / 1e6 for record in points], bits, style, label=name)
        right.plot([weight_bytes(record) / 1e6 for record in points], bits, style, label=name)
    left.set(xscale="log", xlabel="parameters, million", ylabel="bits per character, held out")
    right.set(xscale="log", xlabel="weights, MB (ternary 1.6 bits, others 16)")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(out, format="svg")
    print("| size | H, L, I | parameters | MatMul-free LM | (rate, bytes) | Transformer++ | (rate, bytes) | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for size in sorted(found["hgrn_bit"]):
        ours, theirs = found["hgrn_bit"][size], found["transformer++"][size]
        model = ours["model"]
        cells = [
            size,
            f"{model['hidden_size']}, {model['num_hidden_layers']}, {model['intermediate_size']}",
            f"{ours['parameters']:,}",
            *(
                cell
                for record in (ours, theirs)
                for cell in (
                    f"{record['bits_per_character']:.4f}",
                    f"{record['training']['learning_rate']:g}, {weight_bytes(record) / 1e6:.2f} MB",
                )
            ),
            f"{ours['bits_per_character'] / theirs['bits_per_character']:.3f}",
        ]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
