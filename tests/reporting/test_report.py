"""The report stands alone, says what the runs say and nothing else, and trusts no text from a run."""

import base64
import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest
from fake_runs import make_family, make_run
from hydra import compose, initialize_config_dir

from w2v_inf.compose import load, register
from w2v_inf.config import CONF, Config, Finite, PlotConfig, Text8
from w2v_inf.errors import UserError
from w2v_inf.reporting.findings import (
    distance_table,
    format_table,
    headline,
    ntk_loss_sentence,
    result_table,
)
from w2v_inf.reporting.report import neighbour_table, repeat_commands, report, write_report
from w2v_inf.runs.results import find_runs

VOID = {"meta", "img", "br", "hr"}


class Page(HTMLParser):
    """Checks that tags close in order; keeps addresses, tables and visible text."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.addresses, self.text, self.tags = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [
            value for name, value in attrs if name in ("src", "href", "srcset", "action", "data")
        ]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("report")
    make_family(root / "text8", widths=(64, 256), seeds=(0, 1, 2))
    make_family(root / "planted", widths=(64,), seeds=(0,), corpus="planted", synthetic=True)
    return root


@pytest.fixture(scope="module")
def runs(folder):
    return find_runs([folder])


@pytest.fixture(scope="module")
def html(runs, tmp_path_factory):
    return write_report(runs, tmp_path_factory.mktemp("out") / "report.html").read_text(
        encoding="utf-8"
    )


def test_page_is_well_formed_and_loads_nothing(html):
    page = Page(html)
    assert len(page.addresses) == 10  # five figures for each of two corpora
    assert all(address.startswith("data:image/svg+xml;base64,") for address in page.addresses)
    for address in page.addresses:
        assert ElementTree.fromstring(base64.b64decode(address.split(",")[1])).tag.endswith("svg")
    assert not re.search(r"@import|url\(|<script|<link|<iframe", html)
    assert "width=device-width" in html and "@media print" in html


def test_page_contains_the_numbers(html, runs):
    text = " ".join(Page(html).text)
    for row in result_table([run for run in runs if run.group.corpus == "text8"])[1:]:
        assert all(cell in text for cell in row)
    assert "43.31" in text and "V = 71,291" in text
    assert "1,918 of 19,544 questions" in text and "CC BY-SA" in text and "abc1234" in text


def test_synthetic_corpus_is_called_so(html):
    text = " ".join(Page(html).text)
    assert (
        text.count("SYNTHETIC corpus: generated text") == 2
    )  # beside the headline and in its section
    assert text.index("SYNTHETIC corpus: generated") < text.index("text8, CBOW")


def test_text_of_a_run_is_never_markup(html):
    assert (
        "<b>spain" not in html and "&lt;b&gt;spain&lt;/b&gt;" in html and "toy &lt;cpu&gt;" in html
    )
    assert "b" not in Page(html).tags


def test_report_repeats_byte_for_byte(tmp_path):
    make_run(tmp_path / "run", width=64)
    runs = find_runs([tmp_path])
    a, b = (write_report(runs, tmp_path / name / "report.html").read_bytes() for name in "ab")
    assert a == b


def test_table_in_order_with_the_papers_values(runs):
    table = result_table([run for run in runs if run.group.corpus == "text8"])
    assert [row[0] for row in table] == ["model", "NTK limit", "width 64", "width 256", "muP limit"]
    assert [row[-1] for row in table] == [
        "paper, V = 71,291 (%)",
        "0.00",
        "33.35",
        "41.58",
        "43.31",
    ]
    assert [row[1] for row in table[1:]] == ["1", "3", "3", "1"]
    assert "±" in table[2][2] and "±" not in table[1][2]
    assert (
        "paper, V = 71,291 (%)"
        not in result_table([run for run in runs if run.group.corpus == "planted"])[0]
    )


def test_table_for_the_terminal_is_aligned(runs):
    blocks = format_table(runs).split("\n\n")
    assert [block.split(",")[0] for block in blocks] == ["planted", "text8"]
    assert "SYNTHETIC" in blocks[0].splitlines()[0] and "SYNTHETIC" not in blocks[1]
    lines = blocks[1].splitlines()[2:]
    assert len({len(line) for line in lines}) == 1 and len(lines) == 2 + 4


def _family(tmp_path, accuracies, **options):
    """One run a model: accuracies by width, with 0 for the limit."""
    for width, accuracy in accuracies.items():
        model = {"model": "finite", "width": width} if width else {"model": "mup_limit"}
        make_run(tmp_path / f"w{width}", accuracy=accuracy, **model, **options)
    return " ".join(headline(find_runs([tmp_path])))


def test_headline_when_the_theory_holds(tmp_path):
    text = _family(tmp_path, {64: 20.0, 256: 30.0, 1024: 34.0, 0: 40.0})
    assert (
        "rises with width at every step: 20.0, 30.0, 34.0 % at widths 64, 256, 1,024 (+14.0 points"
        in text
    )
    assert (
        "The muP limit is best: 40.0 %, 6.0 points above the best finite net, width 1,024" in text
        and "not resolved" not in text
    )
    assert "come closer to the limit's" in text and "slope -0.50" in text


def test_headline_when_it_does_not(tmp_path):
    text = _family(tmp_path, {64: 30.0, 256: 20.0, 0: 25.0})
    assert "does not rise with width at every step: 30.0, 20.0 %" in text
    assert (
        "The muP limit is not best: 25.0 %, 5.0 points below the best finite net, width 64" in text
    )


def test_headline_calls_small_differences_unresolved(tmp_path):
    assert "0.5 points above the best finite net, width 256 (noise 3.0: not resolved)" in _family(
        tmp_path, {64: 20.0, 256: 30.0, 0: 30.5}
    )


def test_headline_when_nothing_is_solved(tmp_path):
    text = _family(tmp_path, {64: 0.5, 256: 0.2, 0: 0.1})
    assert "No model solves more than 0.5 %" in text and "rise" not in text and "best" not in text


def test_headline_of_an_ntk_limit_above_chance(tmp_path):
    make_run(tmp_path / "a", model="ntk_limit", accuracy=9.0)
    assert "above chance" in headline(find_runs([tmp_path]))[0]


@pytest.mark.parametrize(
    ("more", "clause"),
    [
        ({}, ""),
        (
            {"tolerance": 0.03, "tolerance_reached": True},
            " model.tolerance=0.03 was kept: the directions miss 0.025 of what the rehearsal learnt.",
        ),
        (
            {"tolerance": 0.02, "tolerance_reached": False},
            " model.tolerance=0.02 was NOT reached: the directions miss 0.025 of what",
        ),
    ],
    ids=["no tolerance", "kept", "not reached"],
)
def test_what_a_lowrank_limit_knows_of_its_error(more, clause, tmp_path):
    folder = make_run(tmp_path / "limit", model="mup_limit")
    report = {
        "rank": 256,
        "pairs": 9,
        "memory_bytes": 72,
        "energy_outside": 0.125,
        "basis_missed": 0.025,
    } | more
    _edit(
        folder,
        '"model": "mup_limit"',
        f'"model": "mup_limit", "approximation": {json.dumps(report)}',
    )
    sentence = headline(find_runs([tmp_path]))[-1]
    assert (
        sentence.startswith("The low-rank limit is exact on 256 directions")
        and "where 12.5 % of the output embedding's energy" in sentence
    )
    assert clause in sentence and ("model.tolerance" in sentence) == bool(more)


def _edit(folder, old, new):
    path = folder / ("summary.json" if '"' in old else "config.yaml")
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_how_far_the_ntk_limits_loss_moved(tmp_path):
    ntk = make_run(tmp_path / "ntk", model="ntk_limit")
    alone = "The NTK limit's loss went from 18.02 nats per example at zero logits, (1 + K) log 2, to 17.50 in the last epoch (-2.9 %"
    barely = ": at the learning rate that all models share it barely trains."
    assert ntk_loss_sentence(find_runs([tmp_path])) == [f"{alone}){barely}"]
    limit = make_run(tmp_path / "limit", model="mup_limit")
    assert ntk_loss_sentence(find_runs([tmp_path])) == [f"{alone}; muP limit -77.8 %){barely}"]
    assert ntk_loss_sentence(find_runs([limit])) == []

    _edit(ntk, '"loss_nats": 17.5', '"loss_nats": 3.0')
    _edit(ntk, "num_negatives: 25", "num_negatives: 5")
    (sentence,) = ntk_loss_sentence(find_runs([ntk]))
    assert "went from 4.16 nats" in sentence and "to 3.00 in the last epoch (-27.9 %)." in sentence
    _edit(ntk, "sigmoid: exact", "sigmoid: tp4")
    assert ntk_loss_sentence(find_runs([ntk])) == []


def test_the_ntk_limits_loss_stands_beside_its_rows(html, runs):
    text = " ".join(Page(html).text)
    for corpus in ("text8", "planted"):
        (sentence,) = ntk_loss_sentence([run for run in runs if run.group.corpus == corpus])
        assert sentence in text
    assert (
        text.count("it barely trains") == 4
    )  # in the headline and under the losses of each corpus


def test_distances_to_the_limit(runs, tmp_path):
    table = distance_table([run for run in runs if run.group.corpus == "text8"])
    assert [row[0] for row in table] == ["model", "width 64", "width 256"] and table[1][
        2
    ].startswith("0.250")
    make_run(tmp_path / "a", model="mup_limit")
    lone = find_runs([tmp_path])
    assert distance_table(lone) == []
    assert "Distance to the limit" not in write_report(lone, tmp_path / "r.html").read_text(
        encoding="utf-8"
    )


def test_neighbours_that_all_tie_are_not_listed(tmp_path):
    folder = make_run(tmp_path / "a", model="ntk_limit")
    summary = json.loads((folder / "summary.json").read_text())
    summary["evaluation"]["neighbours"] = {"king": [["the", 0.0], ["of", 0.0]]}
    (folder / "summary.json").write_text(json.dumps(summary))
    assert neighbour_table(find_runs([tmp_path])) == [
        ["word", "NTK limit"],
        ["king", "all tie at 0.00"],
    ]


def test_commands_give_back_the_options_of_the_run(tmp_path):
    make_run(
        tmp_path / "a",
        width=64,
        seed=3,
        epochs=4,
        lr=0.025,
        parametrization="ntp",
        architecture="skipgram",
    )
    (run,) = find_runs([tmp_path])
    prepare, train = repeat_commands([run])
    assert prepare == "python scripts/prepare.py corpus=text8 corpus.max_vocab=5000"
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = load(compose("config", train.split()[2:]))
    assert (
        isinstance(config.model, Finite)
        and config.model.width == 64
        and config.model.parametrization.value == "ntp"
    )
    assert (
        config.seed,
        config.train.epochs,
        config.train.lr,
        config.stream.architecture.value,
    ) == (3, 4, 0.025, "skipgram")


def test_commands_quote_awkward_paths(tmp_path):
    folder = make_run(tmp_path / "a", width=64, corpus="file")
    path = folder / "config.yaml"
    path.write_text(path.read_text().replace("toy.txt", "my texts/a=b, c.txt"))
    assert """'corpus.path="my texts/a=b, c.txt"'""" in repeat_commands(find_runs([tmp_path]))[0]


def test_a_folder_of_mixed_runs_gets_a_section_each(tmp_path):
    for corpus, architecture in (("text8", "cbow"), ("text8", "skipgram"), ("planted", "cbow")):
        make_family(
            tmp_path / corpus / architecture, (64,), (0,), corpus=corpus, architecture=architecture
        )
    html = report(
        Config(corpus=Text8(), model=Finite(), plot=PlotConfig(runs=[str(tmp_path)]))
    ).read_text(encoding="utf-8")
    sections = {section.split("</h2>")[0]: section for section in html.split("<h2>")}
    planted, cbow, skipgram = (
        sections[f"{name}, V = 5,000"]
        for name in ("planted, CBOW", "text8, CBOW", "text8, skip-gram")
    )
    for section in (planted, cbow, skipgram):
        assert section.count("<figure>") == 5 and section.count("scripts/train.py") == 3
    assert "corpus=planted" in planted and "corpus=text8" not in planted
    assert (
        skipgram.count("stream.architecture=skipgram") == 3
        and "architecture=skipgram" not in cbow + planted
    )
    assert (
        "43.31" in cbow and "43.31" not in skipgram + planted
    )  # the paper's value for CBOW on text8
    assert all(
        f"<h3>{name}, V = 5,000</h3>" in sections["Result"]
        for name in ("planted, CBOW", "text8, CBOW", "text8, skip-gram")
    )


def test_stage_writes_beside_the_runs_and_prints_the_path(tmp_path, capsys):
    make_run(tmp_path / "a", width=64)
    path = report(Config(corpus=Text8(), model=Finite(), plot=PlotConfig(runs=[str(tmp_path)])))
    assert path == tmp_path / "report.html" and capsys.readouterr().out.strip() == str(path)
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["report.html"]


def test_errors(runs, tmp_path):
    with pytest.raises(UserError, match="no finished run"):
        write_report([], tmp_path / "r.html")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written .*choose another folder"):
        write_report(runs[:1], tmp_path / "file" / "r.html")
