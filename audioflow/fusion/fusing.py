"""A fusion from one recipe entry: calibration of each system, the rule, and who is not there.

Shapes: S systems, N (or, of a block, n) clips, C classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audioflow import calibration
from audioflow.errors import RecipeError, TableError
from audioflow.fusion.base import Block, FitClips, Flags, Params, Rule, Task
from audioflow.fusion.folds import parts
from audioflow.fusion.judging import judged
from audioflow.fusion.rules import FUSION_RULES
from audioflow.recipe_fuse import FuseSection

FIT_CELLS = 40_000_000
"""Scores (systems x clips x classes) that are enough to fit on."""
MOST_PARTS = 10
"""Folds are put together until there are so many at most: every one is a fit of its own."""
FEWEST_FOLDS = 4
"""With fewer, a rule chooses its settings by groups of clips, not by folds."""
_SHOWN_ONLY = ("curve", "out_of_fold", "parts", "fused", "better")


@dataclass(frozen=True)
class Fusion:
    """What is fitted once, and then applied to any block of clips."""

    task: Task
    rule: Rule
    calibrate: str

    @classmethod
    def of(
        cls,
        section: FuseSection,
        classes: Sequence[str],
        *,
        multi_label: bool = False,
        quality: Sequence[str] = (),
    ) -> "Fusion":
        """The fusion that a recipe's entry asks for. quality: names of the columns in blocks.

        Raises `RecipeError` where the rule's settings do not go with the systems.
        """
        rule: Rule = FUSION_RULES.build(section.rule, section.options)
        if faults := rule.problems(section.systems):
            raise RecipeError(f"fusion rule {section.rule!r}", faults)
        task = Task(tuple(section.systems), tuple(classes), multi_label, tuple(quality))
        return cls(task, rule, section.calibrate)

    @classmethod
    def restored(cls, settings: Mapping[str, Any], classes: Sequence[str]) -> "Fusion":
        """The fusion that made a table, from the settings in its header."""
        kept = {key: settings[key] for key in FuseSection.model_fields if key in settings}
        options = FUSION_RULES.load(settings["rule"]).Settings.model_fields
        kept |= {key: settings[key] for key in options if key in settings}
        gate = settings["params"].get("gate", {})
        return cls.of(
            FuseSection.model_validate(kept),
            classes,
            multi_label=bool(settings.get("multi_label")),
            quality=gate.get("columns", ()),
        )

    @property
    def needs_clips(self) -> bool:
        """Whether there is anything to fit, for which there have to be clips."""
        return self.rule.needs_fit or self.calibrate not in ("auto", "none")

    @property
    def takes_clips(self) -> bool:
        """Whether clips make a difference where there are any."""
        return self.needs_clips or self.calibrate == "auto"

    def fit(self, clips: FitClips | None, *, cross: bool = False) -> Params:
        """Parameters (JSON-able), whatever the order of the clips.

        cross: the clips are in folds, and those of a fold are to be fused by what was fitted on the
        others: `params["cross_fit"]` has a fit for each part of the folds. Everything else is of
        all clips, but `fused`, how good the fused scores of the clips are. Also told: `parts`, how
        good each system is on the clips that all have, and `better`, the best of them.

        Raises `TableError` where no clip has all systems and the rule is to be fitted, or where
        `cross` finds less than two folds; `ValueError` for no clips where some are needed.
        """
        if clips is None or not len(clips):
            if self.needs_clips:
                raise ValueError("there is no clip, and this fusion is to be fitted on some")
            return self.rule.fit(self.task, None) | {"fit": {"clips": 0, "cross_fitted": False}}
        ordered = clips.at(np.argsort(np.asarray(clips.clip_ids, str), kind="stable"))
        if cross:
            ordered = _grouped_by_fold(ordered)
        params = self._fitted(ordered)
        if cross:
            params["cross_fit"] = self._by_fold(ordered)
        params["fit"] = {"clips": len(clips), "cross_fitted": cross}
        return params | self._judged(params, ordered.complete())

    def apply(self, params: Mapping[str, Any], clips: Block) -> NDArray[np.float32]:
        """Fused scores (n, C) of clips with raw scores; `clips.folds` is read after a cross-fit.

        Each clip by itself. One that a single system scored has the calibrated scores of that
        system. Raises `ValueError` for a clip that none has scored, and another number of systems.
        """
        if len(clips.scores) != len(self.task.systems):
            raise ValueError(
                f"scores have {len(clips.scores)} systems, the fusion is of "
                f"{', '.join(self.task.systems)}"
            )
        for clip in np.flatnonzero(~clips.available.any(axis=0))[:1]:
            raise ValueError(f"clip {clip} has no scores of any system")
        if "cross_fit" not in params:
            return self._applied(params, clips)
        fused_NC = np.empty(clips.scores.shape[1:], np.float32)
        for own, places in self._by_part(params, clips):
            fused_NC[places] = self._applied(own, clips.at(places))
        return fused_NC

    def lacking(self, available_SN: Flags) -> Flags:
        """Which clips not all systems have scored, (N,)."""
        return np.asarray(~available_SN.all(axis=0))

    def calibrated(self, params: Mapping[str, Any], clips: Block) -> Block:
        """The clips with the calibrated scores of each system."""
        found = np.array(clips.scores, np.float32)
        for index, system in enumerate(self.task.systems):
            there = clips.available[index]
            data = params.get("calibrators", {}).get(system)
            if data is not None and there.any():
                own = calibration.from_json(data)
                found[index, there] = own.apply(clips.scores[index, there])
        return replace(clips, scores=found)

    def _applied(self, params: Mapping[str, Any], clips: Block) -> NDArray[np.float32]:
        ready = self.calibrated(params, clips)
        fused_NC = self.rule.apply(self.task, params, ready).astype(np.float32)
        alone_N = ready.available.sum(axis=0) == 1
        for index in range(len(self.task.systems)):
            only_N = alone_N & ready.available[index]
            fused_NC[only_N] = ready.scores[index, only_N]
        return fused_NC

    def _fitted(self, clips: FitClips) -> Params:
        method = "temperature" if self.calibrate == "auto" else self.calibrate
        calibrators: dict[str, Any] = {}
        for index, system in enumerate(self.task.systems):
            there = clips.clips.available[index]
            if method != "none" and there.any():
                own = calibration.fit(
                    method,
                    clips.clips.scores[index, there],
                    clips.targets[there],
                    self.task.multi_label,
                )
                calibrators[system] = own.to_json()
        params: Params = {"calibrators": calibrators}
        ready = replace(clips, clips=self.calibrated(params, clips.clips)).complete()
        if self.rule.needs_fit and not len(ready):
            counts = zip(self.task.systems, clips.clips.available.sum(axis=1).tolist(), strict=True)
            shown = ", ".join(f"{name} {count}" for name, count in counts)
            raise TableError(
                f"none of {len(clips)} clips to fit the fusion on has scores of all systems "
                f"({shown}): score the same clips, or give the weights"
            )
        return params | self.rule.fit(self.task, ready if len(ready) else None)

    def _by_fold(self, clips: FitClips) -> Params:
        """A fit for each part of the folds, on all others."""
        folds = clips.clips.folds or []
        named = [fold for fold in folds if fold is not None]
        if len(set(named)) < 2:
            raise TableError(
                f"the clips to fit the fusion on are in {len(set(named))} fold(s), expected 2 or "
                "more: those of a fold are fused by what was fitted on the others"
            )
        in_fold = clips.at(np.array([fold is not None for fold in folds]))
        found: Params = {"part_of": {}, "parts": {}}
        for number, part_N in enumerate(parts(named, MOST_PARTS)):
            own = {named[row] for row in np.flatnonzero(part_N).tolist()}
            found["part_of"] |= dict.fromkeys(sorted(own), str(number))
            params = self._fitted(in_fold.at(~part_N))
            found["parts"][str(number)] = {
                key: value for key, value in params.items() if key not in _SHOWN_ONLY
            }
        return found

    def _by_part(
        self, params: Mapping[str, Any], clips: Block
    ) -> list[tuple[Mapping[str, Any], NDArray[np.intp]]]:
        """Parameters with the clips that they are for; those of no fold get what is of all."""
        cross = params["cross_fit"]
        if clips.folds is None:
            raise ValueError("the fusion was fitted by fold; folds of the clips are needed")
        places: dict[str | None, list[int]] = {}
        for place, fold in enumerate(clips.folds):
            part = None if fold is None else cross["part_of"].get(fold)
            places.setdefault(part, []).append(place)
        everything = {key: value for key, value in params.items() if key != "cross_fit"}
        return [
            (everything if part is None else cross["parts"][part], np.array(rows))
            for part, rows in places.items()
        ]

    def _judged(self, params: Params, clips: FitClips) -> Params:
        """How good the systems and the fused scores are on the clips that all have."""
        if not len(clips):
            return {}
        ready = self.calibrated(params, clips.clips)
        found = {
            system: judged(scores_NC, clips.targets) | {"clips": len(clips)}
            for system, scores_NC in zip(self.task.systems, ready.scores, strict=True)
        }
        best = "map" if self.task.multi_label else "accuracy"
        better = max(found, key=lambda name: (found[name].get(best, 0.0), -found[name]["log_loss"]))
        fused = judged(self.apply(params, clips.clips), clips.targets)
        return {"parts": found, "better": better, "fused": fused | {"clips": len(clips)}}


def _grouped_by_fold(clips: FitClips) -> FitClips:
    """The clips with their folds as groups, where a rule that holds one out has two left: scores of
    a fold are of heads of its own, so that clips of one fold are more alike than new ones will be.
    """
    folds = clips.clips.folds or []
    if len({fold for fold in folds if fold is not None}) < FEWEST_FOLDS:
        return clips
    names = zip(folds, clips.groups, strict=True)
    return replace(clips, groups=[group if fold is None else fold for fold, group in names])
