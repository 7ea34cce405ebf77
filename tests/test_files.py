"""Files and folders appear whole or not at all, and damaged ones are named."""

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from w2v_inf.errors import UserError
from w2v_inf.files import (
    read_json,
    read_text,
    sha256,
    write_atomically,
    write_folder,
    write_json,
)


def test_a_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.json"
    write_json(path, {"x": 1.5})
    assert read_json(path) == {"x": 1.5} == json.loads(read_text(path))
    assert sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ZeroDivisionError()])
def test_a_failure_leaves_the_old_file(error: Exception, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail(draft: Path) -> None:
        assert draft.suffix == path.suffix and draft.parent == path.parent
        draft.write_text("half")
        raise error

    expected = UserError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected, match="No space left" if expected is UserError else None):
        write_atomically(path, fail)
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "a.json not found: run w2v-inf train first"),
        (b"{", "a.json is damaged"),
        (b"[1]", "a.json is damaged .no JSON object."),
        (b"\xff", "a.json is damaged"),
    ],
)
def test_damaged_files_are_named(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_json(path)
    assert "\n" not in str(caught.value)


def test_numbers_must_be_finite(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_files_follow_the_umask(mask: int, tmp_path: Path) -> None:
    """Tensors too: safetensors makes its files for their owner alone."""
    path, before = tmp_path / "a.safetensors", os.umask(mask)
    try:
        write_atomically(path, lambda draft: save_file({"x": torch.ones(2)}, draft))
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_file_that_may_not_be_read_is_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> str:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(UserError, match=r"cannot be read \(Permission denied\): ask its owner"):
        read_json(tmp_path / "summary.json")


def test_a_folder_appears_whole_and_replaces_another(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "v"
    for left in (f".{os.getpid()}-v", f".{os.getpid()}-v-old"):  # by a killed process
        (folder.parent / left / "x").mkdir(parents=True)
    for name in ("a", "b"):
        write_folder(folder, lambda draft, name=name: (draft / name).write_text(name))
        assert [path.name for path in folder.iterdir()] == [name]
    assert [path.name for path in folder.parent.iterdir()] == ["v"]


@pytest.mark.parametrize("when", ["while it is written", "when it is put in place"])
def test_a_failure_leaves_the_old_folder(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, rename = tmp_path / "v", Path.rename
    write_folder(folder, lambda draft: (draft / "a").write_text("old"))

    def fail(draft: Path) -> None:
        (draft / "a").write_text("half")
        if when == "while it is written":
            raise OSError(errno.ENOSPC, "No space left on device")

    def refuse(path: Path, target: Path) -> Path:
        if when == "when it is put in place" and target == folder and "old" not in path.name:
            raise OSError(errno.EIO, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(UserError, match=f"{folder} cannot be written"):
        write_folder(folder, fail)
    assert (folder / "a").read_text() == "old" and list(tmp_path.iterdir()) == [folder]
