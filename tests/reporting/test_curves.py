"""Figures show the numbers of the runs they were drawn from, and repeat byte for byte."""

import io
import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from fake_runs import WORDS_PER_EPOCH, make_family, make_run
from matplotlib.colors import to_rgb

from w2v_inf.config import PROJECT_ROOT, Config, Finite, PlotConfig, Text8
from w2v_inf.config import Figure as FigureName
from w2v_inf.errors import UserError
from w2v_inf.evaluation.places import Places
from w2v_inf.reporting.curves import plot_accuracy, plot_loss, plot_sections, plot_width
from w2v_inf.reporting.pca import choose_panels, plot_pca
from w2v_inf.reporting.plot import FIGURES, draw, plot
from w2v_inf.reporting.style import save
from w2v_inf.runs.results import find_runs, group_runs, group_titles


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


@pytest.mark.parametrize(
    "changed",
    [
        {"corpus": "fil9"},
        {"vocab_size": 6000},
        {"architecture": "skipgram"},
        {"epochs": 4},
        {"lr": 0.1},
    ],
    ids=lambda c: next(iter(c)),
)
def test_runs_that_differ_never_share_a_figure(tmp_path, changed):
    make_run(tmp_path / "a", width=64)
    make_run(tmp_path / "b", width=64, seed=1, **changed)
    runs = find_runs([tmp_path])
    groups = group_runs(runs)
    assert len(groups) == 2 and len(set(group_titles(groups).values())) == 2
    assert len({drawing.name for drawing in draw(runs, ["accuracy"])}) == 2
    with pytest.raises(UserError, match="cannot be compared"):
        plot_accuracy(runs)


def test_accuracy_has_a_line_a_model_with_the_mean_of_its_seeds(runs):
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
        and "width 64: 3" in caption
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
    (limit,) = [run for run in runs if run.model.rank == 2]
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
    assert "Gaussian sample of the initialisation (seed 0)" in caption
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


def test_no_damage_to_places_is_a_traceback(tmp_path):
    path = tmp_path / "places.npz"
    whole = (make_run(tmp_path / "a", width=64) / "places.npz").read_bytes()
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


def test_the_other_figures_are_drawn_without_places(tmp_path, caplog):
    (make_run(tmp_path / "a", width=64) / "places.npz").write_bytes(b"")
    assert [drawing.name for drawing in draw(find_runs([tmp_path]), ["pca", "loss"])] == ["loss"]
    assert "not drawn" in caplog.text and "places.npz is missing or damaged" in caplog.text


def test_other_parametrizations_get_their_own_line(tmp_path):
    make_family(tmp_path / "mup", widths=(64, 256), seeds=(0,))
    for width in (64, 256):
        make_run(tmp_path / f"sp{width}", width=width, parametrization="sp")
    runs = find_runs([tmp_path])
    assert {"width 64", "width 64 (sp)"} <= set(_lines(plot_accuracy(runs)[0].axes[0]))
    plot_width(runs)


def test_no_questions_is_an_error_that_names_the_figure(tmp_path):
    folder = make_run(tmp_path / "a", width=64)
    summary = json.loads((folder / "summary.json").read_text())
    summary["evaluation"]["analogy"]["3cosadd"]["total"] = {
        "accuracy": None,
        "correct": 0,
        "questions": 0,
        "total": 19544,
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(UserError, match="plot.figure=width"):
        draw(find_runs([tmp_path]), ["width"])


def test_files_are_valid_and_repeat_byte_for_byte(folder, tmp_path):
    runs = find_runs(
        [folder / name for name in ("ntk_limit-seed0", "finite-64-seed0", "finite-64-seed1")]
    )
    for name in FIGURES:
        first = [
            path.read_bytes() for path in save(draw(runs, [name])[0].figure, tmp_path / "a", name)
        ]
        again = [
            path.read_bytes() for path in save(draw(runs, [name])[0].figure, tmp_path / "b", name)
        ]
        assert first == again
        assert first[0].startswith(b"\x89PNG\r\n")
        assert ElementTree.fromstring(first[1]).tag.endswith("svg") and b"<dc:date>" not in first[1]


def _config(**options):
    return Config(corpus=Text8(), model=Finite(), plot=PlotConfig(**options))


def test_stage_writes_and_prints_the_files(folder, tmp_path, capsys):
    paths = plot(_config(figure=FigureName.loss, runs=[str(folder)], out=str(tmp_path / "out")))
    assert [path.name for path in paths] == ["loss.png", "loss.svg"] and all(
        path.exists() for path in paths
    )
    assert capsys.readouterr().out.split() == [str(path) for path in paths]


def test_stage_puts_figures_beside_the_runs(tmp_path):
    make_run(tmp_path / "a", width=64)
    make_run(tmp_path / "b", width=64, seed=1)
    paths = plot(
        _config(figure=FigureName.accuracy, runs=[str(tmp_path / "a"), str(tmp_path / "b")])
    )
    assert paths[0] == tmp_path / "figures" / "accuracy.png"


def test_a_folder_of_mixed_runs_gets_a_file_each(tmp_path):
    for corpus, architecture in (("text8", "cbow"), ("text8", "skipgram"), ("planted", "cbow")):
        make_run(
            tmp_path / corpus / architecture / "a",
            width=64,
            corpus=corpus,
            architecture=architecture,
        )
    (tmp_path / "planted" / "cbow" / "a" / "places.npz").unlink()
    groups = ["planted-cbow", "text8-cbow", "text8-skipgram"]
    assert [
        path.name
        for path in plot(_config(figure=FigureName.width, runs=[str(tmp_path)]))
        if path.suffix == ".png"
    ] == [f"width-{group}-5000.png" for group in groups]
    assert [drawing.name for drawing in draw(find_runs([tmp_path]), ["pca"])] == [
        f"pca-{group}-5000" for group in groups[1:]
    ]


def test_unwritable_out_is_a_user_error(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written .*choose another folder"):
        plot(_config(figure=FigureName.loss, runs=[str(folder)], out=str(tmp_path / "file")))


def test_script_ends_without_a_traceback(tmp_path):
    command = [
        sys.executable,
        str(PROJECT_ROOT / "scripts" / "plot.py"),
        f"plot.runs=[{tmp_path / 'nowhere'}]",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (
        done.returncode == 2
        and "Traceback" not in done.stderr
        and "plot.runs" in done.stderr.splitlines()[-1]
    )
