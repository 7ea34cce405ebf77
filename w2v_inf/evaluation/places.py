"""US cities and states: inner products, principal components, separation (TP4 Figure 1)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from w2v_inf.config import Embedding
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.evaluation.analogy import read_questions
from w2v_inf.files import reading_arrays, write_atomically
from w2v_inf.models.protocol import Model

PLACE_SECTION = "city-in-state"
NUM_FOLDS = 5


@dataclass
class Places:
    """The cities and states of the section `city-in-state` that are in the vocabulary; P places."""

    words: list[str]
    is_state: np.ndarray
    """[P], bool."""
    gram: np.ndarray
    """Inner products of the embeddings, not normalised, [P, P], float64."""

    def save(self, path: Path) -> None:
        """Write places.npz."""
        words = np.array(self.words, dtype=np.str_)
        write_atomically(
            path, lambda draft: np.savez(draft, words=words, is_state=self.is_state, gram=self.gram)
        )

    @classmethod
    def load(cls, path: Path) -> "Places":
        """Read what `save` wrote. Raises: UserError if it is missing or damaged."""
        with reading_arrays(path, "train the run again") as arrays:
            words, is_state, gram = (arrays[name] for name in ("words", "is_state", "gram"))
            num_places = len(words)
            if (
                is_state.shape != (num_places,)
                or is_state.dtype != bool
                or gram.shape != (num_places, num_places)
            ):
                raise ValueError("its arrays do not fit together")
        return cls(words.tolist(), is_state, gram)


@torch.no_grad()
def place_gram(model: Model, vocab: Vocabulary, embedding: Embedding = Embedding.input) -> Places:
    """Inner products of the 67 cities and 27 states of city-in-state that are in the vocabulary.

    TP4 Figure 1 shows raw embeddings, so nothing is normalised. Cities come first, each kind in
    alphabetical order. Case is ignored, as in the questions.
    """
    id_of = vocab.id_of_capitals
    cities, states = words_of_section(read_questions(), PLACE_SECTION, vocab)
    words = cities + states
    gram = np.zeros((0, 0))
    if words:
        ids = torch.tensor(
            [id_of[word.upper()] for word in words], device=model.squared_norms(embedding).device
        )
        gram = model.gram(ids, ids, embedding).double().cpu().numpy()  # [P, P]
    return Places(words, np.arange(len(words)) >= len(cities), gram)


def words_of_section(
    sections: list[tuple[str, list[list[str]]]], name: str, vocab: Vocabulary
) -> tuple[list[str], list[str]]:
    """The words a and c of a section's questions, and b and d; those in the vocabulary, sorted.

    sections: from `read_questions`. Words are in lower case; the vocabulary's case is ignored.
    """
    questions, known = dict(sections)[name], vocab.id_of_capitals
    first = sorted({word for a, _, c, _ in questions for word in (a, c) if word.upper() in known})
    second = sorted({word for _, b, _, d in questions for word in (b, d) if word.upper() in known})
    return first, second


def pca(gram: np.ndarray, num_components: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Principal components of points known by their inner products alone.

    With H = I - 11'/P, the eigenvectors of H gram H times the roots of their eigenvalues are the
    scores of PCA on the points themselves. Signs are fixed: in every component the entry of largest
    size is positive.

    Args:
      gram: inner products, [P, P], symmetric up to rounding.
    Returns: coordinates [P, num_components], in the unit of the points, and the explained variance
      ratio [num_components]; both are 0 in components that the points do not span.
    Cost: O(P^3).
    """
    coordinates, ratio = np.zeros((len(gram), num_components)), np.zeros(num_components)
    values, vectors = np.linalg.eigh(centre(gram))
    values, vectors = values[::-1].clip(min=0), vectors[:, ::-1]
    # Centring makes one eigenvalue 0; its rounding error is no component.
    values[values <= len(gram) * np.finfo(np.float64).eps * np.abs(gram).max(initial=0)] = 0
    if values.sum() > 0:
        k = min(num_components, len(gram))
        coordinates[:, :k] = vectors[:, :k] * np.sqrt(values[:k])
        ratio[:k] = values[:k] / values.sum()
        largest = np.abs(coordinates).argmax(axis=0)
        coordinates *= np.where(coordinates[largest, np.arange(num_components)] < 0, -1.0, 1.0)
    return coordinates, ratio


def centre(gram: np.ndarray) -> np.ndarray:
    """Inner products of the points less their mean: H gram H, symmetrised; also for no points."""
    if len(gram) == 0:
        return gram
    centred = gram - gram.mean(axis=0) - gram.mean(axis=1)[:, None] + gram.mean()
    return (centred + centred.T) / 2


def separation(gram: np.ndarray, is_state: np.ndarray) -> dict[str, float | None]:
    """How well cities and states separate, as numbers for the PCA figure.

    Args:
      gram: inner products of the places, [P, P].    is_state: [P], bool.
    Returns: a dictionary of
      'silhouette': of the two kinds, on the first two principal components;
      'silhouette_full': the same in the full space;
      'linear_accuracy': percent, held out in a stratified 5-fold cross-validation of a logistic
        regression on those two components (which depend on all points, but on no labels);
      'baseline': share of the larger kind in percent.
      A number is None where undefined: with fewer than two kinds, or for linear_accuracy with fewer
      than 5 places of a kind.
    """
    # Imported here: scikit-learn takes a second, and evaluation after an epoch does not need it.
    from sklearn.metrics import silhouette_score

    sizes = np.bincount(is_state.astype(np.int64), minlength=2)
    num_places = int(sizes.sum())
    result: dict[str, float | None] = {
        "silhouette": None,
        "silhouette_full": None,
        "linear_accuracy": None,
        "baseline": None,
    }
    if num_places:
        result["baseline"] = 100 * float(sizes.max()) / num_places
    if sizes.min() >= 1 and num_places >= 3:
        coordinates, _ = pca(gram)
        result["silhouette"] = float(silhouette_score(coordinates, is_state))
        result["silhouette_full"] = float(
            silhouette_score(distances(gram), is_state, metric="precomputed")
        )
        if sizes.min() >= NUM_FOLDS:
            result["linear_accuracy"] = _linear_accuracy(coordinates, is_state)
    return result


def distances(gram: np.ndarray) -> np.ndarray:
    """Distances of points known by their inner products, [P, P]."""
    squares = np.diagonal(gram)
    table = np.sqrt((squares[:, None] + squares - gram - gram.T).clip(min=0))
    np.fill_diagonal(table, 0)
    return table


def _linear_accuracy(coordinates: np.ndarray, is_state: np.ndarray) -> float:
    """Held-out accuracy in percent of a linear classifier on `coordinates` [P, 2]."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # Scaled, because the regression's penalty would depend on the length of the embeddings.
    classifier = make_pipeline(StandardScaler(), LogisticRegression())
    folds = StratifiedKFold(NUM_FOLDS, shuffle=True, random_state=0)
    return 100 * float(
        np.mean(cross_val_predict(classifier, coordinates, is_state, cv=folds) == is_state)
    )
