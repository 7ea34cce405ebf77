"""Curves, points and bars show the numbers of their runs."""

import numpy as np
import pytest
from fake_runs import WORDS_PER_EPOCH, make_family, make_run
from matplotlib.colors import to_rgb

from w2v_inf.reporting.curves import plot_accuracy, plot_loss, plot_sections, plot_width
from w2v_inf.runs.results import find_runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_family(tmp_path_factory.mktemp("family") / "runs")


@pytest.fixture(scope="module")
def runs(folder):
    return find_runs([folder])


def _lines(axes):
    return {
        line.get_label().split(":")[0]: line
        for line in axes.lines
        if not line.get_label().startswith("_")
    }


def test_accuracy_has_one_line_per_model_with_the_mean_of_its_seeds(runs):
    figure, caption = plot_accuracy(runs)
    lines = _lines(figure.axes[0])
    assert set(lines) == {"NTK limit", "width 64", "width 256", "width 1,024", "muP limit"}
    assert lines["muP limit"].get_linestyle() == "--" and lines["NTK limit"].get_linestyle() == ":"
    x, y = lines["width 64"].get_data()
    final = [run.accuracy() for run in runs if run.model.width == 64]
    assert list(x) == [0, 1, 2, 3] and y[-1] == pytest.approx(np.mean(final))
    assert len(figure.axes[0].collections) == 3  # a band for each width with several seeds
    assert (
        "text8, CBOW, V = 5,000" in caption
        and "1,918 of 19,544 questions" in caption
        and "1 to 3 seeds per model" in caption
    )


def test_accuracy_counts_words_on_the_upper_axis(runs):
    figure, _ = plot_accuracy(runs)
    upper = figure.axes[0].child_axes[0]
    figure.canvas.draw()
    assert upper.get_xlim() == pytest.approx(np.array(figure.axes[0].get_xlim()) * WORDS_PER_EPOCH)


def test_wider_is_darker(runs):
    lines = _lines(plot_accuracy(runs)[0].axes[0])
    brightness = [
        np.dot(to_rgb(lines[f"width {n}"].get_color()), (0.3, 0.59, 0.11))
        for n in ("64", "256", "1,024")
    ]
    assert brightness[0] > brightness[1] + 0.15 and brightness[1] > brightness[2] + 0.15


def test_width_shows_limits_points_and_the_papers_values(runs):
    figure, caption = plot_width(runs)
    axes = figure.axes[0]
    lines = _lines(axes)
    assert list(lines["muP limit"].get_ydata()) == pytest.approx([44.0, 44.0], abs=0.05)
    assert list(lines["paper's values on text8"].get_ydata()) == [33.35, 41.58, 42.56, 43.31]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert [label.split(":")[0] for label in labels] == [
        "muP limit",
        "width 1,024",
        "width 256",
        "width 64",
        "NTK limit",
        "paper's values on text8",
    ]
    assert "±" in labels[1] and "∞" in caption
    assert "44.0 % in the muP limit" in figure.get_suptitle()


@pytest.mark.parametrize("options", [{"corpus": "planted"}, {"architecture": "skipgram"}])
def test_width_leaves_the_papers_values_out_elsewhere(tmp_path, options):
    figure, caption = plot_width(
        find_runs([make_family(tmp_path, widths=(64,), seeds=(0,), **options)])
    )
    assert not any("paper" in line for line in _lines(figure.axes[0])) and "paper" not in caption


def test_loss_keeps_the_mean_of_lines_at_other_steps(runs):
    figure, _ = plot_loss(runs)
    lines = _lines(figure.axes[0])
    assert set(lines) == {"NTK limit", "width 64", "width 256", "width 1,024", "muP limit"}
    (limit,) = [run for run in runs if run.model.kind == "mup_limit"]
    seen = np.array([0, *(line["words_seen"] for line in limit.progress)])
    whole = np.average([line["loss"] for line in limit.progress], weights=np.diff(seen))
    assert np.mean(lines["muP limit"].get_ydata()) == pytest.approx(whole)


def test_close_view_of_the_loss_is_scaled_to_mup(runs, tmp_path):
    whole, close = plot_loss(runs)[0].axes
    assert close.get_ylim()[1] < whole.get_ylim()[1] and close.get_ylim()[0] < 4.0
    make_run(tmp_path / "a", model="ntk_limit")
    low, high = plot_loss(find_runs([tmp_path]))[0].axes[1].get_ylim()
    assert low < 17.5 < high


def test_sections_without_questions_are_left_out(runs):
    figure, _ = plot_sections(runs)
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        "capital-common-countries (506)",
        "family (420)",
        "gram1-adjective-to-adverb (992)",
    ]
    assert len(axes.patches) == 3 * 5
    assert max(bar.get_width() for bar in axes.patches) == pytest.approx(44, abs=0.2)


def test_other_parametrizations_get_their_own_line(tmp_path):
    make_family(tmp_path / "mup", widths=(64, 256), seeds=(0,))
    for width in (64, 256):
        make_run(tmp_path / f"sp{width}", width=width, parametrization="sp")
    runs = find_runs([tmp_path])
    assert {"width 64", "width 64 (sp)"} <= set(_lines(plot_accuracy(runs)[0].axes[0]))
    plot_width(runs)
