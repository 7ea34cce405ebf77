"""Tasks, the planted set, and Omniglot's zips: whole, damaged and missing."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from w2v_inf.errors import UserError
from w2v_inf.maml import tasks as module
from w2v_inf.maml.tasks import draw_tasks, omniglot, planted


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
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Zips of 4 + 4 characters, two of which are the same, and of two pairs."""
    monkeypatch.setattr(module, "NUM_TRAIN", 4)
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


def test_tasks_have_different_classes_and_images() -> None:
    images = torch.arange(24.0).view(6, 4, 1)
    support, query = draw_tasks(images, 300, 5, torch.Generator().manual_seed(0))
    assert support.shape == query.shape == (300, 5, 1)
    classes = support[..., 0] // 4
    assert torch.equal(classes, query[..., 0] // 4) and (support != query).all()
    assert all(len(set(task.tolist())) == 5 for task in classes)
    assert len(support.unique()) == len(query.unique()) == 24


@pytest.mark.parametrize("shape", [(4, 3, 2), (9, 1, 2)])
def test_too_few_images_are_one_line(shape: tuple[int, int, int]) -> None:
    with pytest.raises(UserError, match=rf"5 classes of at least 2 images, got {shape[0]} of"):
        draw_tasks(torch.zeros(shape), 1, 5, torch.Generator())


def test_the_planted_classes_lie_in_a_subspace() -> None:
    sets = planted()
    assert torch.equal(sets.train, planted().train)
    means = torch.cat([sets.train, sets.test]).mean(1)
    values = torch.linalg.svdvals(means)
    assert values[7] > 4 * values[8] and values[8] < 1.5 * values[9]


def test_omniglot_is_read_with_rotations_in_training_only(folder: Path) -> None:
    sets = omniglot(folder)
    assert sets.train.shape == (16, 2, 784) and sets.validation.shape == (8, 2, 784)
    assert sets.test.shape == (2, 2, 784)
    images = sets.train.view(4, 4, 2, 28, 28)
    for turn in range(4):
        assert torch.equal(images[turn], images[0].rot90(turn, (2, 3)))
    ink = sets.test.view(2, 2, 28, 28) * 105**2 / 28**2  # pixels of ink per pixel, about
    expected = torch.tensor([[100.0, 0.0], [900.0, 400.0]]).double()
    torch.testing.assert_close(ink.sum((2, 3)), expected, rtol=0.06, atol=0)
    assert ink[0, 0, 0, 0] > 10 and ink[0, 0, -1, -1] == 0


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[100:110] = bytes(10)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("all_runs.zip", Path.unlink, "not found: get it from github.com/brendenlake/omniglot"),
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
def test_bad_zips_are_one_line(folder: Path, file: str, change, message: str) -> None:
    change(folder / file)
    with pytest.raises(UserError, match=message) as caught:
        omniglot(folder)
    assert "\n" not in str(caught.value)
