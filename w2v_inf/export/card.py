"""The model card: README.md of an exported folder, as the Hugging Face hub shows it.

Decisions:
- The card says what config.json says, in sentences, and nothing else. Its figures are measured at
  the export, or come from the summary of the run.
- Its code runs as it stands: tests run it.
- The front matter has only what is known. Its licence is that of the text.
"""

import json
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.evaluation.similarity import PROBE_WORDS
from w2v_inf.vector_folders.folder import LIBRARY

QUESTIONS = "Analogy questions of Mikolov et al. (2013), questions-words.txt"


def inline_code(text: str) -> str:
    """The text as Markdown's code, on one line; texts and names of a user may hold anything."""
    plain = " ".join(str(text).split()).replace("`", "'")
    return f"`{plain}`"


_environment = Environment(
    loader=PackageLoader("w2v_inf.export"),
    autoescape=False,  # Markdown
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters["code"] = inline_code
_environment.filters["python"] = lambda text: json.dumps(text, ensure_ascii=False)
_environment.filters["number"] = lambda value: f"{value:,}"


def render_card(
    facts: dict[str, Any], vocab: Vocabulary, dimension: int, version: str, repository: str
) -> str:
    """The card, Markdown with YAML in front.

    Args:
      facts: see `facts.gather_facts`.    dimension: columns of the vectors.
      version: of this package.    repository: OWNER/NAME on the hub, or empty.
    """
    name = repository.rpartition("/")[2] or facts["run"]
    probe = next((word for word in PROBE_WORDS if word in vocab.id_of), vocab.words[0])
    body = _environment.get_template("card.md.j2").render(
        facts=facts,
        options=facts["training"],
        name=name,
        num_words=len(vocab),
        dimension=dimension,
        version=version,
        repository=repository,
        probe=probe,
    )
    return f"---\n{front_matter(facts, name)}\n---\n\n{body}\n"


def front_matter(facts: dict[str, Any], name: str) -> str:
    """The YAML that the hub reads: licence, language, tags, data set, and accuracy if known."""
    from huggingface_hub import EvalResult, ModelCardData  # takes most of a second

    options, analogy = facts["training"], facts["analogy"]
    result = EvalResult(
        task_type="word-analogy",
        task_name="Word analogies",
        dataset_type="questions-words",
        dataset_name=f"{QUESTIONS}; {analogy['questions']:,} of {analogy['total']:,}",
        metric_type="accuracy",
        metric_name="3CosAdd, candidates: all words (%)",
        metric_value=analogy["accuracy"] and round(analogy["accuracy"], 2),
    )
    is_known = analogy["accuracy"] is not None
    tags = ["word2vec", "word-embeddings", options["stream.architecture"]]
    if options["model.name"] != "finite":
        tags.append("infinite-width")
    data = ModelCardData(
        license=facts["licence_id"],
        license_name="none-claimed" if facts["licence_id"] == "other" else None,
        language=facts["language"],
        library_name=LIBRARY,
        tags=tags,
        datasets=facts["dataset"] and [facts["dataset"]],
        metrics=["accuracy"] if is_known else None,
        model_name=name if is_known else None,
        eval_results=[result] if is_known else None,
    )
    return data.to_yaml().rstrip("\n")
