"""Studies of quality: several small models trained side by side on one GPU, from a list of runs.

    python bench/quality.py STUDY.yaml --data FOLDER --out FOLDER [--only NAME...] [--at-once N] [--seconds S]

A study lists its corpora (token shards that ``--prepare`` wrote) and its runs: the ``model`` and ``training`` sections of
a configuration file each, ``defaults`` for all. Runs share the GPU: each has a CUDA stream and, with ``cuda_graph``, its
step as one graph. Results go to ``results.jsonl``, a line a run; with ``keep: true`` its weights too (packed; the
full-precision baselines as fp16). A run that was not reached before ``--seconds`` is left out, and said so.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import save_file

from trilobit.model.baselines import model_config
from trilobit.model.checkpoint import save_packed
from trilobit.model.data import character_tokenizer, load_tokenizer
from trilobit.model.distributed import Processes
from trilobit.model.evaluate import mean_loss
from trilobit.model.token_shards import TokenShards, write_shards
from trilobit.model.trainer import Run
from trilobit.model.training_config import TrainingConfig


def prepare(shakespeare: Path, tales: Path, vocabulary: Path, out: Path) -> None:
    """Token shards of both corpora: ``shakespeare`` and ``shakespeare-valid`` (90% and 10%), ``tales`` and ``tales-valid``.

    Every part begins with the end mark, from which the first token is predicted.
    """
    text = (shakespeare / "input.txt").read_text(encoding="utf-8")
    cut = len(text) * 9 // 10
    characters = character_tokenizer(text)
    characters.save(str(out / "shakespeare-tokenizer.json"))
    pairs = load_tokenizer(vocabulary)
    parts = {"shakespeare": (characters, text[:cut]), "shakespeare-valid": (characters, text[cut:])}
    for name, file in (("tales", "train.txt"), ("tales-valid", "valid.txt")):
        parts[name] = (pairs, (tales / file).read_text(encoding="utf-8"))
    for name, (tokenizer, part) in parts.items():
        shards = write_shards(tokenizer, [part], out / name, first=0)
        print(f"{name}: {len(shards):,} tokens, {shards.characters:,} characters")


class Job:
    """A run of the study: its training, its held-out text, and what is written about it."""

    def __init__(self, entry: dict[str, Any], data: Path, processes: Processes):
        self.entry, self.device = entry, processes.device
        self.name = entry["name"]
        self.config = TrainingConfig(**entry["training"])
        corpus = entry["data"]
        self.ids = TokenShards(data / corpus)
        valid = TokenShards(data / f"{corpus}-valid")
        self.held_out = torch.from_numpy(np.asarray(valid[:], dtype=np.int64)).to(self.device)
        self.characters = valid.characters
        torch.set_float32_matmul_precision("high")
        self.run = Run(model_config(entry["model"]), self.config, self.ids[:], processes)
        self.started = time.monotonic()
        self.curve: list[tuple[int, float, float]] = []  # step, loss of the batch, held-out loss
        self.done = 0
        self.failed: str | None = None

    def advance(self) -> bool:
        """One step, and what is due after it; whether there is more to do."""
        self.run.step(self.done)
        self.done += 1
        last = self.done == self.config.steps
        if self.done % self.config.evaluate_every == 0 or last:
            self.run.wait()
            loss = float(self.run.loss)
            if not math.isfinite(loss):
                self.failed = f"the loss is {loss} after {self.done} steps"
                return False
            with self.run.weights(self.run.average) as model:
                rows = min(16, len(self.held_out) // 2048 or 1)
                held = mean_loss(model, self.held_out, rows, chunk=512, context=self.config.context)
            if self.config.keep_best and held < min((c[2] for c in self.curve), default=math.inf):
                self.run.remember()
            self.curve.append((self.done, loss, held))
        return not last

    def finish(self, out: Path) -> dict[str, Any]:
        """The result as one record; weights are written if the study keeps them."""
        self.run.wait()
        run, config = self.run, self.config
        parameters = sum(p.numel() for p in run.model.parameters())
        ternary = sum(m.weight.numel() for m in run.model.modules() if type(m).__name__ == "BitLinear")
        tokens = config.steps * config.batch_size * config.context
        record: dict[str, Any] = {
            "name": self.name, "data": self.entry["data"], "model": self.entry["model"], "training": self.entry["training"],
            "parameters": parameters, "ternary": ternary, "tokens": tokens, "epochs": round(tokens / len(self.ids), 2),
            "seconds": round(time.monotonic() - self.started, 1), "failed": self.failed,
            "curve": [(n, round(a, 4), round(b, 4)) for n, a, b in self.curve],
        }  # fmt: skip
        if self.failed is None:
            run.load(run.result)
            run.model.eval()
            rows = min(16, len(self.held_out) // 2048 or 1)
            with torch.compiler.set_stance("force_eager"):
                loss = mean_loss(run.model, self.held_out, rows, chunk=512, context=config.context)
            record["held_out_loss"] = round(loss, 5)
            record["bits_per_character"] = round(loss * (len(self.held_out) - 1) / (math.log(2) * self.characters), 5)
            if self.entry.get("keep"):
                model = run.model.cpu()
                folder = out / "weights" / self.name
                if ternary:
                    save_packed(model, folder)
                else:
                    folder.mkdir(parents=True, exist_ok=True)
                    tensors = {name: value.half().contiguous() for name, value in model.state_dict().items()}
                    save_file(tensors, folder / "model.safetensors")
                    (folder / "config.json").write_text(json.dumps(model.config.to_dict(), indent=2) + "\n")
        return record


def runs(study: dict[str, Any], only: list[str]) -> Iterator[dict[str, Any]]:
    """The study's runs with the defaults filled in; those whose name holds one of ``only``."""
    defaults = study.get("defaults", {})
    for entry in study["runs"]:
        if only and not any(part in entry["name"] for part in only):
            continue
        merged = {**defaults, **entry}
        for section in ("model", "training"):
            merged[section] = {**defaults.get(section, {}), **entry.get(section, {})}
        yield merged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, nargs="?")
    parser.add_argument("--data", type=Path, required=True, help="folder of the token shards")
    parser.add_argument("--out", type=Path, help="folder for the results")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="runs whose name holds one of these")
    parser.add_argument("--at-once", type=int, default=1, help="runs side by side")
    parser.add_argument("--seconds", type=float, default=math.inf, help="start no run after that time; stop at 1.2 times that")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--prepare", nargs=3, type=Path, metavar=("SHAKESPEARE", "TALES", "TOKENIZER"), help="write the shards")
    arguments = parser.parse_args()
    if arguments.prepare:
        arguments.data.mkdir(parents=True, exist_ok=True)
        prepare(*arguments.prepare, arguments.data)
        return
    started = time.monotonic()
    waiting = list(runs(yaml.safe_load(arguments.study.read_text(encoding="utf-8")), arguments.only))
    arguments.out.mkdir(parents=True, exist_ok=True)
    results = arguments.out / "results.jsonl"
    processes = Processes(device=torch.device(arguments.device))
    active: list[Job] = []
    while active or waiting:
        passed = time.monotonic() - started
        while waiting and len(active) < arguments.at_once and passed < arguments.seconds:
            active.append(Job(waiting.pop(0), arguments.data, processes))
        if not active:
            break
        for job in list(active):
            if job.advance():
                continue
            record = job.finish(arguments.out)
            with results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
            figure = record.get("held_out_loss", record["failed"])
            print(f"{time.monotonic() - started:6.0f} s  {job.name:40s} {figure}  ({record['seconds']} s)", flush=True)
            active.remove(job)
            del job
    for entry in waiting:
        print(f"not reached: {entry['name']}")


if __name__ == "__main__":
    main()
