"""The tutorial's program does what the page shows."""

import re
from pathlib import Path

from click.testing import CliRunner

from trilobit.cli import main

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "tutorial" / "first-program.md").read_text()
SOURCE = re.search(r"```asm\n(.*?)```", PAGE, re.DOTALL)[1]
CONSOLE = dict(re.findall(r"```console\n\$ trilobit ([^\n]*)\n(.*?)```", PAGE, re.DOTALL))


def run(tmp_path, monkeypatch, source, line):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scale.s").write_text(source)
    return CliRunner().invoke(main, line.split())


def test_output_of_the_tutorial_is_what_it_shows(tmp_path, monkeypatch):
    line = "run scale.s --dump mem:y"
    assert run(tmp_path, monkeypatch, SOURCE, line).stdout == CONSOLE[line]
    line = "run scale.s --step"
    assert run(tmp_path, monkeypatch, SOURCE, line).stdout.startswith(CONSOLE[line])


def test_the_mistake_of_the_tutorial_faults_as_it_shows(tmp_path, monkeypatch):
    load = "    ldv  v0, [x], len=16"
    broken = SOURCE.replace(load, ".unchecked\n" + load.replace("16", "100"))
    assert "expected len up to 64" in run(tmp_path, monkeypatch, broken.replace(".unchecked\n", ""), "run scale.s").stderr
    result = run(tmp_path, monkeypatch, broken, "run scale.s")
    assert result.exit_code == 2 and result.stderr == CONSOLE["run scale.s"]
