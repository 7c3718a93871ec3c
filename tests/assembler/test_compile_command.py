"""`trilobit compile` and `trilobit.compile`."""

import json
import shutil

import numpy as np
import pytest
from assembler_graphs import TOY, TOY2, VOCABULARY, GraphMaker
from click.testing import CliRunner

import trilobit
from trilobit.assembler.bundle import load_bundle
from trilobit.assembler.compiler import SUPPORTED, check_folder, compile_graph
from trilobit.assembler.compiler import docs as compiler_docs
from trilobit.assembler.compiler.saturation import count_saturations
from trilobit.cli import main
from trilobit.errors import CompileError, ModelError
from trilobit.model.graph import OPERATIONS


def call(*arguments):
    return CliRunner().invoke(main, ["compile", *map(str, arguments)])


def broken_graph(folder, op="softmax"):
    shutil.copytree(TOY, folder)
    values = json.loads((folder / "graph.json").read_text())
    node = next(n for n in values["nodes"] if n["op"] == "sigmoid")
    node["op"] = op
    (folder / "graph.json").write_text(json.dumps(values))
    return folder


def test_writes_a_bundle(tmp_path):
    result = call(TOY, "--core", "tiny", "-o", tmp_path / "b", "--name", "small", "--store-logits")
    assert result.exit_code == 0, result.output
    assert "weights a token" in result.output and "12,288" in result.output
    bundle = load_bundle(tmp_path / "b")
    assert bundle.manifest.name == "small" and bundle.manifest.logits.addr is not None


def test_json(tmp_path):
    result = call(TOY, "--core", "ulx3s", "-o", tmp_path / "b", "--json")
    values = json.loads(result.output)
    assert values["bundle"] == str(tmp_path / "b") and values["weights_per_token"] == 12288
    tensor = next(t for t in values["tensors"] if t["name"] == "model_layers_0_attn_f_proj")
    assert tensor["bits"] == 16 and tensor["headroom_bits"] >= 1 and tensor["saturations"] is None


def test_check_lists_operations_without_compiling(tmp_path):
    result = call(TOY2, "--check", "--json")
    assert result.exit_code == 0
    assert json.loads(result.output)["mapped"]["recurrence"] == 2
    result = call(broken_graph(tmp_path / "g"), "--check")
    assert result.exit_code == 2
    assert "UNMAPPED  softmax        in model.layers.0.attn: supported are token, embedding" in result.output
    assert "1 of 25 operations can't be mapped" in result.output or "operations can't be mapped" in result.output


