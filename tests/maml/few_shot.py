"""Small tasks for the tests of the network and of the kernels."""

import torch

from w2v_inf.maml.tasks import Tasks


def tasks(seed: int = 0, num_tasks: int = 6, num_classes: int = 5, d: int = 7) -> Tasks:
    """Tasks that share some of their images."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(4 * num_classes, d, generator=generator, dtype=torch.float64)
    rows = torch.rand(num_tasks, len(images), generator=generator).argsort(1)
    return Tasks(images, rows[:, :num_classes], rows[:, num_classes : 2 * num_classes])


def pairs(some: Tasks) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Support and query images of each task."""
    return [(some.images[s], some.images[q]) for s, q in zip(some.support, some.query, strict=True)]
