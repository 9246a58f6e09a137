"""What must agree between the parts of a system: head, pooling, layers and training.

`head` and `pooling` are the classes behind the names (`heads.base`, `pooling.base`).
"""

from typing import Any

from audioflow.errors import Fault, shown
from audioflow.recipe import PoolingChoice, SystemSection

_PICTURES = ("pictures", "picture_sequences")
_SEQUENCES = ("sequences", "picture_sequences")
_FIXED = "mean, max, mean_max, mean_std, top_k"
"""Poolings of embeddings without anything to learn."""


def usual_pooling(head: type[Any], unit: str) -> PoolingChoice | None:
    """The pooling of a system whose recipe names none; None for a head that pools by itself."""
    if head.takes in _SEQUENCES:
        return None
    patches = head.takes == "pictures" or unit == "patch"
    return PoolingChoice(name="mean", on="logits" if patches else "embeddings")


def pooled_on(choice: PoolingChoice, pooling: type[Any], head: type[Any], unit: str) -> str:
    """What a pooling is used on, where the recipe does not say."""
    if choice.on is not None:
        return choice.on
    patches = head.takes == "pictures" or unit == "patch"
    suits = [on for on in pooling.on if (on == "embeddings") != patches]
    return str((suits or pooling.on)[0])


def system_faults(
    name: str,
    section: SystemSection,
    head: type[Any],
    pooling: type[Any] | None,
    *,
    varied: bool = False,
) -> list[Fault]:
    """What does not fit in a system of the recipe; `pooling` is None where it names none.

    varied: by a search, which may come from another head whose training keys are left over.
    """
    key = f"systems.{name}"
    faults = _layer_faults(key, section, head)
    if section.pooling is not None and pooling is not None:
        faults += _pooling_faults(key, section, section.pooling, head, pooling)
    if _fits_estimator(head):
        faults += _weight_faults(key, section, head)
        return faults + ([] if varied else _estimator_faults(key, section))
    return faults + _train_faults(key, section, head, pooling)


def _fits_estimator(head: type[Any]) -> bool:
    return hasattr(head, "estimator")


def _layer_faults(key: str, section: SystemSection, head: type[Any]) -> list[Fault]:
    several = head.takes == "layers"
    if section.layers is not None and not several:
        given = shown(list(section.layers))
        problem = f"{given} are given, but the head {section.head.name} reads one layer"
        return [Fault(f"{key}.layers", problem, list(section.layers), "layer: one of them")]
    return []


def _pooling_faults(
    key: str,
    section: SystemSection,
    choice: PoolingChoice,
    head: type[Any],
    pooling: type[Any],
) -> list[Fault]:
    name, unit = choice.name, section.train.unit
    if head.takes in _SEQUENCES:
        problem = f"{name!r} is given, but the head {section.head.name} pools by itself"
        return [Fault(f"{key}.pooling", problem, name, "no pooling")]
    on = pooled_on(choice, pooling, head, unit)
    where, faults = f"{key}.pooling.on", []
    if on not in pooling.on:
        problem = f"{on!r} is not what {name} can be used on"
        return [Fault(where, problem, on, ", ".join(pooling.on))]
    after = ", ".join(each for each in pooling.on if each != "embeddings")
    if on == "embeddings" and (head.takes == "pictures" or unit == "patch"):
        why = "takes pictures" if head.takes == "pictures" else "learns from patches (train.unit)"
        problem = f"'embeddings' cannot be pooled: the head {section.head.name} {why}"
        faults.append(Fault(where, problem, on, after or "another pooling"))
    if head.takes == "layers" and (pooling.learned or on != "embeddings"):
        problem = f"{name} on {on} has no use with {section.head.name}, which reads several layers"
        faults.append(Fault(f"{key}.pooling", problem, name, f"on embeddings: {_FIXED}"))
    if unit == "patch" and pooling.learned:
        problem = f"{name} is learned from clips, train.unit is patch"
        faults.append(Fault(f"{key}.pooling", problem, name, "train.unit: clip"))
    elif _fits_estimator(head) and pooling.learned:
        problem = f"{name} has to be learned, but scikit-learn fits {section.head.name} alone"
        faults.append(Fault(f"{key}.pooling", problem, name, f"on embeddings: {_FIXED}"))
    elif _fits_estimator(head) and unit == "clip" and on != "embeddings":
        problem = f"'clip' cannot be learned through the {on} of {section.head.name}"
        faults.append(Fault(f"{key}.train.unit", problem, unit, "patch"))
    elif unit == "clip" and name == "vote":
        problem = "'clip' cannot be learned through votes"
        faults.append(Fault(f"{key}.train.unit", problem, unit, "patch"))
    if name == "vote" and section.train.task == "multi":
        problem = "vote gives every patch one class, but train.task is multi"
        faults.append(Fault(f"{key}.pooling", problem, name, "on scores: mean, max, top_k"))
    return faults


