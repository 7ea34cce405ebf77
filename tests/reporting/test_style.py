"""Files of figures are valid and repeat byte for byte."""

import xml.etree.ElementTree as ElementTree

import pytest
from fake_runs import make_run
from matplotlib.text import Text

from w2v_inf.reporting.plot import FIGURES, draw
from w2v_inf.reporting.style import BESIDE, PHONE_WIDTH, SMALL, TEXT_WIDTH, save, stacked
from w2v_inf.runs.results import find_runs


def test_files_are_valid_and_repeat_byte_for_byte(tmp_path):
    make_run(tmp_path / "runs" / "ntk", model="ntk_limit")
    for seed in (0, 1):
        make_run(tmp_path / "runs" / str(seed), width=64, seed=seed)
    runs = find_runs([tmp_path / "runs"])
    for name in FIGURES:
        first, again = (
            [path.read_bytes() for path in save(draw(runs, [name])[0].figure, tmp_path / x, name)]
            for x in "ab"
        )
        assert first == again
        assert first[0].startswith(b"\x89PNG\r\n")
        assert ElementTree.fromstring(first[1]).tag.endswith("svg") and b"<dc:date>" not in first[1]


def test_figures_fit_their_page_with_letters_of_a_readable_size(tmp_path):
    make_run(tmp_path / "ntk", model="ntk_limit")
    make_run(tmp_path / "64", width=64)
    for drawing in draw(find_runs([tmp_path])):
        assert drawing.figure.get_figwidth() <= TEXT_WIDTH
        texts = [text for text in drawing.figure.findobj(Text) if text.get_text()]
        assert len(texts) >= 5 and min(text.get_fontsize() for text in texts) >= SMALL


def test_on_a_phone_panels_are_stacked_and_then_put_back(tmp_path):
    make_run(tmp_path / "64", width=64)
    (drawing,) = draw(find_runs([tmp_path]), ["loss"])
    figure, (left, right) = drawing.figure, drawing.figure.axes
    before = tuple(figure.get_size_inches()), left.get_subplotspec(), right.get_subplotspec()
    with stacked(figure):
        figure.draw_without_rendering()
        above, below = left.get_window_extent(), right.get_window_extent()
        legend = right.get_legend().get_window_extent()
        assert figure.get_figwidth() == PHONE_WIDTH
        assert above.y0 > below.y1 and below.y0 > legend.y1 > legend.y0 >= 0
    assert before == (
        tuple(figure.get_size_inches()),
        left.get_subplotspec(),
        right.get_subplotspec(),
    )
    corner = right.get_legend().get_bbox_to_anchor().transformed(right.transAxes.inverted())
    assert tuple(corner.p0) == pytest.approx(BESIDE)
