"""Which concepts a class depends on: TCAV (Kim et al. 2018) on the embeddings that a head reads.

A concept is a set of clips. A linear classifier tells them from as many clips drawn at random; the
normal of its plane is the concept's vector, and a class depends on the concept where its logit
rises along that vector for most clips of the class. This is done against many random sets, and for
random sets in the place of the concept, which says what of it is chance.

Vectors are in deviations of each column, so that no column counts more by its scale.

Shapes: N clips, D width of an embedding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audioflow.errors import InputError

Floats = NDArray[np.float32]

SIGNIFICANT = 0.05
LEAST_EXAMPLES = 8
_FOLDS = 3
_PENALTY = 0.1


@dataclass(frozen=True)
class Direction:
    """A concept's vector (D,) of length 1, and the share of held-out clips on its right side."""

    vector_D: NDArray[np.float64]
    accuracy: float


@dataclass(frozen=True)
class ConceptResult:
    """How a class depends on a concept.

    score: share of the class's clips whose logit rises towards the concept, mean over random sets.
    score_random: the same for random sets. p_value: of their being the same (two-sided Welch's t,
    times the number of tests). effect: mean cosine between the concept's vector and the gradient.
    accuracy, accuracy_random: of telling the concept, or a random set, from others, held out.
    accuracy_p: of the concept's being one more random set (one-sided, times the number of
    concepts). meaningful: whether it can be told from random. significant: whether it is, and the
    class depends on it.
    """

    concept: str
    label: str
    score: float
    score_random: float
    p_value: float
    effect: float
    accuracy: float
    accuracy_random: float
    accuracy_p: float
    meaningful: bool
    significant: bool
    examples: int
    runs: int


@dataclass(frozen=True)
class Space:
    """The mean and deviation (D,) of embeddings; columns that never change count for nothing."""

    mean_D: NDArray[np.float64]
    std_D: NDArray[np.float64]

    @classmethod
    def of(cls, vectors_ND: Floats) -> "Space":
        std = vectors_ND.std(axis=0, dtype=np.float64)
        return cls(vectors_ND.mean(axis=0, dtype=np.float64), std)

    def scaled(self, vectors_ND: Floats) -> NDArray[np.float64]:
        """Vectors in deviations."""
        std = np.where(self.std_D > 0, self.std_D, np.inf)
        return np.asarray((vectors_ND - self.mean_D) / std)


def dependences(
    concepts: Mapping[str, Floats],
    others_ND: Floats,
    gradients: Mapping[str, Floats],
    runs: int = 30,
    seed: int = 0,
) -> list[ConceptResult]:
    """How every class depends on every concept.

    concepts: embeddings of their clips. others_ND: of clips that random sets are drawn from.
    gradients: by class, those of its logit at clips of the class (N, D). Raises `InputError` where
    there are too few clips, or a class has no gradient.
    """
    _refuse_few(concepts, others_ND)
    for label, gradients_ND in gradients.items():
        if not np.any(gradients_ND):
            raise InputError(f"the logit of {label} has no slope at its clips: nothing to explain")
    space = Space.of(np.concatenate([others_ND, *concepts.values()]))
    # The slope along a step of one deviation.
    slopes = {label: found * space.std_D for label, found in gradients.items()}
    others = space.scaled(others_ND)
    generator = np.random.default_rng(seed)
    results = []
    for name, vectors_ND in concepts.items():
        mine, size = space.scaled(vectors_ND), len(vectors_ND)
        real = [_direction(mine, _drawn(others, size, generator)[0]) for _ in range(runs)]
        chance = [_direction(*_drawn(others, size, generator)) for _ in range(runs)]
        results += [
            _result(name, label, slopes[label], (real, chance), (len(concepts), len(slopes), size))
            for label in slopes
        ]
    return results


