"""Images of many classes for few-shot tasks: Omniglot's from zips at hand, or a planted set.

Decisions:
- Omniglot: ink is 1; 105 x 105 pixels are averaged to 28 x 28; nothing is normalised.
- Rotations by 90, 180 and 270 degrees are new classes in training and validation, not in the test.
- The small background sets overlap; a character counts once. The first 200 of a fixed shuffle are
  trained on, the others validate. The 400 pairs of the one-shot runs are the test.
- Planted: class means lie in a subspace, and noise everywhere. A learner that finds the subspace
  tells classes apart; a fixed kernel sees the noise.
"""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from matplotlib.image import imread
from torch import Tensor

from w2v_inf.errors import UserError
from w2v_inf.maml.network import Tasks
from w2v_inf.system_errors import raise_if_refused

SIDE, NUM_TRAIN = 28, 200
BACKGROUND = ("images_background_small1.zip", "images_background_small2.zip")
RUNS = "all_runs.zip"
PLANTED_D, PLANTED_RANK, PLANTED_NOISE = 60, 8, 0.25


@dataclass(frozen=True)
class ImageSets:
    """Classes of images for training, validation and test, each [classes, images, d], float64."""

    name: str
    train: Tensor
    validation: Tensor
    test: Tensor


def draw_tasks(
    images: Tensor, num_tasks: int, num_classes: int, generator: torch.Generator
) -> Tasks:
    """Tasks of different classes, with two different images of each.

    Raises: UserError if there are too few classes, or classes of one image.
    """
    available, num_images, _ = images.shape
    if available < num_classes or num_images < 2:
        raise UserError(
            f"{num_classes}-way tasks need {num_classes} classes of at least 2 images, got "
            f"{available} of {num_images}: give more classes"
        )
    classes = torch.rand(num_tasks, available, generator=generator).topk(num_classes).indices
    drawings = torch.rand(num_tasks, num_classes, num_images, generator=generator).topk(2).indices
    return Tasks(*(images[classes, drawings[..., part]] for part in (0, 1)))


def planted(seed: int = 0) -> ImageSets:
    """Gaussian classes whose means lie in a random subspace."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.randn(PLANTED_D, PLANTED_RANK, generator=generator, dtype=torch.float64)
    basis = torch.linalg.qr(basis).Q

    def classes(number: int) -> Tensor:
        means = torch.randn(number, 1, PLANTED_RANK, generator=generator, dtype=torch.float64)
        noise = torch.randn(number, 20, PLANTED_D, generator=generator, dtype=torch.float64)
        return means @ basis.T / PLANTED_RANK**0.5 + PLANTED_NOISE * noise

    return ImageSets("planted", classes(400), classes(100), classes(200))


def omniglot(folder: Path) -> ImageSets:
    """Omniglot from the zips of brendenlake/omniglot in `folder`.

    Raises: UserError if one is missing, damaged, or has other contents.
    """
    characters: dict[str, list[Tensor]] = {}
    for file in BACKGROUND:
        found: dict[str, list[Tensor]] = {}
        for name, image in _read_zip(folder / file)[0].items():
            found.setdefault("/".join(PurePosixPath(name).parts[1:3]), []).append(image)
        characters |= found
    sizes = {len(images) for images in characters.values()}
    if len(sizes) != 1 or len(characters) <= NUM_TRAIN:
        raise UserError(
            f"{folder}: the background zips must hold more than {NUM_TRAIN} characters of equally "
            f"many drawings, got {len(characters)} of {sorted(sizes)}"
        )
    images = torch.stack([torch.stack(characters[name]) for name in sorted(characters)])
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    train, validation = images[order[:NUM_TRAIN]], images[order[NUM_TRAIN:]]
    return ImageSets("omniglot", _rotated(train), _rotated(validation), _read_pairs(folder / RUNS))


def _read_pairs(path: Path) -> Tensor:
    """Support and query drawing of each class of the one-shot runs, [pairs, 2, d]."""
    (images, lines), pairs = _read_zip(path), []
    for line in lines:
        query, _, support = line.partition(" ")
        if not {query, support} <= {*images}:
            raise UserError(f"{path}: class_labels.txt names {line}, not there: get it again")
        pairs.append(torch.stack([images[support], images[query]]))
    if not pairs:
        raise UserError(f"{path}: no class_labels.txt: give all_runs.zip of brendenlake/omniglot")
    return torch.stack(pairs).flatten(2)


def _read_zip(path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """Images [28, 28] by the names of their PNG files, in order; and the lines of class_labels.txt.

    Raises: UserError if the zip is missing, damaged, or has no drawings.
    """
    if not path.is_file():
        raise UserError(f"{path} not found: get it from github.com/brendenlake/omniglot, python/")
    images, lines = {}, []
    try:
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                if name.endswith(".png") and not name.startswith("__MACOSX"):
                    images[name] = _shrink(imread(io.BytesIO(archive.read(name))))
                if name.endswith("/class_labels.txt") and not name.startswith("__MACOSX"):
                    lines += archive.read(name).decode().split("\n")
    except (zipfile.BadZipFile, OSError, ValueError, SyntaxError, EOFError) as error:
        raise_if_refused(path, error)
        raise UserError(f"{path} is damaged ({error}): get it again") from None
    if not images:
        raise UserError(f"{path} has no PNG files: get it from github.com/brendenlake/omniglot")
    return images, [line.strip() for line in lines if line.strip()]


def _shrink(drawing: np.ndarray) -> Tensor:
    """A drawing of dark ink [105, 105] as ink [28, 28], by averages."""
    if drawing.ndim != 2:
        raise ValueError("a drawing must be black and white")
    ink = 1 - torch.from_numpy(np.array(drawing, dtype=np.float64))
    return torch.nn.functional.adaptive_avg_pool2d(ink[None], SIDE)[0]


def _rotated(images: Tensor) -> Tensor:
    """The classes [C, M, 28, 28] and their rotations as classes, [4 C, M, 784]."""
    return torch.cat([images.rot90(turn, (2, 3)) for turn in range(4)]).flatten(2)