def _train_faults(
    key: str, section: SystemSection, head: type[Any], pooling: type[Any] | None
) -> list[Fault]:
    train, name, faults = section.train, section.head.name, []
    if train.spec_augment is not None and head.takes not in _PICTURES:
        problem = f"is for pictures, the head {name} takes {head.takes}"
        faults.append(Fault(f"{key}.train.spec_augment", problem, None, "no spec_augment"))
    if train.unit == "patch" and head.takes in _SEQUENCES:
        problem = f"'patch' has no use with the head {name}, which reads a clip's patches together"
        faults.append(Fault(f"{key}.train.unit", problem, train.unit, "clip"))
    if train.mixup > 0 and head.takes in _SEQUENCES:
        problem = f"{train.mixup:g} has no use with the head {name}, which reads whole clips"
        faults.append(Fault(f"{key}.train.mixup", problem, train.mixup, "0"))
    elif train.mixup > 0 and train.unit == "clip" and _of_patches(section, head, pooling):
        problem = f"{train.mixup:g} mixes examples of one patch each, but train.unit is clip"
        faults.append(
            Fault(f"{key}.train.mixup", problem, train.mixup, "0, or train.unit: patch beside it")
        )
    return faults


def _of_patches(section: SystemSection, head: type[Any], pooling: type[Any] | None) -> bool:
    """Whether a clip's patches go through the head, or a learned pooling, one by one."""
    if section.pooling is None or pooling is None:
        return bool(head.takes == "pictures")
    on = pooled_on(section.pooling, pooling, head, section.train.unit)
    return on != "embeddings" or bool(pooling.learned)


def _weight_faults(key: str, section: SystemSection, head: type[Any]) -> list[Fault]:
    """Weights of classes that the head cannot give its vectors, or that would count twice."""
    given, name = section.train.class_weights, section.head.name
    if given == "none":
        return []
    if not head.Settings.weighs_vectors:
        problem = f"{given!r} has no use with the head {name}, which cannot weigh vectors"
        return [Fault(f"{key}.train.class_weights", problem, given, "none")]
    if section.head.options.get("class_weight", "none") != "none":
        problem = f"{given!r} would count twice: head.class_weight is balanced, too"
        allowed = "none, or head.class_weight: none"
        return [Fault(f"{key}.train.class_weights", problem, given, allowed)]
    return []


def _estimator_faults(key: str, section: SystemSection) -> list[Fault]:
    """Keys that only the training loop knows; what is given for them would do nothing."""
    used = {"unit", "task", "fine", "drop_sources", "class_weights", "temperature", "seed"}
    used |= {"cpus_per_worker", "select"}
    values = section.train.model_dump(mode="json")
    problem = f"has no use with the head {section.head.name}, which scikit-learn fits"
    return [
        Fault(
            f"{key}.train.{name}",
            f"{shown(values[name])} {problem}",
            values[name],
            ", ".join(sorted(used)),
        )
        for name in sorted(section.train.model_fields_set - used)
    ]
