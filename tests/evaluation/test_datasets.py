"""Evaluation sets: known by checksum, from gensim, the data folder or a server."""

import ast
import shutil
from pathlib import Path

import pytest
from local_server import serving

from w2v_inf.config import PROJECT_ROOT
from w2v_inf.errors import UserError
from w2v_inf.evaluation import datasets
from w2v_inf.evaluation.datasets import SHA256, find_dataset
from w2v_inf.files import sha256

QUESTIONS = "questions-words.txt"


@pytest.mark.parametrize("name", SHA256)
def test_gensims_copy_is_taken(name: str, tmp_path: Path) -> None:
    path = find_dataset(name, tmp_path)
    assert "gensim" in path.parts and sha256(path) == SHA256[name] and not list(tmp_path.iterdir())


@pytest.mark.parametrize("shipped", [None, "another version"])
def test_without_gensims_copy_the_file_is_downloaded_once(
    shipped: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = find_dataset(QUESTIONS).read_bytes()
    monkeypatch.setattr(datasets, "_gensim_folder", lambda: tmp_path / "gensim")
    if shipped:
        (tmp_path / "gensim").mkdir()
        (tmp_path / "gensim" / QUESTIONS).write_text(shipped)
    with serving(content) as server:
        monkeypatch.setattr(datasets, "URL", f"http://127.0.0.1:{server.server_port}/")
        for _ in range(2):
            path = find_dataset(QUESTIONS, tmp_path / "data")
            assert path == tmp_path / "data" / QUESTIONS and path.read_bytes() == content
        assert len(server.requests) == 1


def test_a_wrong_checksum_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / QUESTIONS
    shutil.copy(find_dataset(QUESTIONS), path)
    monkeypatch.setattr(datasets, "_gensim_folder", lambda: tmp_path / "gensim")
    assert find_dataset(QUESTIONS, tmp_path) == path
    path.write_text(": pairs\na b c d\n")
    with pytest.raises(UserError, match="must have sha256 8c29b3332afc..., has ") as caught:
        find_dataset(QUESTIONS, tmp_path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    path.unlink()
    with serving(b"a page of the server") as server:
        monkeypatch.setattr(datasets, "URL", f"http://127.0.0.1:{server.server_port}/")
        with pytest.raises(UserError, match="not found, and http.* cannot be downloaded") as caught:
            find_dataset(QUESTIONS, tmp_path)
    assert "\n" not in str(caught.value) and not path.exists()


def test_no_module_imports_gensim_at_its_top() -> None:
    """An install where gensim fails then loses its format only."""
    for path in (PROJECT_ROOT / "w2v_inf").rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            assert "gensim" not in ast.unparse(node) or not isinstance(
                node, ast.Import | ast.ImportFrom
            ), path
