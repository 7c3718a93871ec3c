"""The training harness: a resumed run is the unbroken one, and how a batch is computed changes nothing."""

import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from trilobit.cli import main as command_line
from trilobit.errors import ConfigError, ModelError
from trilobit.model.baselines import ARCHITECTURES, model_config
from trilobit.model.batches import Batches
from trilobit.model.data import END, character_tokenizer, train_tokenizer
from trilobit.model.distributed import Processes
from trilobit.model.evaluate import mean_loss
from trilobit.model.token_shards import TokenShards, documents, write_shards
from trilobit.model.train import _vocabulary, train
from trilobit.model.trainer import Run
from trilobit.model.training_config import TrainingConfig

GEOMETRY = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 32}
TRAINING = {"steps": 24, "batch_size": 4, "context": 16, "learning_rate": 1e-2, "warmup_steps": 4,
            "evaluate_every": 8, "checkpoint_every": 12}  # fmt: skip


def text_ids(count: int = 4000) -> np.ndarray:
    """Tokens with something to learn: a random walk over the vocabulary."""
    return np.cumsum(np.random.default_rng(3).integers(0, 4, count)) % 50


def losses(folder) -> dict[int, float]:
    return {entry["step"]: entry["loss"] for entry in map(json.loads, (folder / "log.jsonl").read_text().splitlines())}


def run_whole_and_broken(tmp_path, kind: str, device: str, **changes) -> tuple[torch.nn.Module, torch.nn.Module]:
    """A model trained in ``whole`` without a break, and one in ``broken`` that stopped after step 21 and went on from step 12."""
    geometry = model_config({**GEOMETRY, "model_type": kind})
    values = {**TRAINING, "dropout": 0.2, "token_dropout": 0.1, "ema": 0.9, "keep_best": True, "decay_until": 0.5, **changes}
    whole, _ = train(text_ids(), geometry, TrainingConfig(**values), tmp_path / "whole", device=device, quiet=True)

    class StopError(Exception):
        pass

    from trilobit.model import trainer

    step = trainer.Run.step

    def stopping(run, number):
        if number == 21:  # after the checkpoint of step 12 and the log of step 20
            raise StopError
        step(run, number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.Run, "step", stopping)
        with pytest.raises(StopError):
            train(text_ids(), geometry, TrainingConfig(**values), tmp_path / "broken", device=device, quiet=True)
    torch.manual_seed(999)  # what another program would have left
    again, record = train(text_ids(), geometry, TrainingConfig(**values), tmp_path / "broken", resume=True, device=device, quiet=True)
    assert record["step"] == 24 and len(losses(tmp_path / "whole")) == 4
    return whole, again


