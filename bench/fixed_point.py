"""What fixed point costs: fidelity of the shipped arithmetic, and what other widths, tables and roundings would give.

::

    python bench/fixed_point.py fidelity NAME MODEL TEXT    # trilobit eval on both backends, 20,480 tokens
    python bench/fixed_point.py study NAME MODEL TEXT       # a row a variant
    python bench/fixed_point.py state [NAME MODEL TEXT]...  # error of the recurrent state over 2,000 tokens
    python bench/fixed_point.py outlier NAME MODEL TEXT     # one channel of the residual stream far above the others
    python bench/fixed_point.py plot                        # docs/fixed-point-*.svg from the results

MODEL is a folder (or a shipped name), TEXT held-out text of its kind; results go to ``bench/results/fixed_point_*.json``, what takes
long is kept under ``--work``. Everything computed here is the functional semantics' integers (:mod:`fixed_point_machine`) against the
PyTorch reference, which has fp64 vectors and exact integer products.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from fixed_point_machine import Arithmetic, Machine

from trilobit.assembler.compiler.pipeline import resolve
from trilobit.errors import ModelError
from trilobit.evaluation import FLOOR_NOISE, Tally, read_text
from trilobit.machine import commit
from trilobit.output import write_text

RESULTS, DOCS = Path(__file__).parent / "results", Path(__file__).parent.parent / "docs"
CORE = "ulx3s"

VARIANTS: dict[str, Arithmetic] = {
    "chosen": Arithmetic(),
    "narrow 10 bits": Arithmetic(narrow_bits=10),
    "narrow 12 bits": Arithmetic(narrow_bits=12),
    "narrow 14 bits": Arithmetic(narrow_bits=14),
    "narrow 18 bits": Arithmetic(narrow_bits=18),
    "sums 16 bits": Arithmetic(sum_bits=16),
    "sums 20 bits": Arithmetic(sum_bits=20),
    "sums 24 bits": Arithmetic(sum_bits=24),
    "state 12 bits": Arithmetic(state_bits=12),
    "state 16 bits": Arithmetic(state_bits=16),
    "state 24 bits": Arithmetic(state_bits=24),
    "norm operands 14 bits": Arithmetic(operand_bits=14),
    "norm operands 16 bits": Arithmetic(operand_bits=16),
    "norm operands 22 bits": Arithmetic(operand_bits=22),
    "tables 2^2": Arithmetic(exp2_bits=2, recip_bits=2),
    "tables 2^4": Arithmetic(exp2_bits=4, recip_bits=4),
    "tables 2^6": Arithmetic(exp2_bits=6, recip_bits=6),
    "tables 2^10": Arithmetic(exp2_bits=10, recip_bits=10),
    "tables 2^8, not interpolated": Arithmetic(interpolate=False),
    "truncation of all results": Arithmetic(results="truncate"),
    "truncation of the state": Arithmetic(state="truncate"),
    "truncation of a 16-bit state": Arithmetic(state="truncate", state_bits=16),
    "int8 half to even": Arithmetic(quantiser="half even"),
    "int8 truncated": Arithmetic(quantiser="truncate"),
    "all finer": Arithmetic(narrow_bits=24, operand_bits=24, exp2_bits=11, recip_bits=11),
}


def folder_of(model: str) -> Path:
    """A shipped model's folder, or the folder given."""
    folder = resolve(model)
    if folder is None:
        raise ModelError(f"expected a model's folder or a shipped name, got {model!r}")
    return Path(folder)


