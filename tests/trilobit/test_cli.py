"""The command line itself: verbs are found and loaded late, wrong input gives one message and exit code 2."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from trilobit import cli
from trilobit.errors import ConfigError
from trilobit.output import print_json, quantity, write_text

ROOT = Path(__file__).resolve().parents[2]
TOY = Path(__file__).parents[1] / "model" / "data" / "toy"


def test_help_lists_every_verb_with_a_line_of_text():
    result = CliRunner().invoke(cli.main, ["--help"])
    assert result.exit_code == 0
    for verb in cli.main.list_commands(click.Context(cli.main)):
        line = next(line for line in result.output.splitlines() if line.split()[:1] == [verb])
        assert len(line.split()) > 3 and line.endswith(".") and not line.endswith("...")


def test_help_places_every_verb_in_one_section():
    placed = sorted(verb for section in cli.SECTIONS.values() for verb in section)
    assert placed == cli.main.list_commands(click.Context(cli.main))
    assert "Other:" not in CliRunner().invoke(cli.main, ["--help"]).output


def _verbs(group: click.Group, prefix: str = ""):
    """Every command by its whole name, those of groups as well."""
    context = click.Context(group)
    for name in group.list_commands(context):
        verb = group.get_command(context, name)
        if isinstance(verb, click.Group):
            yield from _verbs(verb, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", verb


def test_every_verb_has_json():
    verbs = dict(_verbs(cli.main))
    assert {"run", "bench rtl"} < verbs.keys()
    for name, verb in verbs.items():
        if name == "train":  # its own parser, in the model package
            continue
        assert "--json" in [option for parameter in verb.params for option in parameter.opts], name


def test_version():
    result = CliRunner().invoke(cli.main, ["--version"])
    assert result.exit_code == 0
    assert result.output.startswith("trilobit, version ")


def test_unknown_verb_is_a_usage_error():
    result = CliRunner().invoke(cli.main, ["transmogrify"])
    assert result.exit_code == 2
    assert "No such command 'transmogrify'" in result.output


@pytest.fixture
def failing(monkeypatch):
    def use(error):
        @click.command()
        def command():
            raise error

        monkeypatch.setattr(cli.LazyGroup, "get_command", lambda self, ctx, name: command)

    return use


def test_user_error_is_one_line_and_exit_code_2(failing):
    failing(ConfigError("expected a good value, got 3"))
    result = CliRunner().invoke(cli.main, ["verb"])
    assert result.exit_code == 2
    assert result.stderr == "trilobit: expected a good value, got 3\n"
    assert result.stdout == ""


def test_unexpected_error_keeps_its_traceback(failing):
    failing(RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        CliRunner().invoke(cli.main, ["verb"], catch_exceptions=False)


@pytest.mark.parametrize(("module", "extra"), [("amaranth.hdl", "rtl"), ("torch", "model"), ("serial.tools", "boards")])
def test_a_package_of_an_extra_that_is_missing_is_a_user_error(failing, module, extra):
    failing(ModuleNotFoundError(f"No module named {module!r}", name=module))
    result = CliRunner().invoke(cli.main, ["verb"])
    assert result.exit_code == 2
    assert (
        result.stderr == f'trilobit: expected the package {module.split(".")[0]}, found none; pip install "trilobit[{extra}]" brings it\n'
    )


def test_another_missing_module_keeps_its_traceback(failing):
    failing(ModuleNotFoundError("No module named 'trilobit.nowhere'", name="trilobit.nowhere"))
    with pytest.raises(ModuleNotFoundError):
        CliRunner().invoke(cli.main, ["verb"], catch_exceptions=False)


def test_the_extras_named_for_packages_bring_them():
    from importlib.metadata import requires

    lines = [line.lower().replace("-", "_") for line in requires("trilobit") or []]
    for package, extra in cli.EXTRAS.items():
        name = {"serial": "pyserial"}.get(package, package)
        assert any(line.startswith(name) and f'extra == "{extra}"' in line for line in lines), package


@pytest.mark.parametrize(("arguments", "message"), [
    (["run", "tales"], "expected a bundle or a program, got the model 'tales'; compile it for a core first: trilobit compile tales --core"),
    (["run", str(TOY)], "trilobit compile " + str(TOY) + " --core ulx3s -o build/toy"),
    (["run", "nowhere"], "nowhere: no such file or folder; expected a bundle (the folder that `trilobit compile` writes), PROG.s"),
    (["inspect", "nowhere"], "nowhere: no such folder, and no model of that name ships with Trilobit"),
    (["export", "nowhere", "-o", "x"], "nowhere: no such folder, and no model of that name ships with Trilobit"),
])  # fmt: skip
def test_what_is_not_there_says_what_was_expected(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli.main, arguments)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize("arguments", [
    ["run", str(ROOT / "examples" / "norm.s"), "--dump", "v0", "--out"],
    ["verilog", "--core", "tiny", "-o"],
    ["verilog", "--board", "ulx3s_85f", "-o"],
    ["verilog", "--wrapper", "axi", "--core", "tiny", "-o"],
    ["asm", str(ROOT / "examples" / "norm.s"), "-o"],
    ["compile", "shakespeare-tiny", "--core", "ulx3s", "-o"],
    ["synthesize", "64/1/64/64", "-o"],
    ["build", "ulx3s_85f", "-o"],
    ["train", str(ROOT / "README.md"), "--config", str(ROOT / "model" / "configs" / "tales.yaml"), "-o"],
], ids=lambda arguments: " ".join(a for a in arguments if "/" not in a))  # fmt: skip
def test_an_output_that_cannot_be_made_is_one_message(arguments, tmp_path):
    """A file stands where a folder should: that is said before any hardware is written, and nothing is left beside it."""
    (tmp_path / "file").write_text("mine")
    result = CliRunner().invoke(cli.main, [*arguments, str(tmp_path / "file" / "below")])
    assert result.exit_code == 2 and str(tmp_path / "file" / "below") in result.stderr, result.output
    assert result.stderr.count("trilobit: ") == 1 and "Traceback" not in result.stderr and "writing the top" not in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_text() == "mine"


def test_training_without_its_text_leaves_no_folder(tmp_path):
    pytest.importorskip("torch", reason="training needs PyTorch")
    options = ["--config", str(ROOT / "model" / "configs" / "tales.yaml"), "-o", str(tmp_path / "new")]
    result = CliRunner().invoke(cli.main, ["train", str(tmp_path / "none.txt"), *options])
    assert result.exit_code == 2 and "none.txt: expected a UTF-8 text file" in result.stderr
    assert not list(tmp_path.iterdir())


def test_starting_needs_neither_torch_nor_amaranth():
    code = ("import sys, trilobit.cli; "
            "print([m for m in ('torch', 'amaranth', 'numpy', 'tokenizers') if m in sys.modules])")  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_help_of_all_verbs_does_not_import_torch():
    code = ("import sys; from click.testing import CliRunner; from trilobit.cli import main; "
            "CliRunner().invoke(main, ['--help'], catch_exceptions=False); print('torch' in sys.modules)")  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_json_knows_numpy_and_paths(capsys, tmp_path):
    import numpy as np

    print_json({"array": np.arange(3), "number": np.int64(7), "path": tmp_path})
    assert json.loads(capsys.readouterr().out) == {"array": [0, 1, 2], "number": 7, "path": str(tmp_path)}


@pytest.mark.parametrize(("value", "text"), [(15.2e6, "15.2 Mweights/s"), (999, "999 weights/s"), (0.5, "0.5 weights/s")])
def test_quantities_have_three_digits(value, text):
    assert quantity(value, "weights/s") == text


def test_write_text_replaces_in_one_go(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    write_text(path, "new")
    assert path.read_text() == "new"
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "half of a character: \udc80")
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]
