"""Omniglot (Lake et al. 2015) as classes of images: all of it, or its small sets.

Decisions:
- Ink is 1; 105 x 105 pixels are averaged to 28 x 28; nothing is normalised.
- Rotations by 90, 180 and 270 degrees are new classes in training and validation, not in the test.
- All of it: the split of Vinyals et al. 2016 into 1,028, 172 and 423 characters, as torchmeta's
  assets/omniglot/*.json list it. Five background alphabets validate. The test begins in the middle
  of an evaluation alphabet. Everything else is trained on.
- Small: the two small background sets overlap; a character counts once. The first 200 of a fixed
  shuffle are trained on, the others validate. The 400 pairs of the one-shot runs are the test.
- Downloads have known checksums, the whole sets those of torchvision's datasets/omniglot.py. Zips
  and folders of the user's are known by the characters that they hold.
"""

import hashlib
import io
import logging
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from w2v_inf.config import Config, Images
from w2v_inf.corpus.download import CorpusUnavailable, download
from w2v_inf.errors import UserError, check
from w2v_inf.maml.tasks import ImageSets, planted
from w2v_inf.system_errors import raise_if_refused

SIDE, NUM_DRAWINGS = 28, 20
URL = "https://github.com/brendenlake/omniglot/raw/master/python/"
WHOLE = {
    "images_background.zip": ("md5", "68d2efa1b9178cc56df9314c21c6e718"),
    "images_evaluation.zip": ("md5", "6b91aef0f799c5bb55b94e3f2daec811"),
}
SMALL = {
    "images_background_small1.zip": (
        "sha256",
        "f38eb80f801274ac2b4dff5b24289016bfaba4a7d5bb50deebf27104ad6cb8a4",
    ),
    "images_background_small2.zip": (
        "sha256",
        "3ccaa407515a8778e5d0861875af38b17e418f301ad5bb3b5a6b65d901a41c7f",
    ),
    "one-shot-classification/all_runs.zip": (
        "sha256",
        "437c1eeab0af8484112e1b4cc0f3d541ec727f7c47b9b202da738af9dfd6c325",
    ),
}
"""Path below URL, algorithm and digest of each zip."""
VALIDATION = {"Armenian", "Bengali", "Early_Aramaic", "Hebrew", "Mkhedruli_(Georgian)"}
TEST_FROM = "Gurmukhi/character42"
NUM_CHARACTERS = (1028, 172, 423)
NUM_SMALL_TRAIN = 200
log = logging.getLogger(__name__)


def load_images(config: Config) -> ImageSets:
    """The images that `maml.images` names; downloads Omniglot to data_dir without `maml.path`.

    auto takes what lies in `maml.path`. Without one it takes the whole of Omniglot, without a
    network the small sets in data_dir, and without those the planted classes.
    Raises: UserError if files are missing, damaged or have other contents.
    Cost: the whole of Omniglot takes 0.7 GB.
    """
    images, path = config.maml.images, config.maml.path
    folder = Path(path or Path(config.data_dir) / "omniglot")
    if images is Images.planted:
        return planted()
    if images is Images.auto and path:
        is_small = not _holds(folder, WHOLE) and any(_find(folder, name) for name in SMALL)
        images = Images.small if is_small else Images.omniglot
    if images is Images.small:
        return small(folder, can_download=not path)
    try:
        return whole(folder, can_download=not path)
    except CorpusUnavailable as error:
        if images is not Images.auto:
            raise
        can_be_small = _holds(folder, SMALL)
        instead = "Omniglot's small sets" if can_be_small else "planted tasks"
        log.warning("%s\nOmniglot CANNOT BE HAD: continuing with %s", error, instead)
        return small(folder, can_download=False) if can_be_small else planted()


def _holds(folder: Path, archives: dict[str, tuple[str, str]]) -> bool:
    return all(_find(folder, name) for name in archives)


def _find(folder: Path, name: str) -> Path | None:
    """A zip, or the folder that it was unpacked to."""
    path = folder / Path(name).name
    return next((p for p in (path, path.with_suffix("")) if p.exists()), None)


def _fetch(folder: Path, archives: dict[str, tuple[str, str]], can_download: bool) -> list[Path]:
    """The files of a set, in order; those that are missing are downloaded.

    Raises: CorpusUnavailable if the download fails; UserError for files missing in `maml.path`.
    """
    if not can_download and not _holds(folder, archives):
        names = ", ".join(Path(name).name for name in archives)
        raise UserError(
            f"maml.path: {folder} must hold {names}, or these unpacked: "
            "get them from github.com/brendenlake/omniglot, python/"
        )
    return [_find(folder, name) or _download(folder, name, *archives[name]) for name in archives]


def _download(folder: Path, name: str, algorithm: str, digest: str) -> Path:
    def check_digest(path: Path) -> None:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, algorithm).hexdigest()
        check(f"{algorithm} of {path}", found, found == digest, digest)

    advice = "give a folder of Omniglot's zips with maml.path, or take maml.images=planted"
    return download(URL + name, folder / Path(name).name, check_digest, advice=advice)