@pytest.mark.parametrize("kind", ["hgrn_bit", "rwkv4_ternary", "transformer++"])
def test_a_resumed_run_is_the_unbroken_one(tmp_path, kind):
    """Dropout's random numbers, carried states, averages and the log go on as if nothing had happened."""
    whole, again = run_whole_and_broken(tmp_path, kind, "cpu")
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole")
    for (name, a), b in zip(whole.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.gpu
@pytest.mark.parametrize("changes", [{}, {"cuda_graph": True, "dropout": 0.0}], ids=["as it is", "as a graph"])
@pytest.mark.parametrize(("kind", "rounding"), [("hgrn_bit", 0.03), ("transformer++", 1e-3)])
def test_a_resumed_run_on_a_gpu_is_the_unbroken_one_but_for_rounding(tmp_path, kind, rounding, changes):
    """Sums in another order may differ in their last bits there, and an int8 value that flips moves a loss by thousandths."""
    run_whole_and_broken(tmp_path, kind, "cuda", **changes)
    one, two = losses(tmp_path / "whole"), losses(tmp_path / "broken")
    print(one, two)
    assert one.keys() == two.keys() and all(one[n] == pytest.approx(two[n], abs=rounding) for n in one)


def test_a_checkpoint_is_one_file_that_knows_its_step(tmp_path):
    """A run that ends between two files' renames leaves an old record beside new weights: it goes on from the weights' own step."""
    geometry = model_config(GEOMETRY)
    with pytest.raises(ModelError, match="expected a checkpoint to resume from, found none; train without --resume"):
        train(text_ids(), geometry, TrainingConfig(**TRAINING), tmp_path / "none", resume=True, device="cpu", quiet=True)
    train(text_ids(), geometry, TrainingConfig(**TRAINING | {"steps": 12}), tmp_path / "run", device="cpu", quiet=True)
    record = tmp_path / "run" / "checkpoint" / "progress.json"
    shown = json.loads(record.read_text())
    assert shown["step"] == 12
    values = TrainingConfig(**TRAINING)
    for beside in (shown | {"step": 4}, None):
        record.write_text(json.dumps(beside)) if beside else record.unlink()
        run = Run(geometry, values, text_ids(), Processes())
        assert run.resume(tmp_path / "run") == shown


def test_accumulation_changes_nothing_but_rounding(tmp_path):
    geometry = model_config({**GEOMETRY, "model_type": "transformer++"})  # no int8 rounding that a last bit could flip
    for pieces in (1, 4):
        config = TrainingConfig(**TRAINING, accumulate=pieces)
        train(text_ids(), geometry, config, tmp_path / str(pieces), device="cpu", quiet=True)
    one, four = losses(tmp_path / "1"), losses(tmp_path / "4")
    assert one.keys() == four.keys() and all(one[n] == pytest.approx(four[n], abs=1e-4) for n in one)
    with pytest.raises(ConfigError, match="accumulate must be a divisor of batch_size 4, got 3"):
        TrainingConfig(**TRAINING, accumulate=3)


def test_weight_decay_ends_where_it_shall():
    """Up to then the run is that without the end; the step behind it differs by what the decay would have taken off the matrices."""
    geometry = model_config(GEOMETRY)
    runs = [Run(geometry, TrainingConfig(**TRAINING, decay_until=end), text_ids(), Processes()) for end in (0.5, 1.0)]

    def weights() -> list[dict[str, torch.Tensor]]:
        return [{name: p.detach().clone() for name, p in run.model.named_parameters()} for run in runs]

    for step in range(12):
        for run in runs:
            run.step(step)
    before, same = weights()
    assert all(torch.equal(before[name], same[name]) for name in before)
    for run in runs:
        run.step(12)
    ended, decayed = weights()
    rate = runs[0].config.learning_rate_at(12) * runs[0].config.weight_decay
    for name, value in before.items():
        lost = rate * value if value.ndim == 2 and not name.endswith("lower_bounds") else torch.zeros_like(value)
        torch.testing.assert_close(ended[name] - decayed[name], lost, atol=1e-6, rtol=1e-3)


CONFIG = """
model: {model_type: transformer++, vocab_size: 200, hidden_size: 16, num_hidden_layers: 2, intermediate_size: 32}
training: {steps: 24, batch_size: 4, context: 16, learning_rate: 1.0e-2, warmup_steps: 4, evaluate_every: 12, checkpoint_every: 12}
"""


def train_with_one_and_two(tmp_path, config: str, device: str = "cpu") -> dict:
    """One process trains in ``one``, two under torchrun in ``two``; what the command line reports of the latter."""
    (tmp_path / "config.yaml").write_text(config)
    (tmp_path / "text.txt").write_text("\n".join(f"{n} sheep went over the hill, and {n * n % 97} came back." for n in range(900)))
    command = ["train", "--text", str(tmp_path / "text.txt"), "--config", str(tmp_path / "config.yaml"), "--device", device, "--json"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "trilobit"]
    for launch, name, environment in (([sys.executable, "-m", "trilobit"], "one", {}), (torchrun, "two", {"OMP_NUM_THREADS": "1"})):
        done = subprocess.run([*launch, *command, "-o", str(tmp_path / name)], capture_output=True, text=True,
                              env={**os.environ, **environment}, timeout=180)  # fmt: skip
        assert done.returncode == 0, done.stderr
    return json.loads(done.stdout[done.stdout.index("{") :])


@pytest.mark.slow
def test_two_processes_train_the_matmul_free_lm_that_one_trains(tmp_path):
    """With carried states, averages, random input tokens, a batch in pieces; an int8 value that flips moves a loss by thousandths."""
    config = CONFIG.replace("transformer++", "hgrn_bit").replace("steps: 24,", "steps: 60, token_dropout: 0.2, accumulate: 2, ema: 0.9,")
    train_with_one_and_two(tmp_path, config)
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert one.keys() == two.keys() and one[60] < one[12] - 0.3
    print(one, two)
    assert all(one[n] == pytest.approx(two[n], abs=0.03) for n in one)


def test_two_processes_train_the_model_that_one_trains(tmp_path):
    report = train_with_one_and_two(tmp_path, CONFIG)
    assert report["step"] == 24 and "Linear in layers.0.attn.qkv_proj" in report["not_compilable"]
    for argument in (["-o", str(tmp_path / "bundle"), "--core", "tiny"], ["--check"]):
        refused = CliRunner().invoke(command_line, ["compile", str(tmp_path / "two"), *argument])
        assert refused.exit_code == 2 and "can't be mapped onto the machine: module Linear in layers.0.attn.qkv_proj" in refused.output
    assert not (tmp_path / "bundle").exists()
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert one.keys() == two.keys() and all(one[n] == pytest.approx(two[n], abs=1e-4) for n in one)
    held = {name: len(np.unique(np.load(tmp_path / name / "tokens" / "tokens-00000.npy"))) for name in ("one", "two")}
    assert held["one"] == held["two"] > 50


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("kind", "later", "changes"),
    [("transformer++", 1e-3, "steps: 24,"), ("hgrn_bit", 0.2, "steps: 60, token_dropout: 0.2, accumulate: 2, ema: 0.9,")],
)
def test_two_gpus_train_the_model_that_one_trains(tmp_path, kind, later, changes):
    """DistributedDataParallel over NCCL, one process a GPU; after the first steps int8 values that flip drive two runs apart."""
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA GPUs")
    train_with_one_and_two(tmp_path, CONFIG.replace("transformer++", kind).replace("steps: 24,", changes), "cuda")
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    print(one, two)
    assert one.keys() == two.keys() and one[max(one)] < one[12]
    assert one[12] == pytest.approx(two[12], abs=0.01)
    assert all(one[n] == pytest.approx(two[n], abs=later) for n in one)


