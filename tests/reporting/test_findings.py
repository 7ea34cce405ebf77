"""Sentences and tables say what the runs say, whatever the outcome."""

import json

import pytest
from fake_runs import make_family, make_run

from w2v_inf.reporting.findings import (
    approximation_sentence,
    distance_sentence,
    distance_table,
    format_table,
    headline,
    ntk_loss_sentence,
    result_table,
)
from w2v_inf.runs.results import find_runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("report")
    make_family(root / "text8", widths=(64, 256), seeds=(0, 1, 2))
    make_family(root / "planted", widths=(64,), seeds=(0,), corpus="planted", synthetic=True)
    return root


@pytest.fixture(scope="module")
def runs(folder):
    return find_runs([folder])


def _of_corpus(runs, corpus):
    return [run for run in runs if run.group.corpus == corpus]


def test_table_in_order_with_the_papers_values(runs):
    table = result_table(_of_corpus(runs, "text8"))
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
    assert "paper, V = 71,291 (%)" not in result_table(_of_corpus(runs, "planted"))[0]


def test_table_for_the_terminal_is_aligned(runs):
    blocks = format_table(runs).split("\n\n")
    assert [block.split(",")[0] for block in blocks] == ["planted", "text8"]
    assert "SYNTHETIC" in blocks[0].splitlines()[0] and "SYNTHETIC" not in blocks[1]
    lines = blocks[1].splitlines()[2:]
    assert len({len(line) for line in lines}) == 1 and len(lines) == 2 + 4


def _family(tmp_path, accuracies, **options):
    """One run per model: accuracies by width, with 0 for the limit."""
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
        "The muP limit is best: 40.0 %, 6.0 points above the best finite network, width 1,024"
        in text
        and "not resolved" not in text
    )
    (distance,) = distance_sentence(find_runs([tmp_path]))
    assert "come closer to the limit's" in distance and "slope -0.50" in distance


def test_headline_when_it_does_not(tmp_path):
    text = _family(tmp_path, {64: 30.0, 256: 20.0, 0: 25.0})
    assert "does not rise with width at every step: 30.0, 20.0 %" in text
    assert (
        "The muP limit is not best: 25.0 %, 5.0 points below the best finite network, width 64"
        in text
    )


def test_headline_calls_small_differences_unresolved(tmp_path):
    assert (
        "0.5 points above the best finite network, width 256 (noise 3.0: not resolved)"
        in _family(tmp_path, {64: 20.0, 256: 30.0, 0: 30.5})
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
            " model.tolerance=0.03 was kept: the residual energy is 0.025 of what the pilot run "
            "learnt.",
        ),
        (
            {"tolerance": 0.02, "tolerance_reached": False},
            " model.tolerance=0.02 was NOT reached: the residual energy is 0.025 of what",
        ),
    ],
    ids=["no tolerance", "kept", "not reached"],
)
def test_a_lowrank_limit_states_its_error(more, clause, tmp_path):
    folder = make_run(tmp_path / "limit", model="mup_limit")
    diagnostics = {
        "rank": 256,
        "pairs": 9,
        "pair_table_bytes": 72,
        "energy_outside": 0.125,
        "residual_energy": 0.025,
    } | more
    _edit(
        folder,
        '"model": "mup_limit"',
        f'"model": "mup_limit", "approximation": {json.dumps(diagnostics)}',
    )
    (sentence,) = approximation_sentence(find_runs([tmp_path]))
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
    alone = (
        "The NTK limit's loss went from 18.02 nats per example at zero logits, (1 + K) log 2, "
        "to 17.50 in the last epoch (-2.9 %"
    )
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


def test_distances_to_the_limit(runs, tmp_path):
    table = distance_table(_of_corpus(runs, "text8"))
    assert [row[0] for row in table] == ["model", "width 64", "width 256"] and table[1][
        2
    ].startswith("0.250")
    make_run(tmp_path / "a", model="mup_limit")
    assert distance_table(find_runs([tmp_path])) == []
