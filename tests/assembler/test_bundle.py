"""Bundles: written whole or not at all, and checked when they are read."""

import json

import numpy as np
import pytest
from assembler_graphs import TOY

from trilobit.assembler.bundle import load_bundle, teacher_forced
from trilobit.assembler.compiler import compile_graph
from trilobit.errors import BundleError, ProgramError
from trilobit.isa.core import load_core
from trilobit.isa.program import Program
from trilobit.isa.spec import ISA


@pytest.fixture
def bundle(tmp_path):
    compiled = compile_graph(TOY, "tiny", store_logits=True)
    return compiled, compiled.save(tmp_path / "toy")


def rewrite(folder, **changes):
    path = folder / "manifest.json"
    values = json.loads(path.read_text())
    values.update(changes)
    path.write_text(json.dumps(values))


def test_round_trip(bundle):
    compiled, folder = bundle
    loaded = load_bundle(folder)
    assert loaded.program == compiled.program
    assert loaded.core == load_core("tiny")
    assert np.array_equal(loaded.memory(), compiled.memory()) and loaded.memory().flags.writeable
    assert loaded.report == json.loads(json.dumps(compiled.report()))
    m = loaded.manifest
    assert (m.name, m.schema, m.version, m.isa) == ("toy", "trilobit-bundle", 1, ISA.version)
    assert (m.bos_token_id, m.eos_token_id, m.geometry["hidden_size"], m.geometry["vocab_size"]) == (0, 0, 32, 64)
    assert m.weights_per_token == 4 * 32 * 32 + 3 * 32 * 64 + 32 * 64 == m.prompt_weights + 32 * 64
    assert (m.logits.length, m.logits.addr) == (64, loaded.program.regions["logits"].addr)
    assert {r.name: (r.addr, r.size) for r in m.regions} == {r.name: (r.addr, r.size) for r in loaded.program.regions.values()}
    assert loaded.tokenizer is None
    assert sorted(p.name for p in folder.iterdir()) == ["image.bin", "manifest.json", "program.bin", "program.s", "report.json"]


def test_tokenizer_is_carried(tmp_path):
    compiled = compile_graph(TOY, "tiny")
    compiled.tokenizer = tmp_path / "some.json"
    compiled.tokenizer.write_text("{}")
    loaded = load_bundle(compiled.save(tmp_path / "toy"))
    assert loaded.tokenizer is not None and loaded.tokenizer.read_text() == "{}"


@pytest.mark.parametrize("name", ["program.s", "program.bin", "image.bin", "report.json"])
def test_missing_and_damaged_files_are_named(bundle, name):
    _, folder = bundle
    path = folder / name
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(BundleError, match=rf"{name}: damaged: SHA-256 is"):
        load_bundle(folder)
    path.write_bytes(data[:-1])
    with pytest.raises(BundleError, match=rf"{name}: damaged"):
        load_bundle(folder)
    path.unlink()
    with pytest.raises(BundleError, match=rf"{name}: missing; the bundle is incomplete"):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "expected schema version 1, got 2; compile the model again"),
        ({"schema": "trilobit-graph"}, "expected schema 'trilobit-bundle', got 'trilobit-graph'"),
        ({"isa": 99}, "expected instruction set version 1, got 99"),
        ({"regions": 3}, r"manifest.json: damaged or no manifest: .*regions"),
        ({"core": {"name": "x"}}, "missing 3 required keyword-only arguments"),
        ({"window_size": 5}, "expected image, program and manifest to agree on the window"),
        ({"checksums": {}}, "expected a checksum of"),
        ({"checksums": {"../up": "0"}}, "expected file names without folders"),
        ({"tokenizer": "tokenizer.json"}, "expected a checksum of 'tokenizer.json'"),
    ],
)
def test_manifest_is_checked(bundle, changes, message):
    _, folder = bundle
    rewrite(folder, **changes)
    with pytest.raises(BundleError, match=message):
        load_bundle(folder)


def test_no_bundle_there(tmp_path):
    with pytest.raises(BundleError, match=r"manifest.json: can't be read \(No such file or directory\); expected a bundle"):
        load_bundle(tmp_path / "none")
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(BundleError, match="damaged or no manifest"):
        load_bundle(tmp_path)


def test_a_bundle_is_replaced_and_other_folders_are_not(bundle, tmp_path):
    compiled, folder = bundle
    (folder / "stray").write_text("old")
    compiled.save(folder)
    assert not (folder / "stray").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["toy"]  # nothing temporary stays
    other = tmp_path / "mine"
    other.mkdir()
    (other / "thesis.txt").write_text("precious")
    with pytest.raises(BundleError, match="exists and is no bundle"):
        compiled.save(other)
    assert (other / "thesis.txt").read_text() == "precious"


def test_the_working_folder_is_not_replaced(bundle, tmp_path, monkeypatch):
    compiled, folder = bundle
    for place in (folder, tmp_path / "empty"):
        place.mkdir(exist_ok=True)
        before = sorted(path.name for path in place.iterdir())
        monkeypatch.chdir(place)
        with pytest.raises(BundleError, match="the folder that this runs in"):
            compiled.save(".")
        assert sorted(path.name for path in place.iterdir()) == before


def test_failure_while_writing_keeps_the_old_bundle(bundle, tmp_path, monkeypatch):
    compiled, folder = bundle
    before = {p.name: p.read_bytes() for p in folder.iterdir()}

    def full(self, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Program, "save", full)
    with pytest.raises(BundleError, match="can't be written: No space left on device"):
        compiled.save(folder)
    with pytest.raises(BundleError, match="No space left"):
        compiled.save(tmp_path / "new")
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["toy"]


def test_teacher_forced_needs_the_token_loop():
    with pytest.raises(ProgramError, match="expected a compiled token loop"):
        teacher_forced(Program("p", [ISA.encode("halt")]))
