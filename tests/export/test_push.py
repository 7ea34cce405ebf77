"""Uploads to the hub: what arrives there, how it comes back, and every way to fail."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from local_hub import Hub, local_hub

from w2v_inf import api
from w2v_inf.config import ExportConfig, VectorFormat
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.errors import UserError
from w2v_inf.export.push import check_name, push_folder
from w2v_inf.vector_folders.hub import write_hub

VOCAB = Vocabulary(["größe", "b", "c"], np.array([3, 2, 1]))
TABLE = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with local_hub(monkeypatch, f"{tmp_path}/cache") as hub:
        yield hub


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_hub(tmp_path / "vectors", VOCAB, TABLE, {}, "# a card\n")
    return tmp_path / "vectors"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_an_uploaded_folder_arrives_private_and_whole_and_comes_back(
    hub: Hub, folder: Path
) -> None:
    from huggingface_hub import snapshot_download

    assert push_folder(folder, "me/words") == f"{hub.url}/me/words"
    [asked] = hub.created
    assert (asked["organization"], asked["name"], asked["visibility"]) == ("me", "words", "private")
    assert hub.files == {"me/words": contents(folder)}
    again = api.load(snapshot_download("me/words"))
    assert again.vocab.words == VOCAB.words and again.vector("b").tobytes() == TABLE[1].tobytes()


def test_a_repository_that_exists_gets_the_new_files(hub: Hub, folder: Path) -> None:
    push_folder(folder, "me/words")
    shutil.rmtree(folder)
    write_hub(folder, VOCAB, 2 * TABLE, {}, "# another card\n")
    push_folder(folder, "me/words")
    assert hub.files == {"me/words": contents(folder)}


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "does not accept the token"),
        (403, "the token may not write there"),
        (404, "the token may not write there"),
        (400, "check the network and the name"),
    ],
)
def test_what_the_hub_refuses_is_one_line_and_the_folder_stays(
    hub: Hub, folder: Path, status: int, reason: str
) -> None:
    before = contents(folder)
    for request in ("/create", "/preupload/main", "/commit/main"):
        hub.refusals = {request: status}
        with pytest.raises(UserError, match=f"export.push=me/words failed .*{reason}") as caught:
            push_folder(folder, "me/words")
        check_line(str(caught.value), folder)
        hub.files.clear()
    assert contents(folder) == before


def test_without_a_token_or_a_network_the_folder_stays(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(folder)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UserError, match="export.push=me/words needs a token .*HF_TOKEN") as caught:
        push_folder(folder, "me/words")
    check_line(str(caught.value), folder)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(UserError, match="does not accept the token") as caught:
        push_folder(folder, "me/words")
    check_line(str(caught.value), folder)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://huggingface.co")
    with pytest.raises(UserError, match="check the network") as caught:
        push_folder(folder, "me/words")
    check_line(str(caught.value), folder)
    assert contents(folder) == before and not hub.files


def check_line(message: str, folder: Path) -> None:
    """One line that says where the folder is, and no token."""
    assert "\n" not in message and "hf_" not in message
    assert f"{folder} is complete (later: hf upload me/words {folder})" in message


@pytest.mark.parametrize("name", ["words", "a/b/c", "a--b/c", "a/b.git", "größe/x", "a/b c", "/x"])
def test_a_wrong_name_is_one_line(name: str) -> None:
    with pytest.raises(UserError, match="export.push must be OWNER/NAME .*, got "):
        check_name(name)
    check_name("me/words_2.x-y")


def test_only_a_folder_for_the_hub_is_uploaded() -> None:
    with pytest.raises(UserError, match="export.push must be empty unless export.format=hub"):
        ExportConfig(format=VectorFormat.text, push="me/words")