@pytest.mark.parametrize("device", [pytest.param("cpu", marks=pytest.mark.slow), pytest.param("cuda", marks=pytest.mark.gpu)])
def test_two_processes_train_compiled_layers(tmp_path, device):
    if device == "cuda" and torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA GPUs")
    config = CONFIG.replace("transformer++", "hgrn_bit").replace("steps: 24,", "steps: 60, compile: true,")
    train_with_one_and_two(tmp_path, config, device)
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    print(one, two)
    assert one.keys() == two.keys() and one[60] < one[12]
    assert one[12] == pytest.approx(two[12], abs=0.01)
    assert all(one[n] == pytest.approx(two[n], abs=0.2) for n in one)


def test_rows_that_processes_cannot_share():
    from trilobit.model.batches import Batches

    with pytest.raises(ConfigError, match="multiple of 3 processes x accumulate 1, got 4"):
        Batches(text_ids(), TrainingConfig(**TRAINING), 50, Processes(0, 3))


@pytest.mark.parametrize("token_dropout", [0.0, 0.3])
def test_every_rank_has_its_rows_of_the_batch(token_dropout):
    from trilobit.model.batches import Batches

    config = TrainingConfig(**TRAINING, token_dropout=token_dropout)
    whole = Batches(text_ids(), config, 50, Processes())
    halves = [Batches(text_ids(), config, 50, Processes(rank, 2)) for rank in range(2)]
    for step in (0, 1, 100):
        for part, expected in zip(zip(*(half.batch(step) for half in halves), strict=True), whole.batch(step), strict=True):
            assert torch.equal(torch.cat(part), expected)
    x, y, _ = whole.batch(5)
    same = (x[:, 1:] == y[:, :-1]).float().mean()  # a random token is the right one now and then
    assert same == 1 if not token_dropout else 0.5 < same < 0.9


@pytest.mark.parametrize("piece", [700, 5000, 1 << 20])
def test_shards_hold_the_text_however_it_is_cut(tmp_path, piece):
    from pathlib import Path

    from trilobit.model.data import encode, read_texts

    file = Path(__file__).parent / "data" / "tales_heldout.txt"
    text = read_texts([file])
    tokenizer = train_tokenizer(text, 300)
    expected = np.concatenate([[0], encode(tokenizer, text)])
    shards = write_shards(tokenizer, documents([file], piece), tmp_path / "tokens", first=0, shard_tokens=3000)
    assert np.array_equal(shards[:], expected) and len(shards) == len(expected)
    assert np.array_equal(shards[2990:9010], expected[2990:9010]) and shards[-1] == expected[-1]
    assert shards.characters == len(text)
    assert isinstance(shards._files[0], np.memmap) and shards._files[0].dtype == np.uint16


@pytest.mark.parametrize("text", ["once upon a time  there was a sheep " * 400, "baa" * 5000], ids=["no line end", "no space either"])
def test_a_file_of_one_line_is_not_held_whole(tmp_path, text):
    from trilobit.model.data import encode, read_texts

    (tmp_path / "text.txt").write_text(text)
    pieces = list(documents([tmp_path / "text.txt"], 500))
    assert len(pieces) > 10 and max(map(len, pieces)) <= 1100
    assert "".join(pieces) == read_texts([tmp_path / "text.txt"])
    if " " in text:  # cut where the vocabulary cuts, too: the same tokens
        tokenizer = train_tokenizer(text, 110)
        shards = write_shards(tokenizer, pieces, tmp_path / "tokens")
        assert np.array_equal(shards[:], encode(tokenizer, read_texts([tmp_path / "text.txt"])))