def _refuse_few(concepts: Mapping[str, Floats], others_ND: Floats) -> None:
    for name, vectors_ND in concepts.items():
        if len(vectors_ND) < LEAST_EXAMPLES:
            raise InputError(
                f"the concept {name} has {len(vectors_ND)} clips with an embedding; "
                f"{LEAST_EXAMPLES} are needed at least, and 30 or more are better"
            )
        if len(others_ND) < 2 * len(vectors_ND):
            raise InputError(
                f"the concept {name} has {len(vectors_ND)} clips, and there are {len(others_ND)} "
                "others to draw two random sets of as many from: give fewer, or a larger table"
            )


def _drawn(
    others_ND: NDArray[np.float64], size: int, generator: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two random sets that share nothing."""
    order = generator.permutation(len(others_ND))
    return others_ND[order[:size]], others_ND[order[size : 2 * size]]


def _direction(inside_ND: NDArray[np.float64], outside_ND: NDArray[np.float64]) -> Direction:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    whole = np.concatenate([inside_ND, outside_ND])
    # The plane that is found lies in the span of the clips, which has fewer dimensions.
    basis, _ = np.linalg.qr(whole.T)
    vectors = whole @ basis
    targets = np.repeat([1, 0], [len(inside_ND), len(outside_ND)])
    classifier = LogisticRegression(C=_PENALTY, max_iter=300, tol=1e-3)
    right = 0
    for learn, test in StratifiedKFold(_FOLDS, shuffle=True, random_state=0).split(
        vectors, targets
    ):
        classifier.fit(vectors[learn], targets[learn])
        right += int((classifier.predict(vectors[test]) == targets[test]).sum())
    normal = basis @ classifier.fit(vectors, targets).coef_[0]
    length = np.linalg.norm(normal)
    return Direction(normal / length if length else normal, right / len(targets))


def _result(
    concept: str,
    label: str,
    slopes_ND: NDArray[np.float64],
    directions: tuple[Sequence[Direction], Sequence[Direction]],
    sizes: tuple[int, int, int],
) -> ConceptResult:
    real, chance = directions
    num_concepts, num_labels, examples = sizes
    scores, random_scores = (
        np.array([np.mean(slopes_ND @ one.vector_D > 0) for one in group]) for group in directions
    )
    p_value = min(1.0, _same(scores, random_scores) * num_concepts * num_labels)
    accuracy = float(np.mean([one.accuracy for one in real]))
    by_chance = np.array([one.accuracy for one in chance])
    accuracy_p = min(1.0, _one_more(accuracy, by_chance) * num_concepts)
    lengths = np.linalg.norm(slopes_ND, axis=1)
    along = np.array([slopes_ND @ one.vector_D for one in real]).mean(axis=0)
    effect = float(np.mean(along[lengths > 0] / lengths[lengths > 0]))
    meaningful = accuracy_p < SIGNIFICANT
    return ConceptResult(
        concept=concept,
        label=label,
        score=float(scores.mean()),
        score_random=float(random_scores.mean()),
        p_value=p_value,
        effect=effect,
        accuracy=accuracy,
        accuracy_random=float(by_chance.mean()),
        accuracy_p=accuracy_p,
        meaningful=meaningful,
        significant=meaningful and p_value < SIGNIFICANT,
        examples=examples,
        runs=len(real),
    )


def _same(ones: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """Welch's t test of as many values each, two-sided; certain where neither varies."""
    from scipy import stats

    parts = [group.var(ddof=1) / len(group) for group in (ones, others)]
    if not sum(parts):
        return float(ones[0] == others[0])
    freedom = sum(parts) ** 2 / sum(p**2 / (len(ones) - 1) for p in parts)
    t = abs(ones.mean() - others.mean()) / np.sqrt(sum(parts))
    return float(2 * stats.t.sf(t, freedom))


def _one_more(value: float, others: NDArray[np.float64]) -> float:
    """How probable a value so high is for one more of the others, by the t distribution."""
    from scipy import stats

    spread = others.std(ddof=1) * np.sqrt(1 + 1 / len(others))
    if not spread:
        return float(value <= others[0])
    return float(stats.t.sf((value - others.mean()) / spread, len(others) - 1))
