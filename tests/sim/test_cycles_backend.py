"""``--backend cycles`` and ``--trace``: values of the functional simulator, cycles and timeline of the RTL."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace

from trilobit.cli import main
from trilobit.isa.core import load_core
from trilobit.isa.program import Program
from trilobit.isa.spec import ISA
from trilobit.sim.cycles_backend import CycleBackend

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "trilobit"))
from run_support import byte_tokenizer, make_bundle

OVERLAP = Path(__file__).resolve().parents[2] / "examples" / "overlap.s"


def run(*arguments, code=0):
    result = CliRunner().invoke(main, ["run", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


@pytest.mark.parametrize("memory", ["ideal", "latency:25,outstanding=2"])
def test_a_bundle_has_the_text_and_the_cycles_of_the_rtl(memory, tmp_path):
    folder = make_bundle(tmp_path / "b", byte_tokenizer(tmp_path))
    arguments = [folder, "--prompt", "abc", "-n", 6, "--temperature", 0.7, "--seed", 4, "--memory", memory, "--json", "--backend"]
    cycles, rtl = (json.loads(run(*arguments, backend).stdout) for backend in ("cycles", "rtl"))
    for key in ("text", "tokens", "cycles", "counters", "weights", "retired"):
        assert cycles[key] == rtl[key], key
    assert cycles["evidence"].startswith("exact") and rtl["evidence"].startswith("measured")


def test_a_program_has_the_registers_and_the_steps_of_the_rtl():
    cycles, rtl = (json.loads(run(OVERLAP, "--json", "--backend", backend).stdout) for backend in ("cycles", "rtl"))
    assert (cycles["registers"], cycles["counters"]) == (rtl["registers"], rtl["counters"])
    assert cycles["evidence"].startswith("exact") and rtl["evidence"].startswith("measured")
    functional = json.loads(run(OVERLAP, "--json").stdout)
    assert functional["evidence"] is None and functional["cycles"] is None
    cycles, rtl = (json.loads(run(OVERLAP, "--step", "--json", "--backend", backend).stdout)["steps"] for backend in ("cycles", "rtl"))
    assert cycles == rtl


def test_tokens_that_come_later_are_known_to_both_halves():
    encode = ISA.encode
    program = Program("echo", [encode("wait"), encode("emit"), encode("jump", target=0)])
    with CycleBackend(load_core("tiny"), program) as machine:
        for tokens in ([1, 2], [3]):
            machine.push(tokens)
            result = machine.run()
            assert result.waiting
        assert result.tokens == [1, 2, 3]


def test_timelines_of_both_backends_are_the_same_file(tmp_path):
    for backend in ("cycles", "rtl"):
        run(OVERLAP, "--backend", backend, "--trace", tmp_path / backend)
    data = (tmp_path / "cycles").read_bytes()
    assert data == (tmp_path / "rtl").read_bytes()
    names = {packet.track_event.name for packet in Trace.FromString(data).packet}
    assert {"ldv", "halt"} <= names


@pytest.mark.parametrize(("arguments", "message"), [
    (["--trace", "t"], "cycles or rtl backend for a timeline"),
    (["--backend", "cycles", "--trace", "none/t"], "expected a folder to write none/t in"),
    (["--backend", "cycles", "--waves", "w"], "expected --backend rtl with --waves, got cycles"),
])  # fmt: skip
def test_what_a_backend_lacks_is_told(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in run(OVERLAP, *arguments, code=2).stderr
    assert list(tmp_path.iterdir()) == []
