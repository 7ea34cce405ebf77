"""Folders of vectors: what is replaced, what is refused, and that no damage is read in silence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile import VOCAB, table

from w2v_inf.config import VectorFormat
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.errors import UserError
from w2v_inf.vector_folders.folder import DATA, check_replaceable
from w2v_inf.vector_folders.hub import write_hub
from w2v_inf.vector_folders.projector import write_projector
from w2v_inf.vector_folders.read import read_file_or_folder

FORMATS = list(DATA)


def write(
    folder: Path, format: VectorFormat, vocab: Vocabulary = VOCAB, vectors: np.ndarray | None = None
) -> None:
    vectors = table() if vectors is None else vectors
    if format is VectorFormat.hub:
        write_hub(folder, vocab, vectors, {"method": "own"}, "# a card\n")
    else:
        write_projector(folder, vocab, vectors, {"method": "own"})


@pytest.mark.parametrize("format", FORMATS)
def test_hostile_words_counts_and_bits_come_back(format: VectorFormat, tmp_path: Path) -> None:
    write(tmp_path / "v", format)
    vocab, vectors = read_file_or_folder(tmp_path / "v")
    assert vocab.words == VOCAB.words and vocab.counts.tolist() == VOCAB.counts.tolist()
    assert vectors.dtype == np.float32 and vectors.tobytes() == table().tobytes()


@pytest.mark.parametrize("format", FORMATS)
def test_files_follow_the_umask_and_no_draft_is_left(format: VectorFormat, tmp_path: Path) -> None:
    write(tmp_path / "v", format)
    (tmp_path / "plain").touch()
    modes = {path.stat().st_mode for path in (tmp_path / "v").iterdir()}
    assert modes == {(tmp_path / "plain").stat().st_mode}
    assert {path.name for path in tmp_path.iterdir()} == {"v", "plain"}


@pytest.mark.parametrize("before", [*FORMATS, None])
@pytest.mark.parametrize("after", FORMATS)
def test_an_earlier_export_or_an_empty_folder_is_replaced_whole(
    before: VectorFormat | None, after: VectorFormat, tmp_path: Path
) -> None:
    write(tmp_path / "new", after)
    if before is None:
        (tmp_path / "v").mkdir()
    else:
        write(tmp_path / "v", before, Vocabulary(["x"], np.array([1])), np.ones((1, 2), np.float32))
    write(tmp_path / "v", after)
    names = [{path.name for path in (tmp_path / name).iterdir()} for name in ("v", "new")]
    assert names[0] == names[1] and {path.name for path in tmp_path.iterdir()} == {"v", "new"}
    assert read_file_or_folder(tmp_path / "v")[0].words == VOCAB.words


def test_nothing_else_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="export.out=.*/v holds no earlier export"):
        write(folder, VectorFormat.hub)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="holds no earlier export"):
        check_replaceable(folder)
    write(tmp_path / "w", VectorFormat.hub)
    (tmp_path / "w" / "notes.md").write_text("mine")
    with pytest.raises(UserError, match=r"holds a file of another kind \(notes.md\)"):
        write(tmp_path / "w", VectorFormat.projector)
    with pytest.raises(UserError, match="export.out must be a folder, .*thesis.txt is a file"):
        write(folder / "thesis.txt", VectorFormat.hub)
    assert (folder / "thesis.txt").read_text() == "years of work"
    assert (tmp_path / "w" / "notes.md").read_text() == "mine"


def test_a_failure_leaves_the_earlier_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "v", VectorFormat.projector)
    before = {path.name: path.read_bytes() for path in (tmp_path / "v").iterdir()}

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("w2v_inf.vector_folders.hub.save_file", full)
    with pytest.raises(UserError, match=f"{tmp_path}/v cannot be written .*No space left"):
        write(tmp_path / "v", VectorFormat.hub)
    assert {path.name: path.read_bytes() for path in (tmp_path / "v").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["v"]


def edit_config(**changed: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changed))

    return edit


def edit_words(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "vocab.json"
        path.write_text(json.dumps(change(json.loads(path.read_text()))))

    return edit


def cut(name: str, num_bytes: int) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:-num_bytes])

    return edit


def replace(name: str, old: bytes, new: bytes) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        content = (folder / name).read_bytes()
        assert old in content
        (folder / name).write_bytes(content.replace(old, new, 1))

    return edit


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def swap_first_words(words: dict[str, Any]) -> dict[str, Any]:
    first, second, *rest = words["words"]
    return words | {"words": [second, first, *rest]}


@pytest.mark.parametrize(
    ("format", "damage", "message"),
    [
        ("hub", remove("model.safetensors"), "model.safetensors cannot be read .*No such file"),
        ("hub", remove("vocab.json"), "vocab.json cannot be read"),
        ("hub", remove("config.json"), "holds no exported vectors .it has no config.json"),
        ("projector", remove("vectors.tsv"), "vectors.tsv cannot be read"),
        ("projector", remove("metadata.tsv"), "metadata.tsv cannot be read"),
        ("hub", cut("model.safetensors", 7), "model.safetensors is damaged"),
        ("hub", cut("vocab.json", 3), "vocab.json is damaged"),
        ("hub", cut("config.json", 9), "config.json is damaged"),
        ("hub", replace("model.safetensors", b"vectors", b"vektors"), "no float32 tensor"),
        ("hub", replace("model.safetensors", b"F32", b"I32"), "no float32 tensor"),
        ("hub", replace("model.safetensors", b"\0" * 20, b"\1" * 20), "its sha256 is not that"),
        ("hub", edit_words(swap_first_words), "vocab.json is damaged .its sha256 is not that"),
        (
            "hub",
            edit_words(lambda w: {name: column[:-1] for name, column in w.items()}),
            "must hold 42 words and 42 x 5 numbers, has 41 words and 42 x 5 numbers",
        ),
        ("hub", edit_words(lambda w: w | {"counts": w["counts"][1:]}), "42 words, 41 counts"),
        ("hub", edit_words(lambda w: w | {"counts": w["counts"][::-1]}), "counts are not falling"),
        ("hub", edit_words(lambda w: w | {"counts": [1e9] * 42}), "a count no whole number"),
        ("hub", edit_words(lambda w: w | {"counts": [2**64] * 42}), "vocab.json is damaged"),
        ("hub", edit_words(lambda w: w | {"words": ["x"] * 42}), "a word is empty or comes twice"),
        ("hub", edit_words(lambda w: w | {"words": [1] * 42}), "a word is no text"),
        ("hub", edit_words(lambda w: w | {"words": ["\ud800"]}), "surrogates not allowed"),
        ("hub", edit_words(lambda w: {}), "no lists `words` and `counts`"),
        ("hub", edit_config(dimension=6), "must hold 42 words and 42 x 6 numbers"),
        ("hub", edit_config(vocab_size=None), "no sizes or checksums"),
        ("hub", edit_config(library="transformers"), "is not of w2v_inf"),
        ("hub", edit_config(format="onnx"), "format='onnx'"),
        ("hub", edit_config(format=["hub"]), "format=.'hub'."),
        ("hub", edit_config(format="projector"), "metadata.tsv cannot be read"),
        ("hub", edit_config(format_version=2), "written by a later version of w2v_inf"),
        ("hub", edit_config(sha256={}), "its sha256 is not that"),
        ("projector", cut("vectors.tsv", 1), "its sha256 is not that"),
        ("projector", cut("vectors.tsv", 30), "vectors.tsv is damaged"),
        ("projector", cut("metadata.tsv", 1), "no newline at the end"),
        ("projector", replace("metadata.tsv", b"word\t", b"werd\t"), "no header"),
        ("projector", replace("metadata.tsv", b"\t84\n", b"\t8x\n"), "line 2 is not word<TAB>"),
        ("projector", replace("metadata.tsv", b"the\t84\n", b""), "has 41 words and 42 x 5"),
        ("projector", replace("metadata.tsv", b"the", b"\xff"), "metadata.tsv is damaged"),
        ("projector", replace("vectors.tsv", b"\t", b" "), "vectors.tsv is damaged"),
        ("projector", replace("vectors.tsv", b"0\t", b"nan\t"), "vectors.tsv is damaged"),
        ("projector", lambda f: (f / "vectors.tsv").write_text(""), "it is empty"),
        ("projector", lambda f: (f / "metadata.tsv").write_text(""), "metadata.tsv is damaged"),
    ],
)
def test_damage_is_one_line(
    format: str, damage: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    write(tmp_path / "v", VectorFormat(format))
    damage(tmp_path / "v")
    with pytest.raises(UserError, match=message) as caught:
        read_file_or_folder(tmp_path / "v")
    assert "\n" not in str(caught.value) and f"{tmp_path}/v" in str(caught.value)


def test_a_number_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    for format in FORMATS:
        vectors = table()
        vectors[1, 1] = np.inf
        write(tmp_path / "v", format, vectors=vectors)
        with pytest.raises(UserError, match="a number is not finite"):
            read_file_or_folder(tmp_path / "v")
