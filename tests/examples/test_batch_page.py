"""The page on batches does what it shows."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from trilobit.cli import main

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "how-to" / "batch.md").read_text()
BLOCKS = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
PYTHON = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1]


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    """Run the commands of the page in their order: what each is to show, and what it shows."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("page")
        patch.chdir(folder)
        shown = {}
        found = re.findall(r"^\$ trilobit (.*)\n((?:(?!\$ ).*\n)*)", "".join(BLOCKS), re.MULTILINE)
        for command, expected in found:
            arguments = [quoted or plain for quoted, plain in re.findall(r'"([^"]*)"|(\S+)', command)]
            result = CliRunner().invoke(main, arguments)
            assert result.exit_code == 0, result.output
            shown[command] = expected, result.stdout
        yield folder, shown


def test_every_sequence_writes_what_the_page_shows(commands):
    runs = {command: texts for command, texts in commands[1].items() if command.startswith("run ")}
    assert len(runs) == 2
    for command, (expected, got) in runs.items():
        assert got == expected, command


def test_the_python_of_the_page_runs(commands, monkeypatch, capsys):
    monkeypatch.chdir(commands[0])
    exec(compile(PYTHON, "batch.md", "exec"), {})
    *emitted, last = capsys.readouterr().out.splitlines()
    assert len(emitted) == 32
    assert [int(line.split()[1]) for line in emitted if line.startswith("2 ")] == eval(last)
