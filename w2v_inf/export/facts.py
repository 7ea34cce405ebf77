"""What is known of exported vectors: config.json of a folder, and the source of the model card.

Decisions:
- Nothing is guessed. The licence and the language of a user's own text are not known.
- A folder is made to be passed on, so no path of this machine is in it.
"""

from pathlib import Path
from typing import Any

from w2v_inf import compose
from w2v_inf.config import (
    CorpusConfig,
    Embedding,
    Fil9,
    Planted,
    Sample,
    Text8,
    VectorMethod,
    Wikipedia,
)
from w2v_inf.corpus.wikipedia import HUB_NAME
from w2v_inf.errors import UserError
from w2v_inf.export.reduce import LOSES
from w2v_inf.files import read_json
from w2v_inf.runs.folder import CONFIG, SUMMARY, Summary, trained_options

LICENCES = {
    "cc-by-sa-4.0": "CC BY-SA 4.0 (parts from before June 2023: 3.0), Wikipedia contributors",
    "cc-by-sa-3.0": "CC BY-SA 3.0 and GFDL, Wikipedia contributors",
    "cc": "CC BY-SA, Wikipedia contributors; the file does not say which version",
    "other": "none claimed: the text is generated",
    "unknown": "not stated",
}
"""Of texts, by the hub's names (data/README.md has the sources)."""
PRIVATE = ("corpus.path", "corpus.url")
"""Options that say where a text lies on the user's machine or network."""
SWITCH = "202306"
"""Year and month in which Wikipedia went from CC BY-SA 3.0 to 4.0."""


def gather_facts(
    folder: Path, method: VectorMethod, embedding: Embedding, measured: dict[str, Any]
) -> dict[str, Any]:
    """All that config.json says of vectors of the run in `folder`, beside their size.

    measured: see `stage.compare`.    Raises: UserError if a file of the run is damaged.
    """
    config, summary = compose.read(folder / CONFIG), Summary.load(folder)
    path = folder / "environment.json"
    environment = read_json(path) if path.exists() else {}
    options = trained_options(config)
    licence, language, dataset = describe_text(config.corpus)
    return {
        "run": folder.absolute().name,
        "commit": environment.get("commit") or None,
        "dirty": bool(environment.get("dirty")),
        "method": method.value,
        "loses": LOSES[method],
        "embedding": embedding.value,
        **measured,
        "corpus": summary.corpus,
        "synthetic": summary.synthetic,
        "corpus_words": summary.tokens,
        "corpus_checksum": summary.corpus_checksum,
        "licence": LICENCES[licence],
        "licence_id": licence,
        "language": language,
        "dataset": dataset,
        "evaluation": _totals(folder / SUMMARY, summary.evaluation),
        "training": {name: options[name] for name in options if name not in PRIVATE},
    }


def describe_text(corpus: CorpusConfig) -> tuple[str, str | None, str | None]:
    """The licence by the hub's name, the language, and the data set on the hub, as far as known."""
    match corpus:
        case Text8() | Fil9() | Sample():
            return "cc-by-sa-3.0", "en", None
        case Planted():
            return "other", "en", None
        case Wikipedia() if corpus.path:
            return "cc", None, None
        case Wikipedia():
            date, _, language = corpus.snapshot.partition(".")
            is_new = date[: len(SWITCH)] > SWITCH
            return "cc-by-sa-4.0" if is_new else "cc-by-sa-3.0", language or None, HUB_NAME
    return "unknown", None, None


def _totals(path: Path, evaluation: dict[str, Any]) -> dict[str, Any]:
    """The run's own evaluation, without its sections and neighbours."""
    try:
        counts = evaluation["analogy"]["3cosadd"]
        totals = {part: counts[part] for part in ("total", "semantic", "syntactic")}
        return {"protocol": evaluation["protocol"], "analogy": totals}
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged (evaluation): train the run again") from error
