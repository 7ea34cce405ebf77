"""The hub's folder: what other programs find in it."""

import json
from pathlib import Path

import torch
from hostile import VOCAB, WORDS, table
from safetensors import safe_open

from w2v_inf.vector_folders.hub import write_hub


def test_the_tensor_and_the_words_are_plain(tmp_path: Path) -> None:
    write_hub(tmp_path / "v", VOCAB, table(), {"method": "fit"}, "# größe\n")
    with safe_open(tmp_path / "v" / "model.safetensors", "pt") as file:
        assert list(file.keys()) == ["vectors"] and file.metadata() == {"format": "pt"}
        torch.testing.assert_close(file.get_tensor("vectors"), torch.from_numpy(table()))
    words = json.loads((tmp_path / "v" / "vocab.json").read_bytes())
    assert words == {"words": WORDS, "counts": VOCAB.counts.tolist()}
    config = json.loads((tmp_path / "v" / "config.json").read_bytes())
    assert (config["vocab_size"], config["dimension"], config["method"]) == (len(WORDS), 5, "fit")
    assert (tmp_path / "v" / "README.md").read_text(encoding="utf-8") == "# größe\n"


def test_vectors_of_other_layouts_are_written_as_they_are_seen(tmp_path: Path) -> None:
    from w2v_inf.vector_folders.read import read_file_or_folder

    write_hub(tmp_path / "v", VOCAB, table(10)[:, ::2].astype(float), {}, "")
    assert read_file_or_folder(tmp_path / "v")[1].tobytes() == table(10)[:, ::2].tobytes()
