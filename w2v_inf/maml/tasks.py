"""Few-shot tasks of images of many classes, and a planted set of classes.

Planted: class means lie in a subspace, and noise everywhere. A learner that finds the subspace
tells classes apart; a fixed kernel sees the noise.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from w2v_inf.errors import UserError

PLANTED_D, PLANTED_RANK, PLANTED_NOISE = 60, 8, 0.25


@dataclass(frozen=True)
class Tasks:
    """T tasks of C classes, with one support and one query image of each class.

    An image of column c has label c. Tasks may share images, so that each is multiplied once.
    """

    images: Tensor
    """[N, d]."""
    support: Tensor
    """[T, C], rows of `images`."""
    query: Tensor

    @cached_property
    def among(self) -> Tensor:
        """Inner products of the support images of each task, [T, C, C]."""
        support = self.images[self.support]
        return support @ support.mT

    @cached_property
    def across(self) -> Tensor:
        """Inner products of each task's query images (rows) and support images, [T, C, C]."""
        return self.images[self.query] @ self.images[self.support].mT

    @cached_property
    def parts(self) -> list["Tasks"]:
        """At most 100 tasks each: what is computed of a part stays in a processor's cache."""
        pairs = zip(self.support.split(100), self.query.split(100), strict=True)
        return [Tasks(self.images, support, query) for support, query in pairs]


@dataclass(frozen=True)
class ImageSets:
    """Classes of images for training, validation and test, each [classes, images, d], float64."""

    name: str
    train: Tensor
    validation: Tensor
    test: Tensor

    @cached_property
    def digest(self) -> str:
        """Identifies the images."""
        digest = hashlib.sha256()
        for images in (self.train, self.validation, self.test):
            digest.update(str(tuple(images.shape)).encode())
            digest.update(images.numpy().tobytes())
        return digest.hexdigest()[:16]


def draw_tasks(
    classes: Tensor, num_tasks: int, num_classes: int, generator: torch.Generator
) -> Tasks:
    """Tasks of different classes, with two different images of each, from [classes, images, d].

    Raises: UserError if there are too few classes, or classes of one image.
    """
    available, num_images, _ = classes.shape
    if available < num_classes or num_images < 2:
        raise UserError(
            f"{num_classes}-way tasks need {num_classes} classes of at least 2 images, got "
            f"{available} of {num_images}: give more classes"
        )
    chosen = torch.rand(num_tasks, available, generator=generator).topk(num_classes).indices
    drawings = torch.rand(num_tasks, num_classes, num_images, generator=generator).topk(2).indices
    rows = num_images * chosen[..., None] + drawings  # [T, C, 2]
    images = classes.flatten(0, 1)
    if rows.numel() < len(images):
        images, rows = images[rows.flatten()], torch.arange(rows.numel()).view(rows.shape)
    return Tasks(images, *rows.unbind(-1))


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
