"""Reading a recipe file: its YAML, its overrides, and every fault reported at once."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

from pydantic import ValidationError

from audioflow.errors import Fault, RecipeError
from audioflow.recipe import Plugins, Recipe
from audioflow.recipe_checks import all_faults
from audioflow.recipe_faults import faults_of
from audioflow.recipe_yaml import COMMAND_LINE, Document, apply_override, read_document
from audioflow.redaction import masked_fault


def load_recipe(
    path: str,
    overrides: Sequence[str],
    plugins: Plugins,
    job: str = "run",
    early: Callable[[Recipe], None] = lambda recipe: None,
) -> Recipe:
    """The checked recipe of the file `path`.

    overrides: `section.key=value`, the value read as YAML.
    job: the job that is about to run; its sections have to be there.
    early: called with a recipe whose sections are right, before the settings of its plug-ins are
    looked at, for which some have to import torch.
    Raises `RecipeError` with all faults, in the order of the file.
    """
    document = read_document(path)
    for override in overrides:
        apply_override(document, override)
    faults = list(document.faults)
    recipe = None
    try:
        recipe = Recipe.model_validate_json(json.dumps(document.data), strict=True)
    except ValidationError as error:
        faults += faults_of(error, Recipe)
    if recipe is not None and not faults:
        early(recipe)
    faults += all_faults(document.data, plugins, job)
    if recipe is None or faults:
        raise RecipeError(path, [masked_fault(fault) for fault in _placed(faults, document)])
    return recipe


def _placed(faults: Sequence[Fault], document: Document) -> list[Fault]:
    """The faults with their places, in the order of the file, the command line last."""
    placed = [
        fault if fault.place else replace(fault, place=document.place(tuple(fault.key.split("."))))
        for fault in faults
    ]
    unique = {(fault.key, fault.problem): fault for fault in placed}
    return sorted(unique.values(), key=_line)


def _line(fault: Fault) -> float:
    number = fault.place.rpartition(":")[2]
    if number.isdigit():
        return int(number)
    return float("inf") if fault.place == COMMAND_LINE else 0
