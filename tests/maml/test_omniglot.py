"""Omniglot's zips and folders: whole, damaged, missing and downloaded."""

import hashlib
import io
import logging
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from composed import config_of
from local_server import serving
from PIL import Image

from w2v_inf.corpus.download import CorpusUnavailable
from w2v_inf.errors import UserError
from w2v_inf.maml import omniglot
from w2v_inf.maml.omniglot import load_images


def png(corner: int = 20) -> bytes:
    """A white drawing with a square of ink at the upper left."""
    drawing = np.full((105, 105), 255, np.uint8)
    drawing[:corner, :corner] = 0
    file = io.BytesIO()
    Image.fromarray(drawing).convert("1").save(file, "png")
    return file.getvalue()


def write_zip(path: Path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


@pytest.fixture
def small_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Zips of 4 + 4 characters, two of which are the same, and of two pairs."""
    monkeypatch.setattr(omniglot, "NUM_SMALL_TRAIN", 4)
    for number, first in enumerate((0, 2)):
        name = f"images_background_small{number + 1}"
        write_zip(
            tmp_path / f"{name}.zip",
            {
                f"{name}/A/character{c}/{c}_{i}.png": png(8 * c + i)
                for c in range(first, first + 4)
                for i in (1, 2)
            },
        )
    lines = "run1/test/i1.png run1/training/c2.png\nrun1/test/i2.png run1/training/c1.png\n"
    names = [word for line in lines.splitlines() for word in line.split()]
    files = {name: png(10 * n) for n, name in enumerate(names)}
    write_zip(tmp_path / "all_runs.zip", files | {"run1/class_labels.txt": lines.encode()})
    return tmp_path


CHARACTERS = {
    "images_background": ("Greek/character01", "Hebrew/character07", "Latin/character02"),
    "images_evaluation": (
        *("Angelic/character01", "Gurmukhi/character41"),
        *("Gurmukhi/character42", "Kannada/character01"),
    ),
}


@pytest.fixture
def whole_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Zips of 3 + 4 characters in the layout of the whole Omniglot."""
    monkeypatch.setattr(omniglot, "NUM_CHARACTERS", (4, 1, 2))
    monkeypatch.setattr(omniglot, "NUM_DRAWINGS", 2)
    folder = tmp_path / "whole"
    folder.mkdir()
    size = 0
    for name, characters in CHARACTERS.items():
        files = {}
        for character in characters:
            size += 10
            files |= {f"{name}/{character}/{size}_{i}.png": png(size + i) for i in (1, 2)}
        write_zip(folder / f"{name}.zip", files | {f"__MACOSX/{name}/x.png": b"no image"})
    return folder


def load(folder: Path, images: str = "auto"):
    return load_images(config_of(f"maml.path={folder}", f"maml.images={images}"))


def widest(images: torch.Tensor) -> list[int]:
    """Tens of pixels of ink along the first row of each class's first image."""
    ink = images.unflatten(2, (28, 28))[:, 0, 0].sum(1) * 105 / 28
    return [round(float(row) / 10) for row in ink]


def test_small_omniglot_has_rotations_in_training_and_validation_only(small_folder: Path) -> None:
    sets = load(small_folder)
    assert sets.name == "small Omniglot"
    assert sets.train.shape == (16, 2, 784) and sets.validation.shape == (8, 2, 784)
    assert sets.test.shape == (2, 2, 784)
    images = sets.train.view(4, 4, 2, 28, 28)
    for turn in range(4):
        assert torch.equal(images[turn], images[0].rot90(turn, (2, 3)))
    ink = sets.test.view(2, 2, 28, 28) * 105**2 / 28**2  # pixels of ink per pixel, about
    expected = torch.tensor([[100.0, 0.0], [900.0, 400.0]]).double()
    torch.testing.assert_close(ink.sum((2, 3)), expected, rtol=0.06, atol=0)
    assert ink[0, 0, 0, 0] > 10 and ink[0, 0, -1, -1] == 0


def test_whole_omniglot_is_split_as_by_vinyals(whole_folder: Path) -> None:
    sets = load(whole_folder)
    assert sets.name == "Omniglot"
    # In the order of names: Angelic, Greek, Gurmukhi, Latin; Hebrew; Gurmukhi, Kannada.
    assert widest(sets.train[:4]) == [4, 1, 5, 3]
    assert len(sets.train) == 16 and len(sets.validation) == 4
    assert widest(sets.validation[:1]) == [2] and widest(sets.test) == [6, 7]


def test_the_whole_set_comes_before_the_small_ones(whole_folder: Path, small_folder: Path) -> None:
    for zipped in small_folder.glob("*.zip"):
        zipped.rename(whole_folder / zipped.name)
    assert load(whole_folder).name == "Omniglot"
    assert load(whole_folder, "small").name == "small Omniglot"


@pytest.mark.parametrize("images", ["small", "omniglot"])
def test_unpacked_zips_have_the_same_images(
    images: str, whole_folder: Path, small_folder: Path, tmp_path: Path
) -> None:
    folder = small_folder if images == "small" else whole_folder
    zipped = load(folder, images)
    for path in folder.glob("*.zip"):
        # all_runs.zip has no folder of its own name
        place = folder / path.stem if path.stem == "all_runs" else folder
        with zipfile.ZipFile(path) as archive:
            archive.extractall(place)
        path.unlink()
    assert load(folder, images).digest == zipped.digest


def test_zips_are_downloaded_once_and_checked(
    whole_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One server gives one file, so one zip lies there before."""
    data = tmp_path / "data" / "omniglot"
    data.mkdir(parents=True)
    (whole_folder / "images_background.zip").rename(data / "images_background.zip")
    content = (whole_folder / "images_evaluation.zip").read_bytes()
    digest = hashlib.md5(content).hexdigest()
    monkeypatch.setitem(omniglot.WHOLE, "images_evaluation.zip", ("md5", digest))
    config = config_of(f"data_dir={tmp_path}/data", "maml.images=omniglot")
    with serving(b"another file") as server:
        monkeypatch.setattr(omniglot, "URL", server.url + "/")
        with pytest.raises(CorpusUnavailable, match=f"not the expected file .md5 .*{digest}"):
            load_images(config)
        assert [path.name for path in data.iterdir()] == ["images_background.zip"]
        server.content = content
        for _ in range(2):
            assert load_images(config).name == "Omniglot"
        assert len(server.requests) == 2


def test_without_a_network_other_images_are_taken(
    small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    monkeypatch.setattr("w2v_inf.corpus.download.time.sleep", lambda seconds: None)
    data = [f"data_dir={tmp_path}/data"]
    with caplog.at_level(logging.WARNING):
        assert load_images(config_of(*data)).name == "planted"
    assert "Omniglot CANNOT BE HAD: continuing with planted tasks" in caplog.text
    for images in ("small", "omniglot"):
        with pytest.raises(CorpusUnavailable, match="zips with maml.path, or take maml.images=pl"):
            load_images(config_of(*data, f"maml.images={images}"))
    (tmp_path / "data" / "omniglot").mkdir(exist_ok=True)
    for zipped in small_folder.glob("*.zip"):
        zipped.rename(tmp_path / "data" / "omniglot" / zipped.name)
    assert load_images(config_of(*data)).name == "small Omniglot"
    assert load_images(config_of(*data, "maml.images=planted")).name == "planted"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[100:110] = bytes(10)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("all_runs.zip", Path.unlink, "must hold images_background_small1.zip, .*all_runs.zip, or"),
        ("images_background_small1.zip", cut, "is damaged (.*): get it again"),
        ("images_background_small2.zip", spoil, "is damaged (.*): get it again"),
        ("all_runs.zip", lambda p: write_zip(p, {"a.txt": b""}), "has no PNG files"),
        ("all_runs.zip", lambda p: write_zip(p, {"a.png": b"x"}), "is damaged (.*): get it again"),
        ("all_runs.zip", lambda p: write_zip(p, {"a.png": png()}), "no class_labels.txt"),
        (
            "all_runs.zip",
            lambda p: write_zip(p, {"a.png": png(), "r/class_labels.txt": b"\xff"}),
            "is damaged",
        ),
        (
            "all_runs.zip",
            lambda p: write_zip(p, {"a.png": png(), "r/class_labels.txt": b"a.png b.png"}),
            "class_labels.txt names a.png b.png, not there",
        ),
        (
            "images_background_small2.zip",
            lambda p: write_zip(p, {"s/A/character9/1.png": png()}),
            r"more than 4 characters of equally many drawings, got 5 of \[1, 2\]",
        ),
    ],
)
def test_bad_small_zips_are_one_line(small_folder: Path, file: str, change, message: str) -> None:
    change(small_folder / file)
    with pytest.raises(UserError, match=message) as caught:
        load(small_folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (cut, "is damaged (.*): get it again"),
        (Path.unlink, "must hold images_background.zip, images_evaluation.zip, or these unpacked"),
        (
            lambda p: write_zip(p, {"e/Angelic/character01/1.png": png()}),
            r"\(4, 1, 2\) characters to train, .* got \(3, 1, 0\) with \[1, 2\]: get it again",
        ),
    ],
)
def test_bad_whole_zips_are_one_line(whole_folder: Path, change, message: str) -> None:
    change(whole_folder / "images_evaluation.zip")
    with pytest.raises(UserError, match=message) as caught:
        load(whole_folder, "omniglot")
    assert "\n" not in str(caught.value)
