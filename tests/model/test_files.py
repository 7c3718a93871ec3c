"""Model folders: a name for the folder that one stands in, and that folder is never taken away."""

import pytest

from trilobit.errors import ModelError
from trilobit.model.files import atomic_folder


def test_files_move_into_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "mine").write_text("stays")
    monkeypatch.chdir(tmp_path)
    with atomic_folder(".") as temporary:
        (temporary / "new").write_text("made")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"mine": "stays", "new": "made"}
    assert not list(tmp_path.parent.glob(f".{tmp_path.name}*"))


def test_the_working_folder_is_not_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="expected a new folder, got the one that this runs in"):
        with atomic_folder(".", replace=True):
            pytest.fail("entered")
    assert list(tmp_path.iterdir()) == []