def test_damaged_shards(tmp_path):
    with pytest.raises(ModelError, match="expected token shards"):
        TokenShards(tmp_path)
    tokenizer = character_tokenizer("abc")
    write_shards(tokenizer, ["abcabc"], tmp_path / "tokens")
    np.save(tmp_path / "tokens" / "tokens-00000.npy", np.zeros(3, np.uint16))
    with pytest.raises(ModelError, match="expected 6 tokens, got uint16"):
        TokenShards(tmp_path / "tokens")
    with pytest.raises(ModelError, match="UTF-8 text file"):
        list(documents([tmp_path / "absent.txt"]))


def test_character_vocabulary():
    tokenizer = character_tokenizer(f"hello world\n{END}\n")
    assert tokenizer.get_vocab_size() == 2 + len(set("hello world\n"))
    ids = tokenizer.encode("hold\nor").ids
    assert len(ids) == 7 and tokenizer.decode(ids) == "hold\nor"
    assert tokenizer.encode(f"he\n{END}\nhe").ids.count(0) == 1
    assert tokenizer.encode("x").ids == [1]


def test_a_vocabulary_of_characters_is_found_in_a_file_whose_end_is_marked(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("hello world\n" * 40, encoding="utf-8")
    found = _vocabulary([text], 2 + len(set("hello world\n")), TrainingConfig(**TRAINING, vocabulary="characters"), None)
    assert not {"<", "|"} & set(found.get_vocab())


@pytest.mark.parametrize("kind", sorted(ARCHITECTURES))
def test_held_out_loss_counts_every_token_once(kind):
    """A model that gives every token the same probability has the loss log V, whatever the windows or rows."""
    from trilobit.model.baselines import build_model

    model = build_model(model_config({**GEOMETRY, "model_type": kind})).eval()
    torch.nn.init.zeros_(model.lm_head.weight)
    for length in (2, 9, 16, 17, 23, 24, 25, 60):
        assert mean_loss(model, torch.arange(length) % 50, context=16, chunk=7) == pytest.approx(np.log(50), abs=1e-6)


def test_windows_see_at_least_half_a_context():
    """Counted with a model that notes what it is asked."""

    class Noting:
        is_recurrent = False
        seen: dict[int, int] = {}  # noqa: RUF012

        def __call__(self, ids):
            self.windows.append(ids)
            return torch.zeros(*ids.shape, 100)

    for length in (5, 16, 17, 40, 71):
        model = Noting()
        model.windows = []
        ids = torch.arange(length)
        mean_loss(model, ids, context=16)
        reach: dict[int, int] = {}
        for rows in model.windows:
            for row in rows:
                for place, token in enumerate(row.tolist()):
                    reach[token] = max(reach.get(token, 0), place + 1)
        assert sorted(reach) == list(range(length - 1))
        assert all(reach[token] >= min(token + 1, 8) for token in reach)


@pytest.fixture
def seconds(monkeypatch):
    """A clock that a training step moves by a second, and nothing else does."""
    now = [100.0]
    step = Run.step

    def ticking(run, number):
        now[0] += 1
        step(run, number)

    monkeypatch.setattr(Run, "step", ticking)
    monkeypatch.setattr("trilobit.model.train.time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def read_log(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_the_log_counts_tokens_time_and_rates_also_of_a_run_that_was_resumed_between_two_lines(tmp_path, seconds, monkeypatch):
    """At a step a second every line's rate is a step's tokens; the checkpoint of step 12 lies between the lines of steps 8 and 16."""
    kept = Run.save

    def saving(run, folder, progress):
        kept(run, folder, progress)
        if progress["step"] == 12:
            raise InterruptedError

    config, geometry = TrainingConfig(**TRAINING), model_config(GEOMETRY)
    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(Run, "save", saving)
        train(text_ids(), geometry, config, tmp_path, device="cpu", quiet=True)
    seconds[0] += 1000
    _, record = train(text_ids(), geometry, config, tmp_path, resume=True, device="cpu", quiet=True)
    log = read_log(tmp_path)
    assert [entry["step"] for entry in log] == [8, 16, 20, 24]
    for entry in log:
        assert entry["tokens"] == entry["step"] * 4 * 16
        assert entry["epochs"] == round(entry["tokens"] / int(4000 * 0.98), 3)
        assert entry["seconds"] == entry["step"]
        assert entry["tokens_per_second"] == 4 * 16
        assert entry["learning_rate"] == config.learning_rate_at(entry["step"] - 1)
    assert [entry["held_out_step"] for entry in log] == [8, 16, 16, 24]
    assert record == log[-1]


def test_tokens_go_on_counting_where_a_run_is_resumed_with_another_context(tmp_path, seconds):
    """12 steps of 4 x 16 tokens, then as many of 4 x 8."""
    geometry = model_config(GEOMETRY)
    train(text_ids(), geometry, TrainingConfig(**{**TRAINING, "steps": 12}), tmp_path, device="cpu", quiet=True)
    train(text_ids(), geometry, TrainingConfig(**{**TRAINING, "context": 8}), tmp_path, resume=True, device="cpu", quiet=True)
    log = [(entry["step"], entry["tokens"], entry["tokens_per_second"]) for entry in read_log(tmp_path)]
    assert log == [(8, 512, 64), (12, 768, 64), (16, 896, 32), (20, 1024, 32), (24, 1152, 32)]


def test_the_logged_norm_is_that_of_the_gradient_before_it_is_clipped(tmp_path):
    """A learning rate so small that the weights stay: the last line's loss and norm computed once more without the trainer."""
    values = {**TRAINING, "steps": 1, "warmup_steps": 0, "learning_rate": 1e-12, "weight_decay": 0.0, "clip": 0.01}
    model, record = train(text_ids(), model_config(GEOMETRY), TrainingConfig(**values), tmp_path, device="cpu", quiet=True)
    batches = Batches(text_ids()[: int(4000 * 0.98)], TrainingConfig(**values), 50, Processes())
    x, y, _ = batches.batch(0)
    logits, _, _ = model.train().forward_all(x, model.init_state(4))
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten())
    loss.backward()
    norm = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm()
    assert record["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert record["gradient_norm"] == pytest.approx(float(norm), rel=1e-4) and norm > 0.1


def test_the_best_weights_are_named_with_their_loss_and_step(tmp_path, monkeypatch):
    """The held-out loss of the weights that are kept, which are not the last ones."""
    found = iter([3.0, 2.0, 5.0])
    monkeypatch.setattr("trilobit.model.train.mean_loss", lambda *arguments, **options: next(found))
    config = TrainingConfig(**TRAINING, keep_best=True)
    _, record = train(text_ids(), model_config(GEOMETRY), config, tmp_path, device="cpu", quiet=True)
    assert [(entry["held_out_loss"], entry["held_out_step"]) for entry in read_log(tmp_path)] == [(3.0, 8), (2.0, 16), (2.0, 16), (5.0, 24)]
    assert {key: record[key] for key in ("held_out_loss", "held_out_step", "best_loss", "best_step")} == {
        "held_out_loss": 2.0, "held_out_step": 16, "best_loss": 2.0, "best_step": 16,
    }  # fmt: skip


def test_plot_of_the_log(tmp_path):
    """The points of both lines lie where the log says, read off the SVG by its ticks; a held-out loss is drawn once, at its own step."""
    pytest.importorskip("matplotlib")
    from trilobit.model.loss_plot import plot_log

    held = {20: 4.0, 40: 4.0, 60: 2.5}
    log, last = [], 0
    for step in range(10, 70, 10):
        last = step if step in held else last
        log.append({"step": step, "tokens": step * 64, "loss": 5 - step / 20, "held_out_step": last, "held_out_loss": held.get(last)})
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in log))
    assert plot_log(tmp_path) == tmp_path / "loss.svg"
    root = ElementTree.parse(tmp_path / "loss.svg").getroot()
    svg = "{http://www.w3.org/2000/svg}"

    def points(name: str) -> list[tuple[float, float]]:
        path = root.find(f".//{svg}g[@id='{name}']/{svg}path").get("d")
        return [(float(x), float(y)) for x, y in re.findall(r"[ML] (\S+) (\S+)", path)]

    training, held_out = points("loss"), points("held-out")
    (x0, y0), (x1, y1) = training[0], training[-1]  # the scale follows from two points whose values are known

    def values(drawn: list[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(round(640 + (x - x0) / (x1 - x0) * 3200, 2), round(4.5 - (y - y0) / (y1 - y0) * 2.5, 4)) for x, y in drawn]

    assert values(training) == [(entry["tokens"], entry["loss"]) for entry in log]
    assert values(held_out) == [(step * 64, loss) for step, loss in held.items()]
    assert {path.name for path in tmp_path.iterdir()} == {"log.jsonl", "loss.svg"}
