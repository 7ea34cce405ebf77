"""Options: what is in range, and the defaults that depend on others."""

import pytest
from composed import config_of

from w2v_inf.config import CONF, Architecture, Finite, MupLimit, Text8
from w2v_inf.errors import UserError


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.width=0", "model.width must be from 1"),
        ("+model.widht=9", "model.widht is not an option: did you mean model.width?"),
        ("+widht=9", "widht is not an option"),
        ("+stream.x.y=9", "stream.x is not an option"),
        ("stream.window=0", "stream.window must be from 1 to 100, got 0"),
        ("stream.num_negatives=0", "stream.num_negatives must be"),
        ("stream.batch_size=-1", "stream.batch_size must be"),
        (
            "stream.subsample_threshold=-1",
            "stream.subsample_threshold must be 0 (keep all) or more, got -1.0",
        ),
        (
            "stream.subsample_threshold=nan",
            "stream.subsample_threshold must be a finite number, got nan",
        ),
        ("train.lr=inf", "train.lr must be a finite number"),
        ("train.lr=-1", "train.lr must be above 0"),
        ("train.lr=0", "train.lr must be above 0, or null for the architecture's default, got 0"),
        (
            "stream.batch_size=0",
            "stream.batch_size must be from 1 to 65,536, or null for the default, got 0",
        ),
        (
            "stream.interleave=0",
            "stream.interleave must be from 1 to 65,536, or null for the default, got 0",
        ),
        (
            "stream.interleave=3",
            "stream.interleave must be a divisor of stream.batch_size = 32, got 3",
        ),
        ("stream.group_size=0", "stream.group_size must be from 1 to 65,536, or null for stream."),
        ("stream.shared_negatives=0", "stream.shared_negatives must be from 1 to 65,536, or null"),
        ("export.dimension=0", "export.dimension must be from 1 to 1,000,000, or null"),
        ("num_threads=0", "num_threads must be from 1 to 1,024, or null for one per core, got 0"),
        ("+model.storage=bfloat16", "model.storage is now model.dtype"),
        ("+model.memory_gib=1", "model.memory_gib is now model.pair_table_gib"),
        ("train.epochs=0", "train.epochs must be from 1"),
        (
            "train.weight_decay=30",
            "train.weight_decay must be below 1 / train.lr = 20 (lower either), got 30.0",
        ),
        ("corpus.min_count=0", "corpus.min_count must be at least 1, got 0"),
        ("corpus.max_vocab=1", "corpus.max_vocab must be 0 (all) or at least 2, got 1"),
        ("corpus.phrases=3", "corpus.phrases must be 0, 1 or 2, got 3"),
        (
            "corpus.phrase_threshold=50",
            "corpus.phrase_threshold must be 100.0 with corpus.phrases=0 (give corpus.phrases=1",
        ),
        ("train.weight_decay=-1", "train.weight_decay must be 0 or more, got -1.0"),
        (
            "model.name=ntk_limit",
            "model.name must be finite here: choose with model=NAME, got ntk_limit",
        ),
        ("corpus.name=../x", "corpus.name must be sample here"),
        (
            "stream.group_size=128",
            "stream.group_size must be at most stream.batch_size = 32, got 128",
        ),
        ("corpus=file", "corpus.path must be the path of a text file"),
        ("model.parametrization=custom", "model.exponents must be five numbers"),
        ("model.exponents=[1,2]", "model.exponents must be five numbers"),
        ("model.output_init_scale=-1", "model.output_init_scale must be 0 or more"),
        ("seed=-1", "seed must be from 0"),
        ("num_threads=-1", "num_threads must be from 1"),
        ("reproduce.widths=[0]", "reproduce.widths must be"),
    ],
)
def test_out_of_range_is_one_clear_line(override: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        config_of(override)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_defaults_depend_on_the_architecture() -> None:
    cbow, skipgram = config_of(), config_of("stream.architecture=skipgram")
    assert (
        cbow.train.lr,
        cbow.stream.batch_size,
        cbow.stream.group_size,
        cbow.stream.shared_negatives,
    ) == (0.05, 32, 32, 16)
    assert cbow.stream.interleave == 32 and skipgram.stream.interleave == 32
    assert config_of("train.context_gradient=whole").stream == cbow.stream
    assert config_of("stream.interleave=8").stream.interleave == 8
    stream = skipgram.stream
    assert (skipgram.train.lr, stream.batch_size, stream.group_size, stream.shared_negatives) == (
        0.025,
        32,
        32,
        32,
    )
    assert (
        config_of(
            "stream.architecture=skipgram", "train.lr=0.1", "stream.batch_size=8"
        ).stream.group_size
        == 8
    )


@pytest.mark.parametrize("name", [path.stem for path in (CONF / "experiment").glob("*.yaml")])
def test_every_experiment_composes(name: str) -> None:
    assert config_of(f"experiment={name}").train.epochs >= 1


def test_the_paper_experiment_has_the_papers_options() -> None:
    c = config_of("experiment=paper", "corpus=text8", "model=mup_limit")
    assert (
        isinstance(c.corpus, Text8)
        and isinstance(c.model, MupLimit)
        and c.stream.architecture is Architecture.cbow
    )
    assert (
        c.corpus.min_count,
        c.corpus.max_vocab,
        c.train.epochs,
        c.train.weight_decay,
        c.train.lr,
    ) == (5, 0, 15, 0.001, 0.05)
    assert (c.stream.window, c.stream.num_negatives, c.stream.subsample_threshold) == (8, 25, 1e-4)
    assert c.reproduce.widths == [64, 256, 1024] and isinstance(config_of().model, Finite)
