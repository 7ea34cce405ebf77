"""Export: the guarantees of the methods, the options, and analogies through gensim and back."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from composed import config_of
from gensim.models import KeyedVectors

from w2v_inf.config import Embedding, Finite, MupLimit, NtkLimit, VectorFormat, VectorMethod
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.errors import UserError
from w2v_inf.evaluation.analogy import analogy_accuracy, load_questions
from w2v_inf.evaluation.evaluate import evaluate
from w2v_inf.export import choose, export, gram_times, reduce
from w2v_inf.files import read_json
from w2v_inf.models.linear import LinearModel
from w2v_inf.models.ntk_limit import init_ntk_limit
from w2v_inf.reporting.plot import plot
from w2v_inf.training.train import train
from w2v_inf.word2vec_format import read_vectors, write_vectors

WORDS = ["a", "größe", "日本", "x-1", "0", "e"]
VOCAB = Vocabulary(WORDS, np.array([9, 8, 7, 6, 5, 4]))


def table(rows: int = 6, columns: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


def limit_like(vocab_size: int = 60, seed: int = 0) -> LinearModel:
    """Like the limit: the identity, a learnt part of low rank, and a common component."""
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(vocab_size, 4, generator=generator) for _ in range(2))
    u = torch.eye(vocab_size) + 0.1 * a @ b.T + 0.1
    return LinearModel(u, torch.zeros_like(u))


def cosines(vectors: torch.Tensor) -> torch.Tensor:
    unit = torch.nn.functional.normalize(vectors)
    return unit @ unit.T


def test_principal_is_the_best_factor_of_the_gram_matrix() -> None:
    model = limit_like()
    gram = model.u @ model.u.T
    values, vectors = torch.linalg.eigh(gram.double())
    for k in (1, 3, 10):
        best = (vectors[:, -k:] * values[-k:]) @ vectors[:, -k:].T
        x = reduce(model, VectorMethod.principal, k, Embedding.input)
        error = float((x @ x.T - gram).norm()), float((best - gram).norm())
        assert x.shape == (60, k) and error[0] == pytest.approx(error[1], rel=1e-3)


def test_principal_at_full_rank_is_the_model() -> None:
    model = LinearModel(torch.from_numpy(table()), torch.from_numpy(table(seed=1)))
    for embedding in Embedding:
        x = reduce(model, VectorMethod.principal, 5, embedding)
        torch.testing.assert_close(
            x @ x.T, model.gram(torch.arange(6), None, embedding), atol=1e-5, rtol=1e-5
        )


def test_sample_is_right_on_average_and_halves_its_error_with_four_times_the_columns() -> None:
    model = limit_like()
    gram = model.u @ model.u.T
    errors = {}
    for k in (50, 200, 800, 3200):
        x = reduce(model, VectorMethod.sample, k, Embedding.input)
        errors[k] = float((x @ x.T - gram).norm() / gram.norm())
    slope = np.polyfit(np.log(list(errors)), np.log(list(errors.values())), 1)[0]
    assert -0.6 < slope < -0.4, errors


def test_fit_keeps_lengths_and_never_gets_worse() -> None:
    model = limit_like()
    target, lengths = cosines(model.u), model.u.norm(dim=1)
    errors = []
    for steps in (0, 1, 2, 5, 20, 100):
        x = reduce(model, VectorMethod.fit, 12, Embedding.input, steps)
        torch.testing.assert_close(x.norm(dim=1), lengths, rtol=1e-5, atol=0)
        errors.append(float((cosines(x) - target).norm()))
    assert errors == sorted(errors, reverse=True)
    others = [
        reduce(model, method, 12, Embedding.input)
        for method in (VectorMethod.principal, VectorMethod.sample)
    ]
    assert all(errors[-1] < 0.9 * float((cosines(other) - target).norm()) for other in others)


def test_gram_products_block_by_block() -> None:
    """2,100 rows are three blocks."""
    u, x, column = (torch.from_numpy(table(2100, columns)).double() for columns in (5, 3, 1))
    scale = column[:, 0]
    model = LinearModel(u, u)
    expected = scale[:, None] * (model.u @ (model.u.T @ (scale[:, None] * x)))
    torch.testing.assert_close(gram_times(model, scale, x, Embedding.input), expected)


@pytest.mark.parametrize(
    ("options", "trained", "chosen"),
    [
        ([], Finite(), (VectorMethod.own, 5)),
        (["export.dimension=5"], Finite(), (VectorMethod.own, 5)),
        (["export.dimension=3"], Finite(), (VectorMethod.fit, 3)),
        ([], MupLimit(), (VectorMethod.fit, 5)),
        (["export.method=own"], MupLimit(), (VectorMethod.own, 5)),
        (["export.method=sample", "export.dimension=100"], MupLimit(), (VectorMethod.sample, 100)),
        (
            ["export.method=own", "export.dimension=3"],
            Finite(),
            "export.dimension must be null or 5 with export.method=own",
        ),
        (["export.dimension=6"], MupLimit(), "export.dimension must be at most 5"),
        (
            [],
            NtkLimit(),
            "model=ntk_limit has no vectors .* or its coefficients with evaluate.embedding=output",
        ),
        (
            ["evaluate.embedding=output"],
            NtkLimit(output_init_scale=1.0),
            "model=ntk_limit has no vectors to export",
        ),
    ],
)
def test_the_choice_of_auto_and_what_is_refused(options, trained, chosen) -> None:
    model = LinearModel(torch.from_numpy(table()), torch.from_numpy(table()))
    if isinstance(chosen, tuple):
        assert choose(model, trained, config_of(*options)) == chosen
    else:
        with pytest.raises(UserError, match=chosen):
            choose(model, trained, config_of(*options))


@pytest.mark.parametrize("embedding", list(Embedding))
@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_the_ntk_limits_vectors_have_its_inner_products(embedding: Embedding, scale: float) -> None:
    model = init_ntk_limit(6, scale, torch.Generator().manual_seed(0))
    model.z.rows.normal_(generator=torch.Generator().manual_seed(1))
    vectors = model.vectors(slice(0, 6), embedding)
    torch.testing.assert_close(vectors @ vectors.T, model.gram(torch.arange(6), None, embedding))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finite network and the limit in two dtypes, on the planted corpus."""
    root = tmp_path_factory.mktemp("runs")
    common = [
        "corpus=planted",
        "corpus.max_vocab=900",
        "train.epochs=2",
        "train.lr=0.2",
        "num_threads=1",
        f"data_dir={root}/data",
    ]
    for name, *model in (
        ["finite", "model.width=24"],
        ["limit", "model=mup_limit"],
        ["half", "model=mup_limit", "model.dtype=bfloat16"],
    ):
        train(config_of(*common, *model, f"run_dir={root}/{name}"))
    return root


