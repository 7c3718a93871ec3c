"""``--memory`` on the command line: it reaches the simulated hardware, costs cycles, and its errors say what is known."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from trilobit.cli import main

EXAMPLE = str(Path(__file__).resolve().parents[2] / "examples" / "add_vectors.s")


def run(*arguments: str):
    return CliRunner().invoke(main, ["run", EXAMPLE, "--core", "tiny", *arguments])


def test_a_program_takes_longer_behind_a_slower_memory():
    cycles = {}
    for memory in ("ideal", "latency:50", "ddr3-667"):
        result = run("--backend", "rtl", "--memory", memory, "--json")
        assert result.exit_code == 0, result.output
        cycles[memory] = json.loads(result.stdout)["cycles"]
    assert cycles["ideal"] < cycles["latency:50"]
    assert cycles["ideal"] < cycles["ddr3-667"]


@pytest.mark.parametrize(("arguments", "message"), [
    (["--backend", "rtl", "--memory", "ddr5"], "ddr4-2400"),
    (["--backend", "rtl", "--memory", "none.yaml"], "can't read the file"),
    (["--memory", "ddr4-2400"], "got functional"),
])  # fmt: skip
def test_errors_say_what_is_known(arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.output