def whole(folder: Path, can_download: bool) -> ImageSets:
    """All 1,623 characters in Vinyals' split."""
    background, evaluation = map(_characters, _fetch(folder, WHOLE, can_download))
    validation = {name for name in background if name.split("/")[0] in VALIDATION}
    test = {name for name in evaluation if name >= TEST_FROM}
    characters = background | evaluation
    train = {*characters} - validation - test
    sizes = tuple(len(names) for names in (train, validation, test))
    counts = {len(images) for images in characters.values()}
    if sizes != NUM_CHARACTERS or counts != {NUM_DRAWINGS}:
        raise UserError(
            f"{folder}: Omniglot must have {NUM_CHARACTERS} characters to train, validate and test "
            f"with {NUM_DRAWINGS} drawings each, got {sizes} with {sorted(counts)}: get it again"
        )
    parts = (_stack(characters, names) for names in (train, validation, test))
    train_images, validation_images, test_images = parts
    return ImageSets(
        "Omniglot", _rotated(train_images), _rotated(validation_images), test_images.flatten(2)
    )


def small(folder: Path, can_download: bool) -> ImageSets:
    """The small background sets, and the one-shot runs as the test."""
    *background, runs = _fetch(folder, SMALL, can_download)
    characters: dict[str, list[Tensor]] = {}
    for path in background:
        characters |= _characters(path)
    counts = {len(images) for images in characters.values()}
    if len(counts) != 1 or len(characters) <= NUM_SMALL_TRAIN:
        raise UserError(
            f"{folder}: the small sets must hold more than {NUM_SMALL_TRAIN} characters of equally "
            f"many drawings, got {len(characters)} of {sorted(counts)}: get them again"
        )
    images = _stack(characters, {*characters})
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    train, validation = images[order[:NUM_SMALL_TRAIN]], images[order[NUM_SMALL_TRAIN:]]
    return ImageSets("small Omniglot", _rotated(train), _rotated(validation), _pairs(runs))


def _characters(path: Path) -> dict[str, list[Tensor]]:
    """Drawings of each character, ALPHABET/CHARACTER, in the order of their names."""
    found: dict[str, list[Tensor]] = {}
    for name, image in _read(path)[0].items():
        found.setdefault("/".join(PurePosixPath(name).parts[-3:-1]), []).append(image)
    return found


def _stack(characters: dict[str, list[Tensor]], names: set[str]) -> Tensor:
    """[characters, drawings, 28, 28], in the order of names."""
    return torch.stack([torch.stack(characters[name]) for name in sorted(names)])


def _rotated(images: Tensor) -> Tensor:
    """The classes [C, M, 28, 28] and their rotations as classes, [4 C, M, 784]."""
    return torch.cat([images.rot90(turn, (2, 3)) for turn in range(4)]).flatten(2)


def _pairs(path: Path) -> Tensor:
    """Support and query drawing of each class of the one-shot runs, [pairs, 2, 784]."""
    (images, lines), pairs = _read(path), []
    for line in lines:
        query, _, support = line.partition(" ")
        if not {query, support} <= {*images}:
            raise UserError(f"{path}: class_labels.txt names {line}, not there: get it again")
        pairs.append(torch.stack([images[support], images[query]]))
    if not pairs:
        raise UserError(f"{path}: no class_labels.txt: give all_runs.zip of brendenlake/omniglot")
    return torch.stack(pairs).flatten(2)


def _read(path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """Images [28, 28] by the names of their PNG files, in order; and the lines of class_labels.txt.

    Raises: UserError if the zip or folder is damaged, or has no drawings.
    """
    images, lines = {}, []
    try:
        for name, content in _files(path):
            if name.endswith(".png"):
                images[name] = _shrink(content)
            if name.endswith("/class_labels.txt"):
                lines += content.decode().split("\n")
    except (zipfile.BadZipFile, OSError, ValueError, SyntaxError, EOFError) as error:
        raise_if_refused(path, error)
        raise UserError(f"{path} is damaged ({error}): get it again") from None
    if not images:
        raise UserError(f"{path} has no PNG files: get it from github.com/brendenlake/omniglot")
    return images, [line.strip() for line in lines if line.strip()]


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents in the order of names; those that macOS adds to zips are left out."""
    if path.is_dir():
        for file in sorted(path.rglob("*.*")):
            yield file.relative_to(path).as_posix(), file.read_bytes()
        return
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            if not name.startswith("__MACOSX"):
                yield name, archive.read(name)


def _shrink(png: bytes) -> Tensor:
    """A drawing of dark ink [105, 105] as ink [28, 28], by averages."""
    with Image.open(io.BytesIO(png)) as image:
        if image.mode not in ("1", "L"):
            raise ValueError("a drawing must be black and white")
        dark = 1 - np.asarray(image.convert("L"), np.float64) / 255
    return torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(dark)[None], SIDE)[0]
