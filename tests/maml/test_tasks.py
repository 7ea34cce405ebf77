"""Tasks, and the planted set."""

import pytest
import torch

from w2v_inf.errors import UserError
from w2v_inf.maml.tasks import draw_tasks, planted


@pytest.mark.parametrize("num_tasks", [2, 300])
def test_tasks_have_different_classes_and_images(num_tasks: int) -> None:
    classes = torch.arange(24.0).view(6, 4, 1)
    tasks = draw_tasks(classes, num_tasks, 5, torch.Generator().manual_seed(0))
    assert len(tasks.images) == min(10 * num_tasks, 24)  # each once, or only those that are drawn
    support, query = (tasks.images[rows][..., 0] for rows in (tasks.support, tasks.query))
    assert support.shape == query.shape == (num_tasks, 5)
    assert torch.equal(support // 4, query // 4) and (support != query).all()
    assert all(len(set(task.tolist())) == 5 for task in support // 4)
    assert num_tasks < 300 or len(support.unique()) == len(query.unique()) == 24


def test_inner_products_are_those_of_each_task() -> None:
    few, many = torch.rand(6, 4, 3), torch.rand(6, 40, 3)
    for classes in (few, many):
        tasks = draw_tasks(classes, 5, 5, torch.Generator().manual_seed(0))

        support, query = tasks.images[tasks.support], tasks.images[tasks.query]
        for task in range(5):
            torch.testing.assert_close(tasks.among[task], support[task] @ support[task].T)
            torch.testing.assert_close(tasks.across[task], query[task] @ support[task].T)


@pytest.mark.parametrize("shape", [(4, 3, 2), (9, 1, 2)])
def test_too_few_images_are_one_line(shape: tuple[int, int, int]) -> None:
    with pytest.raises(UserError, match=rf"5 classes of at least 2 images, got {shape[0]} of"):
        draw_tasks(torch.zeros(shape), 1, 5, torch.Generator())


def test_the_planted_classes_lie_in_a_subspace() -> None:
    sets = planted()
    assert torch.equal(sets.train, planted().train) and sets.digest == planted().digest
    assert sets.digest != planted(1).digest
    means = torch.cat([sets.train, sets.test]).mean(1)
    values = torch.linalg.svdvals(means)
    assert values[7] > 4 * values[8] and values[8] < 1.5 * values[9]
