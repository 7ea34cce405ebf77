"""Maps: PCA at the end, the same axes at every epoch, and a sample where all words tie."""

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from w2v_inf.evaluation.places import pca
from w2v_inf.explore.groups import group_maps, map_of_factor, sample_map, silhouette

IS_SECOND = np.arange(12) >= 7


def trained(epoch: int) -> np.ndarray:
    """Embeddings that start orthogonal; two kinds part by 2 per epoch along one direction."""
    u = np.eye(12, 14)
    u[:, 12] = epoch * np.where(IS_SECOND, 1.0, -1.0)
    u[:, 13] = 0.5 * epoch * np.linspace(-1, 1, 12)
    return u


def grams(num_epochs: int) -> list[np.ndarray]:
    return [(u := trained(epoch)) @ u.T for epoch in range(num_epochs + 1)]


def test_the_map_of_a_factor_is_its_pca() -> None:
    factor = np.random.default_rng(0).standard_normal((30, 6)) / np.arange(1, 7)
    xy, shares = map_of_factor(factor)
    expected, ratio = pca(factor @ factor.T)
    np.testing.assert_allclose(xy, expected, atol=1e-10)
    np.testing.assert_allclose(shares, ratio, atol=1e-10)


def test_the_last_map_of_a_group_is_its_pca() -> None:
    np.testing.assert_allclose(group_maps(grams(4))[-1], pca(grams(4)[-1])[0], atol=1e-10)


def test_a_point_is_its_inner_product_with_a_fixed_sum_of_words() -> None:
    """Slowly: the sum has the weights of the last PCA, and centred words at each epoch."""
    maps = group_maps(grams(4))
    last = trained(4) - trained(4).mean(axis=0)
    values, vectors = np.linalg.eigh(last @ last.T)
    for epoch in range(5):
        u = trained(epoch) - trained(epoch).mean(axis=0)
        for k in range(2):
            weights = vectors[:, -1 - k] / np.sqrt(values[-1 - k])
            axis = sum(weight * row for weight, row in zip(weights, u, strict=True))
            np.testing.assert_allclose(np.abs(maps[epoch][:, k]), np.abs(u @ axis), atol=1e-10)


def test_kinds_part_in_the_limit_and_stay_put_without_movement() -> None:
    maps = group_maps(grams(4))
    widths = [np.ptp(xy[:, 0]) for xy in maps]
    assert widths == sorted(widths) and widths[0] < 0.05 * widths[-1]
    still = group_maps([grams(4)[-1]] * 3)
    assert np.array_equal(still[0], still[2])


def test_a_sample_is_always_the_same() -> None:
    assert np.array_equal(sample_map(50), sample_map(50))
    assert sample_map(5000).std() == pytest.approx(1 / 8, rel=0.05)


def test_separation_of_two_kinds() -> None:
    apart = np.where(IS_SECOND[:, None], 5.0, 0.0) + sample_map(12)
    found = silhouette(apart @ apart.T, IS_SECOND)
    assert found == pytest.approx(silhouette_score(apart, IS_SECOND)) and found > 0.9
    assert silhouette(apart @ apart.T, np.arange(12) >= 11) is None
    assert silhouette(np.eye(12), IS_SECOND) == pytest.approx(0)  # all as far apart as any
