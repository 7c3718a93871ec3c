"""The plot of a training log: loss and held-out loss over tokens, as SVG. Needs matplotlib (``trilobit[report]``)."""

import json
from pathlib import Path

__all__ = ["plot_log"]


def plot_log(folder: str | Path) -> Path | None:
    """Draw ``log.jsonl`` of a training folder as ``loss.svg`` beside it.

    Returns:
        The plot's path; None where matplotlib is not installed or the log holds nothing yet.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return None
    folder = Path(folder)
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    if not log:
        return None
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([entry["tokens"] for entry in log], [entry["loss"] for entry in log], linewidth=0.8, label="training batch", gid="loss")
    held = [entry for entry in log if entry["held_out_step"] == entry["step"]]
    axes.plot([entry["tokens"] for entry in held], [entry["held_out_loss"] for entry in held], "o-", label="held out", gid="held-out")
    axes.set(xlabel="tokens", ylabel="loss, nats per token")
    axes.grid(alpha=0.3)
    axes.legend()
    temporary = folder / ".loss.svg"
    figure.savefig(temporary, format="svg")
    return temporary.replace(folder / "loss.svg")
