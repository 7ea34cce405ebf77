"""The PCA figure: its panels, its labels, and damaged files of places."""

import io

import numpy as np
import pytest
from fake_runs import make_family, make_run

from w2v_inf.errors import UserError
from w2v_inf.reporting.pca import choose_panels, plot_pca
from w2v_inf.runs.results import find_runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_family(tmp_path_factory.mktemp("family") / "runs")


@pytest.fixture(scope="module")
def runs(folder):
    return find_runs([folder])


def test_pca_takes_a_sample_for_the_ntk_limit_and_says_so(runs):
    panels = choose_panels(runs)
    assert [panel.name for panel in panels] == [
        "NTK limit (sample of width 64)",
        "width 64",
        "muP limit",
    ]
    assert np.linalg.matrix_rank(panels[0].places.gram) > 2 and not np.allclose(
        panels[0].places.gram, np.eye(19)
    )
    figure, caption = plot_pca(runs)
    titles = [axes.get_title() for axes in figure.axes]
    assert all("silhouette" in title and "linear" in title for title in titles)
    assert "NTK: sampled initialisation, seed 0" in caption
    points = [len(collection.get_offsets()) for collection in figure.axes[2].collections]
    assert points == [12, 7]
    assert "state3" in [text.get_text() for text in figure.axes[2].texts]


def test_pca_labels_do_not_overlap(runs):
    figure, _ = plot_pca(runs)
    figure.canvas.draw()
    for axes in figure.axes:
        boxes = [text.get_window_extent() for text in axes.texts]
        # the box of the renderer has the line's full height, the ink is about half as high
        ink = [box.shrunk(0.98, 0.5) for box in boxes]
        assert len(ink) > 5 and not any(a.overlaps(b) for i, a in enumerate(ink) for b in ink[:i])


def test_pca_draws_what_is_there(tmp_path):
    make_run(tmp_path / "a", width=256)
    runs = find_runs([tmp_path])
    assert [axes.get_title().split("\n")[0] for axes in plot_pca(runs)[0].axes] == ["width 256"]
    (tmp_path / "a" / "places.npz").unlink()
    with pytest.raises(UserError, match="plot.figure=pca needs"):
        plot_pca(runs)


def _places_file(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _one_array(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


DAMAGED_PLACES = {
    "empty": b"",
    "no archive": b"words",
    "one array": _one_array(np.eye(3)),
    "an array lacks": _places_file(words=["a"], is_state=[True]),
    "pickled": _places_file(words=np.array([{}]), is_state=[True], gram=np.eye(1)),
    "do not fit": _places_file(words=["a", "b"], is_state=[True, False], gram=np.eye(3)),
    "numbers for kinds": _places_file(words=["a", "b"], is_state=[1, 0], gram=np.eye(2)),
}


@pytest.mark.parametrize("damaged", DAMAGED_PLACES.values(), ids=DAMAGED_PLACES)
def test_damaged_places_are_named_in_one_line(tmp_path, damaged):
    path = make_run(tmp_path / "a", width=64) / "places.npz"
    path.write_bytes(damaged)
    with pytest.raises(UserError, match=f"^{path} is missing or damaged .+: train the run again$"):
        plot_pca(find_runs([tmp_path]))