@pytest.mark.slow  # trains whole runs
@pytest.mark.parametrize("method", ["auto", "principal", "sample"])
@pytest.mark.parametrize("format", ["text", "binary"])
@pytest.mark.parametrize("run", ["finite", "limit", "half"])
def test_analogies_are_the_same_through_gensim_and_back(
    run: str, format: str, method: str, runs: Path, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "ours"
    options = [
        f"run_dir={runs}/{run}",
        f"export.format={format}",
        f"export.method={method}",
        f"export.out={out}",
    ]
    path = export(config_of(*options, "export.dimension=20"))
    assert "cosine error" in capsys.readouterr().out
    keyed = KeyedVectors.load_word2vec_format(str(path), binary=format == "binary")
    keyed.save_word2vec_format(str(tmp_path / "theirs"), binary=format == "binary")
    ours, theirs = (
        evaluate(config_of(f"evaluate.vectors={file}")) for file in (path, tmp_path / "theirs")
    )
    errors = read_json(tmp_path / "ours.json")
    totals = [evaluation["analogy"]["3cosadd"]["total"] for evaluation in (ours, theirs)]
    assert totals[0] == totals[1] == errors["analogy"]
    assert errors["analogy"]["questions"] > 20 and errors["dimension"] == 20
    assert read_json(tmp_path / "theirs.evaluation.json") == theirs


@pytest.mark.slow  # trains whole runs
def test_gensims_own_evaluation_agrees(runs: Path, tmp_path: Path) -> None:
    path = export(
        config_of(f"run_dir={runs}/finite", f"export.out={tmp_path}/v.kv", "export.format=gensim")
    )
    keyed = KeyedVectors.load(str(path))
    questions = load_questions(Vocabulary(keyed.index_to_key, np.arange(len(keyed), 0, -1)))
    table = torch.from_numpy(keyed.vectors)
    ours = analogy_accuracy(LinearModel(table, table), questions)["3cosadd"]["total"]
    hits = 0
    for a, b, c, d in questions.ids.tolist():
        names = [keyed.index_to_key[i] for i in (a, b, c)]
        hits += (
            keyed.most_similar(positive=names[1:], negative=names[:1], topn=1)[0][0]
            == keyed.index_to_key[d]
        )
    assert ours["correct"] == hits and 0 < hits < len(questions)


@pytest.mark.slow  # trains whole runs
def test_an_export_says_what_begins_and_what_it_overwrites(
    runs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = [f"run_dir={runs}/limit", f"export.out={tmp_path}/v.txt", "export.dimension=3"]
    caplog.set_level(logging.INFO)
    export(config_of(*options))
    assert caplog.messages[0] == "reducing 900 words to 3 columns (fit)"
    caplog.clear()
    export(config_of(*options))
    assert caplog.messages[0] == f"{tmp_path}/v.txt exists and will be overwritten"
    assert set(read_json(tmp_path / "v.txt.json")["cosines"]) == {
        "error",
        "neighbour_overlap",
        "words",
    }


@pytest.mark.slow  # trains whole runs
def test_a_file_of_vectors_is_drawn(runs: Path, tmp_path: Path) -> None:
    path = export(config_of(f"run_dir={runs}/finite", f"export.out={tmp_path}/v.txt"))
    paths = plot(config_of(f"evaluate.vectors={path}"))
    assert [p.name for p in paths] == ["pca-v.png", "pca-v.svg"] and all(
        p.parent == tmp_path for p in paths
    )
    write_vectors(tmp_path / "few.txt", VOCAB, table(), VectorFormat.text)
    with pytest.raises(UserError, match="few.txt has 0 of the US cities and states"):
        plot(config_of(f"evaluate.vectors={tmp_path}/few.txt"))


@pytest.mark.slow  # trains whole runs
def test_both_dtypes_of_the_limit_export_alike(runs: Path, tmp_path: Path) -> None:
    vectors = []
    for run in ("limit", "half"):
        config = config_of(
            f"run_dir={runs}/{run}", f"export.out={tmp_path}/{run}", "export.method=own"
        )
        vectors.append(read_vectors(export(config))[1])
    assert vectors[0].shape == vectors[1].shape == (900, 900)
    # A row is rounded once per batch that has its word, and distant positions share few words.
    assert float(np.linalg.norm(vectors[0] - vectors[1]) / np.linalg.norm(vectors[0])) < 0.1
