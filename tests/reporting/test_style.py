"""Files of figures are valid and repeat byte for byte."""

import xml.etree.ElementTree as ElementTree

from fake_runs import make_run

from w2v_inf.reporting.plot import FIGURES, draw
from w2v_inf.reporting.style import save
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