def test_unmapped_operation_names_itself_its_module_and_what_is_supported(tmp_path):
    folder = broken_graph(tmp_path / "g")
    result = call(folder, "--core", "tiny", "-o", tmp_path / "b")
    assert result.exit_code == 2
    assert "'softmax' in model.layers.0.attn can't be mapped onto the machine; supported are token," in result.output
    assert not (tmp_path / "b").exists()
    assert not check_folder(folder).ok


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing-here", "--core", "tiny", "-o", "b"), "expected a folder with graph.json, a model that ships with Trilobit"),
        ((TOY, "--core", "huge", "-o", "b"), "expected a core preset"),
        ((TOY, "--core", "tiny"), "expected --core PRESET and -o BUNDLE"),
        ((TOY, "--core", "tiny", "-o", "b", "--weights", "w"), "belong to FILE.py:FUNCTION, not to an exported graph"),
        ((TOY, "--core", "tiny", "-o", "b", "--calibrate-report", "none.txt"), "none.txt: can't be read"),
    ],
)
def test_wrong_input_is_one_message_and_exit_code_2(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = call(*arguments)
    assert result.exit_code == 2 and message in result.output
    assert list(tmp_path.iterdir()) == []


def test_model_too_large_for_the_core(tmp_path):
    g = GraphMaker(seed=1, width=80)
    folder = g.save(tmp_path / "m", g.bitlinear(g.embedding(), rows=VOCABULARY))
    with pytest.raises(CompileError, match="a vector of length 80 does not fit core 'tiny', whose registers hold 64"):
        compile_graph(folder, "tiny")


@pytest.mark.parametrize("damage", ["truncated", "missing", "shape"])
def test_damaged_models_are_refused(tmp_path, damage):
    folder = tmp_path / "g"
    shutil.copytree(TOY, folder)
    weights = folder / "model.safetensors"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "missing":
        weights.unlink()
    else:
        text = (folder / "graph.json").read_text()
        (folder / "graph.json").write_text(text.replace('"rows": 128', '"rows": 135'))
    message = r"graph\.json: .*gate_proj.*expected rows, cols 128, 32, got \(135, 32\)" if damage == "shape" else r"model\.safetensors"
    with pytest.raises(ModelError, match=message):
        compile_graph(folder, "tiny")


def test_ranges_are_estimated_where_the_graph_has_none(tmp_path):
    from assembler_graphs import compare

    folder = tmp_path / "g"
    shutil.copytree(TOY, folder)
    values = json.loads((folder / "graph.json").read_text())
    for node in values["nodes"]:
        node["range"] = node["rms"] = None
    (folder / "graph.json").write_text(json.dumps(values))
    assert compare(compile_graph(folder, "tiny", store_logits=True), folder) > 0.999


def test_saturations_are_counted_and_named(tmp_path):
    compiled = compile_graph(TOY, "tiny")
    tokens = np.random.default_rng(3).integers(0, 64, 100)
    assert count_saturations(compiled, tokens) == {}
    assert all(t["saturations"] == 0 for t in compiled.report()["tensors"])

    folder = tmp_path / "g"  # a range that is far too small
    shutil.copytree(TOY, folder)
    values = json.loads((folder / "graph.json").read_text())
    next(n for n in values["nodes"] if n["name"] == "silu")["range"] = 0.01
    (folder / "graph.json").write_text(json.dumps(values))
    compiled = compile_graph(folder, "tiny")
    assert count_saturations(compiled, tokens)["silu"] > 100
    report = compiled.report()
    assert next(t["saturations"] for t in report["tensors"] if t["name"] == "silu") > 100
    assert report["saturation_run"]["tokens"] == 100
    with pytest.raises(CompileError, match="expected at least one token from 0 to 63"):
        count_saturations(compiled, [64])


def test_calibrate_report_reads_a_text(tmp_path):
    g = GraphMaker(seed=2, vocabulary=256)
    folder = g.save(tmp_path / "m", g.bitlinear(g.embedding(), rows=256))
    text = tmp_path / "text.txt"
    text.write_text("once upon a time " * 10)
    result = call(folder, "--core", "axi512", "-o", tmp_path / "b", "--calibrate-report", text, "--calibrate-tokens", "40")
    assert result.exit_code == 0, result.output
    assert load_bundle(tmp_path / "b").report["saturation_run"] == {"tokens": 40, "saturated": {}}


def test_python_interface(tmp_path):
    compiled = trilobit.compile(TOY, "tiny", tmp_path / "b")
    assert load_bundle(tmp_path / "b").program == compiled.program
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        trilobit.nonsense  # noqa: B018 - that it is looked up is the test


def test_supported_operations_page_is_fresh(capsys, tmp_path):
    assert set(SUPPORTED) == set(OPERATIONS)
    root = TOY.parents[3]
    assert compiler_docs.main(["--check", "-o", str(root / "docs/supported-ops.md")]) == 0
    stale = tmp_path / "page.md"
    stale.write_text("old")
    assert compiler_docs.main(["--check", "-o", str(stale)]) == 1
    assert "is stale: run python -m trilobit.assembler.compiler.docs" in capsys.readouterr().err
    assert compiler_docs.main(["-o", str(stale)]) == 0
    assert stale.read_text() == compiler_docs.page()
