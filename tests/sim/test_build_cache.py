"""The folder of compiled simulators: where it is, and what is said when it can't be used."""

import errno
import os
import stat
from pathlib import Path

import pytest

from trilobit.errors import ToolError
from trilobit.sim.build_cache import build_once, cache_folder, temporary_folder


def test_the_cache_is_where_the_variables_say(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("TRILOBIT_CACHE", raising=False)
    assert cache_folder() == tmp_path / "home" / ".cache" / "trilobit"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "trilobit"
    monkeypatch.setenv("TRILOBIT_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own" and (tmp_path / "own").is_dir()


def test_a_relative_cache_does_not_move_with_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRILOBIT_CACHE", "own")
    assert cache_folder() == tmp_path / "own"


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch):
    for name in ("HOME", "XDG_CACHE_HOME", "TRILOBIT_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for a user id that passwd does not know
    with pytest.raises(ToolError, match="expected a home folder to keep builds in, found none; set TRILOBIT_CACHE"):
        cache_folder()


def test_a_cache_that_cannot_be_made_is_a_user_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TRILOBIT_CACHE", str(tmp_path / "file"))
    with pytest.raises(ToolError, match="can't make it: File exists; set TRILOBIT_CACHE"):
        cache_folder()


def test_a_cache_that_cannot_be_written_is_a_user_error(tmp_path):
    """A folder that is not there stands for one of another user's: root may write everywhere."""
    expected = "expected a cache folder that can be written, got .*nowhere: No such file or directory; set TRILOBIT_CACHE"
    with pytest.raises(ToolError, match=expected):
        build_once(tmp_path / "nowhere" / "core.so", "never built", lambda work, log: pytest.fail("built"))
    with pytest.raises(ToolError, match=expected), temporary_folder(tmp_path / "nowhere"):
        pytest.fail("made")


@pytest.mark.parametrize("devices", [1, 2])
def test_a_cache_with_a_space_is_built_where_there_is_none(tmp_path, monkeypatch, capfd, devices):
    """Make can't work in folders with a space; the folder for temporary files may be on another file system than the cache."""
    library = tmp_path / "my cache" / "core.so"
    library.parent.mkdir()
    replace = os.replace

    def across(source, target):
        if Path(source).parent != Path(target).parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        replace(source, target)

    if devices == 2:
        monkeypatch.setattr(os, "replace", across)

    def build(work, log):
        assert " " not in str(work)
        (work / "core.so").write_bytes(b"library")
        return work / "core.so"

    assert build_once(library, "Building", build).read_bytes() == b"library"
    assert sorted(path.name for path in library.parent.iterdir()) == ["core.lock", "core.so"] and "Building" in capfd.readouterr().err


def test_a_disk_that_is_full_names_the_cache(tmp_path, capfd):
    def build(work, log):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ToolError, match=f"expected a cache folder that can be written, got {tmp_path}: No space left on device"):
        build_once(tmp_path / "core.so", "Building", build)
    assert [path.name for path in tmp_path.iterdir()] == ["core.lock"] and "Building" in capfd.readouterr().err


def test_a_library_that_is_there_needs_no_writing(tmp_path):
    (tmp_path / "core.so").write_bytes(b"library")
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert build_once(tmp_path / "core.so", "never built", lambda work, log: pytest.fail("built")) == tmp_path / "core.so"
        assert [path.name for path in tmp_path.iterdir()] == ["core.so"]
    finally:
        tmp_path.chmod(0o700)


def test_an_interrupted_build_leaves_nothing_but_its_lock(tmp_path, capfd):
    def build(work, log):
        (work / "core.so").write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_once(tmp_path / "core.so", "Building", build)
    assert [path.name for path in tmp_path.iterdir()] == ["core.lock"] and "Building" in capfd.readouterr().err
