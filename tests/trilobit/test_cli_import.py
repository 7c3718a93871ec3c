"""From a published checkpoint to text, by the command line: synthesize, inspect, import, compile, run, export."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from trilobit.cli import main

TALES = Path(__file__).parents[2] / "model" / "pretrained" / "tales"
GEOMETRY = "32/2/48/260"


def call(*arguments, code=0):
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exit_code == code, result.output
    return result


def as_json(*arguments):
    return json.loads(call(*arguments, "--json").stdout)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A tiny model whose tokens are the bytes, 260 with four that never occur."""
    folder = tmp_path_factory.mktemp("import") / "source"
    call("synthesize", GEOMETRY, "-o", folder, "--seed", 3, "--shard-bytes", 20_000)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {c: n for n, c in enumerate(alphabet)} | {f"<{n}>": n for n in range(256, 260)}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizerFast"}')
    return folder


@pytest.fixture(scope="module")
def packed(source):
    folder = source.parent / "packed"
    call("import", source, "-o", folder)
    return folder


@pytest.fixture(scope="module")
def text(source):
    path = source.parent / "text.txt"
    path.write_text("Once upon a time there was a króna. " * 20)
    return path


def test_synthesize_says_what_it_wrote_and_repeats_itself(source, tmp_path):
    again = as_json("synthesize", GEOMETRY, "-o", tmp_path / "again", "--seed", 3, "--shard-bytes", 20_000)
    assert again["parameters"] == 260 * 32 * 2 + 2 * 32 + 2 * (4 * 32 * 32 + 3 * 32 * 48 + 8 * 32 + 48) + 64
    assert len(again["files"]) > 2
    for name in again["files"]:
        assert (tmp_path / "again" / name).read_bytes() == (source / name).read_bytes()
    other = as_json("synthesize", GEOMETRY, "-o", tmp_path / "other", "--seed", 4, "--shard-bytes", 20_000)
    assert other["bytes"] == again["bytes"]
    assert all((tmp_path / "other" / name).read_bytes() != (source / name).read_bytes() for name in other["files"])
    assert "exists; expected a new folder" in call("synthesize", GEOMETRY, "-o", source, code=2).output
    assert "expected a geometry (370m, 1.3b, 2.7b)" in call("synthesize", "7b", "-o", tmp_path / "x", code=2).output


def test_import_reports_geometry_sizes_and_calibration(source, text, tmp_path):
    found = as_json("import", source, "-o", tmp_path / "packed", "--calibrate", text, "--calibrate-tokens", 100)
    assert found["geometry"]["hidden_size"] == 32 and found["geometry"]["intermediate_size"] == 48
    assert found["tokenizer"] and found["notes"] == []
    assert found["packed_bytes"] < found["source_bytes"] and found["seconds"] > 0
    assert found["calibration"]["tokens"] == 100 and found["calibration"]["source"] == "text.txt" and found["calibration"]["seconds"] > 0
    graph = json.loads((tmp_path / "packed" / "graph.json").read_text())
    assert graph["calibration"] == {"tokens": 100, "source": "text.txt"}
    shown = call("import", source, "-o", tmp_path / "packed").output
    assert "H 32, L 2, I 48, V 260" in shown and "estimated from the weights" in shown


def test_inspect_shows_the_same_of_both_forms(source, packed):
    before, after = as_json("inspect", source), as_json("inspect", packed)
    assert (before["kind"], after["kind"]) == ("published", "packed")
    assert before["matrices"] == after["matrices"] and before["geometry"] == after["geometry"]
    assert before["dtypes"] == ["BF16"] and after["dtypes"] is None
    assert after["matrices"]["gate_proj"]["count"] == 2 and after["matrices"]["gate_proj"]["shape"] == [96, 32]
    low, mean, high = after["matrices"]["lm_head"]["share_of_zeros"]
    assert low == mean == high and 0.25 < mean < 0.37
    assert after["tokenizer"]["tokens"] == 260 and after["ternary_weights"] == 260 * 32 + 2 * (4 * 32 * 32 + 3 * 32 * 48)
    assert after["calibration"]["tokens"] == 0
    shown = call("inspect", packed).output
    assert "gate_proj" in shown and "260 tokens" in shown


def test_inspect_counts_what_is_there():
    """The shares of zeros of the shipped model, against its unpacked matrices."""
    from trilobit.isa.trits import unpack

    tensors = load_file(TALES / "model.safetensors")
    shares = [np.mean(unpack(tensors[f"model.layers.{n}.attn.o_proj.weight"], 256) == 0) for n in range(8)]
    scales = [float(tensors[f"model.layers.{n}.attn.o_proj.scale"][0]) for n in range(8)]
    found = as_json("inspect", TALES)["matrices"]["o_proj"]
    assert found["share_of_zeros"] == pytest.approx([min(shares), np.mean(shares), max(shares)])
    assert found["scale"] == pytest.approx([min(scales), np.mean(scales), max(scales)])


