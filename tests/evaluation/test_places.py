"""Cities and states: their file, their principal components and their separation."""

from pathlib import Path

import numpy as np
import pytest
import torch
from fake_runs import make_run
from sklearn.metrics import silhouette_score
from toy_embeddings import Vectors, Vocab, full_vocab

from w2v_inf.errors import UserError
from w2v_inf.evaluation.places import Places, pca, place_gram, separation
from w2v_inf.reference import evaluation as reference


def test_places_of_cased_vectors() -> None:
    vocab = full_vocab()
    u = torch.randn(len(vocab), 7, generator=torch.Generator().manual_seed(6))
    expected = place_gram(Vectors(u), vocab)
    cased = place_gram(Vectors(u), Vocab([word.title() for word in vocab.words]))
    assert cased.words == expected.words and np.array_equal(cased.gram, expected.gram)


def test_places_and_their_file(tmp_path: Path) -> None:
    vocab = full_vocab(num_others=3)
    u = torch.randn(len(vocab), 7, generator=torch.Generator().manual_seed(6))
    places = place_gram(Vectors(u), vocab)
    assert (len(places.words), int(places.is_state.sum()), places.gram.dtype) == (
        94,
        27,
        np.float64,
    )
    assert (
        places.is_state[places.words.index("texas")]
        and not places.is_state[places.words.index("houston")]
    )
    i, j = places.words.index("texas"), places.words.index("chicago")
    assert places.gram[i, j] == pytest.approx(
        float(u[vocab.id_of["texas"]] @ u[vocab.id_of["chicago"]]), rel=1e-5
    )

    places.save(tmp_path / "places.npz")
    loaded = Places.load(tmp_path / "places.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["places.npz"]
    assert loaded.words == places.words
    assert np.array_equal(loaded.is_state, places.is_state) and np.array_equal(
        loaded.gram, places.gram
    )


@pytest.mark.parametrize("content", [None, b"", b"PK damaged", b"\x93NUMPY"])
def test_a_damaged_file_is_named(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "places.npz").write_bytes(content)
    with pytest.raises(UserError, match="places.npz is missing or damaged .*: train the run again"):
        Places.load(tmp_path / "places.npz")


def test_no_damage_to_a_file_is_a_traceback(tmp_path: Path) -> None:
    path = make_run(tmp_path / "a", width=64) / "places.npz"
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    cut = [whole[:length] for length in range(0, len(whole), 53)]
    flipped = [
        whole[:i] + bytes([rng.integers(256)]) + whole[i + 1 :]
        for i in rng.integers(len(whole), size=300)
    ]
    refused = 0
    for damaged in [*cut, *flipped]:
        path.write_bytes(damaged)
        try:
            Places.load(path)
        except UserError as error:
            refused += 1
            assert len(str(error).splitlines()) == 1
    assert refused > 0.8 * (len(cut) + len(flipped))  # some bytes are dates and the like


def test_no_places(tmp_path: Path) -> None:
    places = place_gram(Vectors(torch.eye(2)), Vocab(["a", "b"]))
    places.save(tmp_path / "places.npz")
    loaded = Places.load(tmp_path / "places.npz")
    assert loaded.words == [] and loaded.gram.shape == (0, 0)
    assert pca(loaded.gram)[0].shape == (0, 2)
    assert set(separation(loaded.gram, loaded.is_state).values()) == {None}


@pytest.mark.parametrize("num_places,width", [(30, 8), (10, 40), (6, 2)])
def test_pca_of_gram_is_pca_of_embeddings(num_places: int, width: int) -> None:
    points = np.random.default_rng(width).normal(size=(num_places, width)) + 5.0
    coordinates, ratio = pca(points @ points.T)
    expected, expected_ratio = reference.pca(points)
    np.testing.assert_allclose(coordinates, expected, atol=1e-9)
    np.testing.assert_allclose(ratio, expected_ratio, atol=1e-12)


def test_pca_of_too_few_points() -> None:
    points = np.array([[1.0, 0.0], [0.0, 1.0]])
    coordinates, ratio = pca(points @ points.T, num_components=3)
    np.testing.assert_allclose(np.abs(coordinates), [[np.sqrt(0.5), 0, 0]] * 2, atol=1e-12)
    np.testing.assert_allclose(ratio, [1, 0, 0], atol=1e-12)
    coordinates, ratio = pca(np.ones((4, 4)))  # four times the same point
    assert not coordinates.any() and not ratio.any()


def test_separation_of_clusters_and_of_noise() -> None:
    rng = np.random.default_rng(7)
    is_state = np.arange(94) >= 67
    noise = rng.normal(size=(94, 64))
    apart = noise + 8.0 * is_state[:, None] * rng.normal(size=64)
    near, far = (separation(points @ points.T, is_state) for points in (noise, apart))
    assert far["silhouette"] == pytest.approx(silhouette_score(reference.pca(apart)[0], is_state))
    assert far["silhouette_full"] == pytest.approx(silhouette_score(apart, is_state))
    assert far["linear_accuracy"] == 100.0 and far["baseline"] == pytest.approx(100 * 67 / 94)
    assert far["silhouette"] is not None and far["silhouette"] > 0.9
    assert far["silhouette_full"] is not None and far["silhouette_full"] > 0.5
    assert near["silhouette"] is not None and abs(near["silhouette"]) < 0.15
    assert near["linear_accuracy"] is not None and near["baseline"] is not None
    assert near["linear_accuracy"] < near["baseline"] + 10


def test_separation_without_two_kinds() -> None:
    only_cities = separation(np.eye(6), np.zeros(6, dtype=bool))
    assert only_cities == {
        "silhouette": None,
        "silhouette_full": None,
        "linear_accuracy": None,
        "baseline": 100.0,
    }
    few_states = separation(np.diag(np.arange(1.0, 11.0)), np.arange(10) >= 8)
    assert few_states["silhouette"] is not None and few_states["linear_accuracy"] is None