def save(name: str, data: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    write_text(RESULTS / name, json.dumps(data | {"commit": commit()}, indent=1) + "\n")


# ---- fidelity ------------------------------------------------------------------------------------------------------------


def fidelity(name: str, model: str, text: Path, tokens: int, count: int, work: Path) -> None:
    """``trilobit eval`` on both backends; its JSON is kept under ``work`` and not computed again."""
    folder, bundle = folder_of(model), work / name
    work.mkdir(parents=True, exist_ok=True)
    cli = [sys.executable, "-m", "trilobit"]
    if not bundle.is_dir():
        subprocess.run([*cli, "compile", folder, "--core", CORE, "--store-logits", "-o", bundle], check=True)
    row: dict[str, Any] = {"model": name, "core": CORE, "text": text.name}
    for backend in ("functional", "torch"):
        kept = work / f"{name}-{backend}.json"
        if not (kept.is_file() and kept.stat().st_size):
            command: list[Any] = [*cli, "eval", "--bundle", bundle, "--text", text, "--reference", folder, "--streams", str(count)]
            command += ["-n", str(tokens), "--backend", backend, "--json"]
            write_text(kept, subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        data = json.loads(kept.read_text())
        row[backend] = {k: v for k, v in data.items() if k not in ("bundle", "text", "model", "core", "backend")}
    save(f"fixed_point_fidelity-{name}.json", row)
    print(json.dumps(row, indent=1))


# ---- streams and the reference -------------------------------------------------------------------------------------------


def streams(folder: Path, text: Path, count: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """The beginning of a text as ``count`` streams of inputs and of targets, [length, count] each."""
    start = json.loads((folder / "config.json").read_text())["eos_token_id"]
    tokens = read_text(text, folder / "tokenizer.json", start, count * length)
    if len(tokens.targets) < count * length:
        raise ModelError(f"{text}: expected at least {count * length} tokens, got {len(tokens.targets)}")
    return tokens.inputs.reshape(count, length).T, tokens.targets.reshape(count, length).T


def reference(folder: Path, inputs: np.ndarray, noise: float = 0.0, chunk: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """The reference's logits [T, B, V] and states [L, T, B, H] for inputs [T, B]; noise as ``reference_logits`` has it."""
    import torch

    from trilobit.model.checkpoint import load_pretrained

    model, generator = load_pretrained(folder), torch.Generator().manual_seed(1)
    if noise:
        model.model.embeddings.register_forward_hook(
            lambda _module, _inputs, e: e.double() + noise * torch.randn(e.shape, generator=generator, dtype=torch.float64)
        )
    ids = torch.from_numpy(np.ascontiguousarray(inputs.T))
    logits, states, state = [], [], None
    with torch.no_grad():
        for start in range(0, ids.shape[1], chunk):
            h, _, s = model.model(ids[:, start : start + chunk], state)
            state = torch.stack([each[:, -1] for each in s])
            logits.append(model.lm_head(h).float().numpy())
            states.append(torch.stack(s).numpy())
    return np.concatenate(logits, 1).transpose(1, 0, 2), np.concatenate(states, 2).transpose(0, 2, 1, 3)


def compare(logits: np.ndarray, exact: np.ndarray, targets: np.ndarray, tally: Tally) -> None:
    """One position of all streams: logits [B, V] each, targets [B]."""
    for got, want, target in zip(logits, exact, targets.tolist(), strict=True):
        tally.add(got, target, want)


def row_of(tally: Tally) -> dict[str, float]:
    score = tally.score(1, compared=True)
    assert score.reference_loss is not None and score.kl is not None and score.top1 is not None
    return {"kl": score.kl, "top1_agreement": score.top1, "loss": score.loss, "loss_change": score.loss / score.reference_loss - 1}


# ---- the study -----------------------------------------------------------------------------------------------------------


def study(name: str, model: str, text: Path, count: int, length: int, only: list[str]) -> None:
    """Every variant over the same positions; with ``only`` those, beside the rows that are there."""
    folder = folder_of(model)
    inputs, targets = streams(folder, text, count, length)
    exact, _ = reference(folder, inputs)
    data: dict[str, Any] = {"model": name, "core": CORE, "text": text.name, "streams": count, "tokens": count * length, "rows": {}}
    there = RESULTS / f"fixed_point_study-{name}.json"
    if only:
        before = json.loads(there.read_text())
        if {**before, "rows": {}} != data:
            raise ModelError(f"{there}: expected the same text and positions to add rows to, got {before['tokens']} tokens")
        data = before
    for noise in (FLOOR_NOISE, 1e-5, 1e-4):
        noisy, _ = reference(folder, inputs, noise)
        tally = Tally()
        for t in range(length):
            compare(noisy[t], exact[t], targets[t], tally)
        data["rows"][f"float, {noise:g} noise"] = row_of(tally)
    for variant, arithmetic in VARIANTS.items():
        if only and variant not in only:
            continue
        begin, tally = time.perf_counter(), Tally()
        machine = Machine(arithmetic.compile(folder, CORE), count, arithmetic)
        for t in range(length):
            compare(machine.step(inputs[t]), exact[t], targets[t], tally)
        changed = {k: v for k, v in asdict(arithmetic).items() if v != getattr(Arithmetic(), k)}
        row = {**row_of(tally), "saturated": machine.saturated, "changed": changed}
        data["rows"][variant] = row
        order = [n for n in data["rows"] if n.startswith("float")] + list(VARIANTS)
        data["rows"] = {n: data["rows"][n] for n in order if n in data["rows"]}
        print(f"{name}: {variant:30} KL {row['kl']:.3e} top-1 {row['top1_agreement']:.3%} loss {row['loss_change']:+.3%} "
              f"saturated {row['saturated']} ({time.perf_counter() - begin:.0f} s)", flush=True)  # fmt: skip
        save(f"fixed_point_study-{name}.json", data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["fidelity", "study", "state", "outlier", "plot"])
    parser.add_argument("models", nargs="*", metavar="NAME MODEL TEXT")
    parser.add_argument("--tokens", type=int, default=20480, help="of fidelity")
    parser.add_argument("--streams", type=int, default=16, help="texts read side by side")
    parser.add_argument("--length", type=int, default=256, help="tokens of each")
    parser.add_argument("--only", action="append", default=[], choices=VARIANTS, help="variants to measure (again), of study")
    parser.add_argument("--work", type=Path, default=Path("build/fixed_point"))
    given = parser.parse_args()
    if len(given.models) % 3:
        parser.error("expected NAME MODEL TEXT for each model")
    triples = [(n, m, Path(t)) for n, m, t in zip(*[iter(given.models)] * 3, strict=True)]
    if given.what == "plot":
        from fixed_point_plot import plot

        plot(RESULTS, DOCS)
    elif given.what == "state":
        from fixed_point_state import state

        state(triples, given.streams, given.length)
    for name, model, text in triples:
        if given.what == "fidelity":
            fidelity(name, model, text, given.tokens, given.streams, given.work)
        elif given.what == "outlier":
            from fixed_point_outlier import outlier

            outlier(name, model, text, given.streams, given.length, given.work)
        elif given.what == "study":
            study(name, model, text, given.streams, given.length, given.only)


if __name__ == "__main__":
    main()