def test_inspect_of_a_graph_without_a_published_model_says_what_it_is(tmp_path):
    """A trained RWKV, or an own module, has a graph and no config.json."""
    (tmp_path / "graph.json").write_text("{}")
    assert "compile it and inspect the bundle" in call("inspect", tmp_path, code=2).output


def test_models_that_ship_go_by_their_name(tmp_path):
    assert as_json("inspect", "tales")["matrices"] == as_json("inspect", TALES)["matrices"]
    assert as_json("export", "tales", "-o", tmp_path / "out")["parameters"] == 7_889_408


def test_an_imported_model_compiles_and_runs(packed, text, tmp_path):
    made = as_json("compile", packed, "--core", "tiny", "-o", tmp_path / "bundle", "--calibrate", text, "--range-tokens", 64)
    assert made["calibration_seconds"] > 0 and made["saturation_run"]["tokens"] == 256
    found = as_json("inspect", tmp_path / "bundle")
    assert found["layers"] == made["layers"] and [layer["layer"] for layer in found["layers"]] == [0, 1, "other"]
    assert found["calibration"] == {"tokens": 64, "source": "text.txt"} and found["tokenizer"] == "tokenizer.json"
    for layer in found["layers"][:2]:
        assert layer["vectors_16"] and layer["vectors_32"] and layer["resolution_bits"] > 4 and layer["narrowest"]
    assert sum(layer["saturated"] for layer in found["layers"]) == sum(made["saturation_run"]["saturated"].values())
    shown = call("inspect", tmp_path / "bundle").output
    assert "counted over 256 tokens" in shown and "headroom" in shown
    run = as_json("run", tmp_path / "bundle", "--prompt", "Once", "-n", 4)
    assert len(run["tokens"]) == 4 and isinstance(run["text"], str)


def test_export_gives_back_the_same_model(source, packed, tmp_path):
    found = as_json("export", packed, "-o", tmp_path / "published", "--shard-bytes", 30_000)
    assert len(found["files"]) > 2
    config = json.loads((tmp_path / "published" / "config.json").read_text())
    assert config["model_type"] == "hgrn_bit" and config["architectures"] == ["HGRNBitForCausalLM"] and "trilobit" not in config
    assert (tmp_path / "published" / "tokenizer_config.json").read_bytes() == (source / "tokenizer_config.json").read_bytes()
    call("import", tmp_path / "published", "-o", tmp_path / "again")
    before, after = (load_file(folder / "model.safetensors") for folder in (packed, tmp_path / "again"))
    for name, values in before.items():
        assert np.array_equal(after[name], values), name
    assert "exists; expected a new folder" in call("export", packed, "-o", tmp_path / "published", code=2).output
    assert "expected a packed checkpoint" in call("export", source, "-o", tmp_path / "x", code=2).output


@pytest.mark.parametrize("name", ["tales", "shakespeare", "shakespeare-tiny", "shakespeare-onchip"])
def test_models_that_ship_come_back_bit_for_bit(name, tmp_path):
    """Trits, scales, gains, bounds and embedding; what a graph adds as constants is its own."""
    call("export", name, "-o", tmp_path / "published", "--shard-bytes", 4_000_000)
    call("import", tmp_path / "published", "-o", tmp_path / "again")
    before, after = (load_file(folder / "model.safetensors") for folder in (TALES.parent / name, tmp_path / "again"))
    kept = {key for key in before if not key.startswith("constant.")}
    assert kept == {key for key in after if not key.startswith("constant.")} and len(kept) > 80
    for key in kept:
        assert before[key].dtype == after[key].dtype and np.array_equal(before[key], after[key]), key


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("lm_head.scale", float("nan"), "lm_head.scale: expected a positive number, got nan"),
        ("lm_head.scale", 0.0, "lm_head.scale: expected a positive number, got 0.0"),
        ("model.norm.weight", float("inf"), "model.norm.weight: holds NaN or infinity"),
        ("model.embeddings.weight", float("nan"), "model.embeddings.weight: holds NaN or infinity"),
    ],
)
def test_a_damaged_packed_checkpoint_is_not_exported(packed, tmp_path, key, value, text):
    import shutil

    from safetensors.numpy import save_file

    shutil.copytree(packed, tmp_path / "packed")
    tensors = {name: values.copy() for name, values in load_file(packed / "model.safetensors").items()}
    tensors[key].flat[0] = value
    save_file(tensors, tmp_path / "packed" / "model.safetensors")
    assert text in call("export", tmp_path / "packed", "-o", tmp_path / "published", code=2).output
    assert [path.name for path in tmp_path.iterdir()] == ["packed"]


