"""The plots of the study, from its results: ``docs/fixed-point-study.svg`` and ``docs/fixed-point-state.svg``."""

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")
import matplotlib.pyplot as plt
import numpy as np

__all__ = ["plot"]

BAR = 2e-3  # nats: the mean divergence that a faithful program must stay below
STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "trilobit", "font.size": 8, "axes.grid": True, "grid.alpha": 0.3}


def _study(results: Path, file: Path) -> None:
    studies = [json.loads(f.read_text()) for f in sorted(results.glob("fixed_point_study-*.json"))]
    names = [n for n in max((study["rows"] for study in studies), key=len) if all(n in study["rows"] for study in studies)]
    fig, ax = plt.subplots(figsize=(7.5, 0.24 * len(names) + 1))
    height = 0.8 / len(studies)
    for k, study in enumerate(studies):
        kl = [study["rows"][n]["kl"] for n in names]
        ax.barh(np.arange(len(names)) + k * height, kl, height, label=f"{study['model']}, {study['tokens']:,} positions")
    ax.axvline(BAR, color="black", linestyle="--", linewidth=1, label="bar, 2e-3 nats")
    ax.set(xscale="log", xlim=(3e-5, None), xlabel="mean KL divergence from the reference, nats a token")
    ax.set_yticks(np.arange(len(names)) + 0.4 - height / 2, names)
    ax.invert_yaxis()
    ax.legend()
    fig.tight_layout()
    fig.savefig(file, metadata={"Date": None}, bbox_inches="tight")
    plt.close(fig)


def _state(results: Path, file: Path) -> None:
    data = json.loads((results / "fixed_point_state.json").read_text())
    fig, axes = plt.subplots(1, 3, figsize=(11, 3.6))
    for name, errors in data["largest"].items():
        style = {"linestyle": "--" if "truncated" in name else "-", "color": f"C{['32', '24', '16'].index(name[:2])}"}
        axes[0].plot(data["gates"], errors, label=name, marker=".", **style)
        axes[1].plot(np.arange(10, data["steps"] + 1, 10), data["last_gate"][name], linewidth=1, **style)
    axes[0].axhline(1e-3, color="black", linestyle=":", linewidth=1)
    axes[1].axhline(1e-3, color="black", linestyle=":", linewidth=1)
    axes[0].set(xscale="log", yscale="log", xlabel="gate c = 1 - f", ylabel="relative RMS error", title="largest in 2,000 tokens")
    axes[0].set_xscale("log", base=2)
    axes[0].legend(fontsize=7)
    axes[1].set(yscale="log", xlabel="token", title="c = 2^-13")
    for k, (name, found) in enumerate(data["models"].items()):
        at = (np.arange(len(found["program"][0])) + 0.5) * found["window"]
        axes[2].plot(at, np.max(found["program"], axis=0), color=f"C{k}", label=f"{name}, worst layer")
        axes[2].plot(at, np.max(found["floor"], axis=0), color=f"C{k}", linestyle=":", label=f"{name}, floor")
    axes[2].set(xlabel="token", yscale="log", title="whole models, windows of 50 tokens")
    axes[2].legend(fontsize=7)
    fig.tight_layout()
    fig.savefig(file, metadata={"Date": None})
    plt.close(fig)


def plot(results: Path, docs: Path) -> None:
    """Draw both; each stays below 200 KB."""
    with mpl.rc_context(STYLE):
        _study(results, docs / "fixed-point-study.svg")
        _state(results, docs / "fixed-point-state.svg")
