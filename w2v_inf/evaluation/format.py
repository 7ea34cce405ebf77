"""Evaluations as plain text: one in full, or several side by side."""

from collections.abc import Iterator
from typing import Any

from w2v_inf.tables import align

RULE_NAMES = {"3cosadd": "3CosAdd", "3cosmul": "3CosMul"}


def format_evaluation(evaluation: dict[str, Any]) -> str:
    """Accuracy by section under both rules, then pairs of pairs, the user's files, similarities."""
    protocol = evaluation["protocol"]
    questions = f"{protocol['questions_seen']:,} of {protocol['questions_total']:,} questions"
    lines = [
        f"vocabulary {protocol['vocabulary']:,}, {questions}, "
        f"embedding={protocol['embedding']}, chance {evaluation['chance']:.3g} %",
        f"{'':30}{'3CosAdd %':>10}{'3CosMul %':>10}{'asked':>8}{'skipped':>9}",
    ]
    add, mul = evaluation["analogy"]["3cosadd"], evaluation["analogy"]["3cosmul"]
    for name in add["sections"]:
        lines.append(_accuracy_line(name, add["sections"][name], mul["sections"][name]))
    for part in ("semantic", "syntactic", "total"):
        lines.append(_accuracy_line(part, add[part], mul[part]))
    pairs = evaluation["pairs_of_pairs"]
    searched = f"  (answers among {pairs['searched']:,} words)"
    lines.append(_accuracy_line("all pairs of pairs", pairs["3cosadd"]["total"], None) + searched)
    for name, result in evaluation["question_files"].items():
        totals = (result[rule]["total"] for rule in RULE_NAMES)
        unknown = f"{result['unknown_words']:,} words unknown"
        lines.append(_accuracy_line(name, *totals) + f"  ({result['format']}; {unknown})")
    for name, result in (evaluation["similarity"] | evaluation["similarity_files"]).items():
        rho = _three_digits(result["spearman"])
        counts = f"{result['pairs']:,} of {result['total']:,} pairs"
        lines.append(f"{name:30}{rho:>10}  (Spearman, {counts})")
    return "\n".join(lines)


def _accuracy_line(name: str, add: dict[str, Any], mul: dict[str, Any] | None) -> str:
    accuracies = _percent(add) + (_percent(mul) if mul else f"{'':10}")
    skipped = add["total"] - add["questions"]
    return f"{name:30}{accuracies}{add['questions']:>8,}{skipped:>9,}"


def format_comparison(evaluations: dict[str, dict[str, Any]]) -> str:
    """Two tables with a row per model: its results, and what was skipped for a missing word."""
    results, skipped = [], []
    for name, evaluation in evaluations.items():
        cells = list(_cells(evaluation))
        words = f"{evaluation['protocol']['vocabulary']:,}"
        headers = ["", "words", *(header for header, _, _ in cells)]
        if not results:
            results.append(headers)
            skipped.append(headers)
        results.append([name, words, *(value for _, value, _ in cells)])
        skipped.append([name, words, *(count for _, _, count in cells)])
    searched = {evaluation["pairs_of_pairs"]["searched"] for evaluation in evaluations.values()}
    words = " or ".join(f"{number:,}" for number in sorted(searched))
    return "\n".join(
        [
            "Accuracy in percent of the questions asked; Spearman correlation for similarities.",
            f"pairs: all pairs of pairs of questions-words, 3CosAdd among the first {words} words.",
            *align(results),
            "",
            "Skipped for a word outside the vocabulary, of all questions or pairs:",
            *align(skipped),
        ]
    )


def _cells(evaluation: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Header, result and skipped of each column."""
    asked = {"": evaluation["analogy"]} | evaluation["question_files"]
    for name, result in asked.items():
        for rule, title in RULE_NAMES.items():
            yield (f"{name} {title}".strip(), *_counts(result[rule]["total"]))
        if not name:
            yield ("pairs", *_counts(evaluation["pairs_of_pairs"]["3cosadd"]["total"]))
    for name, result in (evaluation["similarity"] | evaluation["similarity_files"]).items():
        number = f"{result['total'] - result['pairs']:,} / {result['total']:,}"
        yield (name, _three_digits(result["spearman"]), number)


def _counts(total: dict[str, Any]) -> tuple[str, str]:
    number = f"{total['total'] - total['questions']:,} / {total['total']:,}"
    return _percent(total).strip(), number


def format_distance(distance: dict[str, float | None]) -> str:
    """The last line of the table: how far a run lies from the limit."""
    error, overlap = distance["gram_error"], distance["neighbour_overlap"]
    numbers = f"cosine-Gram error {_three_digits(error)}, neighbour overlap {overlap:.3f}"
    return f"{'distance to the limit':30}{numbers} (the {distance['words']:,} commonest words)"


def _three_digits(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _percent(counts: dict[str, Any]) -> str:
    accuracy = counts["accuracy"]
    return f"{'-' if accuracy is None else f'{accuracy:.2f}':>10}"