def test_exported_weights_quantise_as_the_reference_would(packed, tmp_path):
    """The training form of the exported model, which quantises at each call, against the packed one."""
    torch = pytest.importorskip("torch")
    from trilobit.model import load_pretrained

    call("export", packed, "-o", tmp_path / "published")
    ids = torch.randint(0, 260, (2, 16))
    with torch.no_grad():
        assert torch.allclose(load_pretrained(tmp_path / "published")(ids), load_pretrained(packed)(ids), atol=1e-5)


def test_a_matrix_of_zeros_stays_one(packed, tmp_path):
    from trilobit.isa.trits import ZERO_BYTE

    call("export", packed, "-o", tmp_path / "published")
    file = tmp_path / "published" / "model.safetensors"
    tensors = load_file(file)
    from safetensors.numpy import save_file

    tensors["lm_head.weight"][:] = 0
    save_file(tensors, file)
    call("import", tmp_path / "published", "-o", tmp_path / "packed")
    assert (load_file(tmp_path / "packed" / "model.safetensors")["lm_head.weight"] == ZERO_BYTE).all()
    call("export", tmp_path / "packed", "-o", tmp_path / "again")
    assert not load_file(tmp_path / "again" / "model.safetensors")["lm_head.weight"].any()
    assert as_json("inspect", tmp_path / "packed")["matrices"]["lm_head"]["share_of_zeros"] == [1, 1, 1]


def test_all_of_it_works_without_torch(source, text, tmp_path):
    script = f"""
import sys; sys.modules["torch"] = None
from trilobit.cli import main
for line in '''import {source} -o {tmp_path}/packed --calibrate {text} --calibrate-tokens 64
inspect {tmp_path}/packed
compile {tmp_path}/packed --core tiny -o {tmp_path}/bundle --calibrate-report {text} --calibrate-tokens 8
inspect {tmp_path}/bundle
run {tmp_path}/bundle --prompt One -n 2
export {tmp_path}/packed -o {tmp_path}/published'''.splitlines():
    main(line.split(), standalone_mode=False)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "counted over 8 tokens" in done.stdout and (tmp_path / "published" / "config.json").is_file()


def test_damaged_checkpoints_have_exit_code_2_and_leave_nothing(source, tmp_path):
    """Each of the ways in which a download fails, through every command that reads it."""
    import shutil

    def configured(**changes):
        return lambda folder: (folder / "config.json").write_text(json.dumps(json.loads((folder / "config.json").read_text()) | changes))

    def not_finite(folder):
        from safetensors.torch import load_file, save_file

        file = next(folder.glob("model-00002-*"))
        tensors = load_file(file)
        name = next(name for name, values in tensors.items() if values.ndim == 2)
        tensors[name][-1, -1] = float("nan")
        save_file(tensors, file)

    def cut(folder):
        file = next(folder.glob("model-00003-*"))
        file.write_bytes(file.read_bytes()[:-7])

    cases = {
        "missing": (lambda folder: next(folder.glob("model-00002-*")).unlink(), "model-00002-of-00004.safetensors: no such file"),
        "cut": (cut, "model-00003-of-00004.safetensors: expected a complete safetensors file"),
        "nan": (not_finite, "holds NaN or infinity"),
        "type": (configured(model_type="llama"), "model_type must be 'hgrn_bit'"),
        "option": (configured(use_short_conv=True), "use_short_conv must be false"),
    }
    for name, (damage, text) in cases.items():
        folder = tmp_path / name
        shutil.copytree(source, folder)
        damage(folder)
        for arguments in (["import", folder, "-o", tmp_path / "x"], ["inspect", folder]):
            shown = call(*arguments, code=2).output
            assert text in shown and shown.count("\n") <= 2, shown
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(cases)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["import", "{tmp}/none", "-o", "{tmp}/x"], "no such folder"),
        (["import", "{source}", "-o", "{tmp}/x", "--tokenizer", "{tmp}/none.json"], "none.json: no such file"),
        (["import", "{source}", "-o", "{tmp}/x", "--tokenizer", str(TALES / "tokenizer.json")], "this is another model's tokenizer"),
        (["import", "{source}", "-o", "{tmp}/x", "--calibrate", "{tmp}/none.txt"], "none.txt: can't be read"),
        (["import", "{packed}", "-o", "{tmp}/x"], "is packed already"),
        (["inspect", "{tmp}"], "expected a checkpoint"),
        (["compile", "{source}", "--core", "tiny", "-o", "{tmp}/x"], "trilobit import"),
        (["compile", "{packed}", "--core", "tiny", "-o", "{tmp}/x", "--tokenizer", str(TALES / "tokenizer.json")], "another model's"),
    ],
)
def test_errors_have_exit_code_2_and_leave_nothing(arguments, text, source, packed, tmp_path):
    filled = [argument.format(tmp=tmp_path, source=source, packed=packed) for argument in arguments]
    result = call(*filled, code=2)
    assert text in result.output and result.output.count("\n") <= 2
    assert not list(tmp_path.iterdir())
