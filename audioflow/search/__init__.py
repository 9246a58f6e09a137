"""Search for hyper-parameters: pure functions and small classes, without Ray and without training.

`reading.py` reads the `space` of a recipe into the parameters of `space.py`; `sampling.py` and
`tpe.py` propose trials; `halving.py` says which trials to stop early; `importance.py` tells which
parameters mattered. Whoever runs the trials goes round this loop:

    sampler = make_sampler("random", read_space(given), seed=0)
    sampler.replay(ended)               # what an interrupted search got to: (values, score) each
    while trial := sampler.ask():
        score = train(applied(settings, trial.values))
        sampler.tell(trial.number, score)
"""

from typing import Literal, get_args

from audioflow.errors import Fault
from audioflow.search.sampling import GridSampler, RandomSampler, Sampler, grid_faults
from audioflow.search.space import Space

Search = Literal["random", "optuna", "grid"]
SEARCHES: tuple[Search, ...] = get_args(Search)


def make_sampler(search: Search, space: Space, seed: int) -> Sampler:
    """The sampler behind the name that a recipe gives; a grid needs no seed.

    Raises `RecipeError` for a space that this search cannot go through, see `search_faults`.
    """
    if search == "grid":
        return GridSampler(space)
    if search == "random":
        return RandomSampler(space, seed)
    from audioflow.search.tpe import OptunaSampler  # optuna takes a while to import

    return OptunaSampler(space, seed)


def search_faults(search: Search, space: Space) -> list[Fault]:
    """What keeps `search` from going through `space`; keys begin at `space`."""
    return grid_faults(space) if search == "grid" else []
