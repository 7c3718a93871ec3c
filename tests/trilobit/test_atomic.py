"""Files that appear whole: what was there stays until the new one is complete, and a device is never replaced."""

import errno
import os
import stat

import pytest

from trilobit.atomic import replacing


def test_a_file_is_replaced_when_the_block_ends(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with replacing(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new" and [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_was_there_stays_after_an_exception(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(error), replacing(path) as file:
        file.write(b"half")
        raise error
    assert path.read_bytes() == b"old" and [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_names_the_file(tmp_path):
    with pytest.raises(OSError, match=rf"No space left on device: '{tmp_path}/file'"), replacing(tmp_path / "file"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "link").symlink_to("file")
    with replacing(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_bytes() == b"new"


def test_a_pipe_is_written_and_not_replaced(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with replacing(path) as file:
            file.write(b"text")
        assert os.read(reader, 9) == b"text" and stat.S_ISFIFO(path.stat().st_mode)
    finally:
        os.close(reader)


def test_a_device_is_written_through_a_link_and_not_replaced(tmp_path):
    (tmp_path / "null").symlink_to("/dev/null")
    with replacing(tmp_path / "null") as file:
        file.write(b"text")
    assert (tmp_path / "null").is_symlink() and stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.parametrize("path", ["folder", "nowhere/file"])
def test_what_cannot_be_written_is_an_oserror_and_leaves_nothing(tmp_path, path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError), replacing(tmp_path / path):
        raise AssertionError("not reached")
    assert [entry.name for entry in tmp_path.rglob("*")] == ["folder"]
