"""The report stands alone, holds the numbers and commands of its runs, and no markup from them."""

import base64
import json
import re
import xml.etree.ElementTree as ElementTree

import pytest
from fake_runs import make_family, make_run
from html_page import Page
from hydra import compose, initialize_config_dir

from w2v_inf.compose import load, register
from w2v_inf.config import CONF, Config, Finite, PlotConfig, Text8
from w2v_inf.errors import UserError
from w2v_inf.reporting.findings import ntk_loss_sentence, result_table
from w2v_inf.reporting.report import neighbour_table, repeat_commands, report, write_report
from w2v_inf.runs.results import find_runs

TITLES = [f"{name}, V = 5,000" for name in ("planted, CBOW", "text8, CBOW", "text8, skip-gram")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("report")
    make_family(root / "text8" / "cbow", widths=(64, 256), seeds=(0, 1, 2))
    make_family(root / "text8" / "skipgram", (64,), (0,), architecture="skipgram")
    make_family(root / "planted" / "cbow", (64,), (0,), corpus="planted", synthetic=True)
    return root


@pytest.fixture(scope="module")
def runs(folder):
    return find_runs([folder])


@pytest.fixture(scope="module")
def html(runs, tmp_path_factory):
    path = write_report(runs, tmp_path_factory.mktemp("out") / "report.html")
    return path.read_text(encoding="utf-8")


def _of_group(runs, title):
    return [run for run in runs if run.group.title == title]


def test_page_is_well_formed_and_loads_nothing(html):
    page = Page(html)
    assert len(page.addresses) == 30  # five figures for each of three groups, also for phones
    assert all(address.startswith("data:image/svg+xml;base64,") for address in page.addresses)
    for address in page.addresses:
        assert ElementTree.fromstring(base64.b64decode(address.split(",")[1])).tag.endswith("svg")
    assert not re.search(r"@import|url\(|<script|<link|<iframe", html)
    assert "width=device-width" in html and "@media print" in html


def test_page_contains_the_numbers(html, runs):
    text = " ".join(Page(html).text)
    for row in result_table(_of_group(runs, TITLES[1]))[1:]:
        assert all(cell in text for cell in row)
    assert "43.31" in text and "V = 71,291" in text
    assert "1,918 of 19,544 questions" in text and "CC BY-SA" in text and "abc1234" in text


def test_synthetic_corpus_is_called_so(html):
    text = " ".join(Page(html).text)
    assert text.count("SYNTHETIC corpus: generated text") == 1  # beside the answer
    assert text.count("SYNTHETIC text, generated") == 1  # in its section
    assert text.count("SYNTHETIC corpus.") == 5  # in the captions of its figures
    assert text.index("SYNTHETIC corpus: generated") < text.index("text8, CBOW")


def test_text_of_a_run_is_never_markup(html):
    assert "<b>spain" not in html and "&lt;b&gt;spain&lt;/b&gt;" in html
    assert "toy &lt;cpu&gt;" in html and "b" not in Page(html).tags


def test_report_repeats_byte_for_byte(tmp_path):
    make_run(tmp_path / "run", width=64)
    runs = find_runs([tmp_path])
    a, b = (write_report(runs, tmp_path / name / "report.html").read_bytes() for name in "ab")
    assert a == b


def test_the_ntk_limits_loss_stands_beside_its_rows(html, runs):
    text = " ".join(Page(html).text)
    for title in TITLES:
        (sentence,) = ntk_loss_sentence(_of_group(runs, title))
        assert sentence in text
    # in the answer and under the losses of each group
    assert text.count("it barely trains") == 6


def test_each_group_gets_a_section(html):
    sections = {section.split("</h2>")[0]: section for section in html.split("<h2>")}
    planted, cbow, skipgram = (sections[title] for title in TITLES)
    for section in (planted, cbow, skipgram):
        assert section.count("<figure>") == 5
    # the paper's value for CBOW on text8
    assert "43.31" in cbow and "43.31" not in skipgram + planted
    assert all(f"Answer for {title}." in html for title in TITLES)


def test_each_group_is_repeated_by_its_own_commands(html):
    how_to = html.split("<h2>How to repeat it</h2>")[1].split("<h2>")[0]
    commands = {part.split("</h3>")[0]: part.split("</pre>")[0] for part in how_to.split("<h3>")}
    planted, cbow, skipgram = (commands[title] for title in TITLES)
    for part, num_runs in ((planted, 3), (cbow, 8), (skipgram, 3)):
        assert part.count("w2v-inf train ") == num_runs
    assert "corpus=planted" in planted and "corpus=text8" not in planted
    assert skipgram.count("stream.architecture=skipgram") == 3
    assert "architecture=skipgram" not in cbow + planted


def test_a_reader_gets_question_answer_evidence_and_method_in_this_order(html):
    text = " ".join(" ".join(Page(html).text).split())
    order = ["Question.", "Answer for", "PCA of", "Accuracy after each epoch", "Mean training loss"]
    places = [text.index(part) for part in [*order, "WordSim-353", "Method", "How to repeat it"]]
    assert places == sorted(places)


def test_captions_have_fewer_than_40_words(html):
    captions = re.findall("<figcaption>(.*?)</figcaption>", html, re.DOTALL)
    assert len(captions) == 15
    assert max(len(caption.split()) for caption in captions) < 40


def test_formulas_are_typeset(html):
    text = "".join(Page(re.sub("<(pre|table).*?</\\1>", "", html, flags=re.DOTALL)).text)
    assert html.count("<math") > 20 and not set("$\\^`") & set(text)


def test_the_interactive_page_is_linked_if_it_is_there(tmp_path):
    make_run(tmp_path / "run", width=64)
    runs, path = find_runs([tmp_path]), tmp_path / "report.html"
    link = 'href="explore.html"'
    assert link not in write_report(runs, path).read_text(encoding="utf-8")
    (tmp_path / "explore.html").write_text("")
    assert link in write_report(runs, path).read_text(encoding="utf-8")


def test_without_distances_they_have_no_heading(html, tmp_path):
    make_run(tmp_path / "a", model="mup_limit")
    page = write_report(find_runs([tmp_path]), tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Distance to the limit" in html and "Distance to the limit" not in page


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
    options = {"epochs": 4, "lr": 0.025, "parametrization": "ntp", "architecture": "skipgram"}
    make_run(tmp_path / "a", width=64, seed=3, **options)
    (run,) = find_runs([tmp_path])
    prepare, train = repeat_commands([run])
    assert prepare == "w2v-inf prepare corpus=text8 corpus.max_vocab=5000"
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = load(compose("config", train.split()[2:]))
    assert isinstance(config.model, Finite) and config.model.width == 64
    assert config.model.parametrization.value == "ntp"
    assert (config.seed, config.train.epochs, config.train.lr) == (3, 4, 0.025)
    assert config.stream.architecture.value == "skipgram"


def test_commands_quote_awkward_paths(tmp_path):
    folder = make_run(tmp_path / "a", width=64, corpus="file")
    path = folder / "config.yaml"
    path.write_text(path.read_text().replace("toy.txt", "my texts/a=b, c.txt"))
    assert """'corpus.path="my texts/a=b, c.txt"'""" in repeat_commands(find_runs([tmp_path]))[0]


def test_stage_writes_beside_the_runs_and_prints_the_path(tmp_path, capsys):
    make_run(tmp_path / "a", width=64)
    path = report(Config(corpus=Text8(), model=Finite(), plot=PlotConfig(runs=[str(tmp_path)])))
    assert path == tmp_path / "report.html" and capsys.readouterr().out.strip() == str(path)
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["report.html"]


def test_a_report_of_no_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="no finished run"):
        write_report([], tmp_path / "r.html")
