"""The projector's folder, read by TensorBoard's own plugin and as its page reads it."""

import json
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hostile import VOCAB, WORDS, table

from w2v_inf.vector_folders.projector import escape, unescape, write_projector

needs_tensorboard = pytest.mark.skipif(
    find_spec("tensorboard") is None, reason="the extra `tensorboard` is not installed"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_projector(tmp_path / "v", VOCAB, table(), {})
    return tmp_path / "v"


@needs_tensorboard
def test_the_plugin_shows_the_folder(folder: Path) -> None:
    """Through the plugin's own addresses, as its page asks them."""
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.projector.projector_plugin import ProjectorPlugin
    from werkzeug.test import Client

    no_runs = SimpleNamespace(list_runs=lambda context, experiment_id: [])
    plugin = ProjectorPlugin(TBContext(logdir=str(folder), data_provider=no_runs))
    apps = {route: Client(app) for route, app in plugin.get_plugin_apps().items()}
    assert json.loads(apps["/runs"].get("/").data) == ["."]
    [embedding] = json.loads(apps["/info"].get("/?run=.").data)["embeddings"]
    assert embedding["tensorShape"] == [len(WORDS), 5]
    asked = f"/?run=.&name={embedding['tensorName']}&num_rows=100000"
    numbers = np.frombuffer(apps["/tensor"].get(asked).data, np.float32)
    assert numbers.tobytes() == table().tobytes()
    assert words_on_the_page(apps["/metadata"].get(asked).data.decode()) == WORDS


def words_on_the_page(text: str) -> list[str]:
    """The column `word`, split as projector_binary.js splits the metadata."""
    lines = [line for line in text.split("\n") if line.strip()]
    header, *rows = [line.split("\t") for line in lines]
    assert header == ["word", "count"] and all(len(row) == 2 for row in rows)
    assert [row[1] for row in rows] == [str(count) for count in VOCAB.counts]
    return [unescape(row[0]) for row in rows]


def test_the_files_are_tables_without_a_header_and_with_one(folder: Path) -> None:
    rows = (folder / "vectors.tsv").read_text().split("\n")
    assert len(rows) == len(WORDS) + 1 and all(len(row.split("\t")) == 5 for row in rows[:-1])
    assert words_on_the_page((folder / "metadata.tsv").read_bytes().decode()) == WORDS


def test_escapes_are_those_of_python_and_can_be_undone() -> None:
    assert escape("a\tb\nc\rd\\n") == r"a\tb\nc\rd\\n"
    assert all(unescape(escape(word)) == word for word in WORDS)
    assert escape("größe 日本") == "größe 日本"
