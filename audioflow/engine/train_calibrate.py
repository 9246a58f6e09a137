"""The last step of the jobs `train` and `tune`: what makes probabilities of a system's scores.

It is fitted on clips that the heads did not learn from: those of `val`, or with folds all that are
in one, each as the head scores it that did not see it. Its settings have no part in the heads, so
that other settings are fitted anew to the same heads.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import RayError

from audioflow.calibration.system import CALIBRATION, SystemCalibration
from audioflow.engine.lost import RETRIES
from audioflow.engine.resources import ready_for
from audioflow.engine.room import Room, room_of
from audioflow.engine.run import Run
from audioflow.engine.train_calibrate_work import RawTask, fit_on, raw_scores
from audioflow.engine.train_needs import alone_cpus
from audioflow.errors import InputError, cause_of
from audioflow.planning.machines import Need
from audioflow.recipe import SystemSection
from audioflow.storage import Folder
from audioflow.tables import Header, Table, fingerprint

REVISION = 1
_MOST_CELLS = 50_000_000
"""Scores that are fitted on, clips times classes: 200 MB, and more clips would not tell more."""

Get = Callable[[Sequence[Any], Room], list[Any]]
"""Waits for the results of tasks of Ray, which need this room."""


def get_all(refs: Sequence[Any], room: Room) -> list[Any]:
    """`Get` in the plainest way."""
    try:
        return room.get(refs)
    except RayError as error:
        raise cause_of(error) from error


def calibrate(run: Run, name: str, system: SystemSection, job: str, get: Get = get_all) -> Header:
    """Bring `heads/<system>/calibration.json` to what the recipe says; the head's header now."""
    table = run.head(name)
    header = table.complete_header()
    if system.calibration is None or not system.calibrated:
        return _without(table, header)
    wanted = system.calibration.model_dump(mode="json")
    key = fingerprint("calibration", REVISION, header.fingerprint, wanted)
    if _is_there(table.folder, header, key):
        return header
    needs = [Need(f"systems.{name}.train", "a calibration", {"CPU": alone_cpus(system.train)})]
    ready_for(run, job, needs)
    asked = _asked(run, name, system, header, key)
    (found,) = get([asked], room_of(run, job, needs, name))
    if found is None:
        raise InputError(
            f"system {name!r}: no clip of the split val has an embedding in "
            f"{run.embeddings(system.backbone).folder.url} to calibrate on; give manifest.splits a "
            f"share for val, or leave out systems.{name}.calibration"
        )
    content = found.to_bytes()
    table.folder.write(CALIBRATION, content)
    done = SystemCalibration.parse(content)
    for text in _told(done):
        run.tell(job, "note", name, text=text)
    return table.finish(replace(header, stats=header.stats | {"calibration": done.summary()}))


def _without(table: Table, header: Header) -> Header:
    table.folder.remove(CALIBRATION)
    if "calibration" not in header.stats:
        return header
    stats = {key: value for key, value in header.stats.items() if key != "calibration"}
    return table.finish(replace(header, stats=stats))


def _is_there(folder: Folder, header: Header, key: str) -> bool:
    known = header.stats.get("calibration", {})
    if known.get("key") != key:
        return False
    try:
        return hashlib.sha256(folder.read(CALIBRATION)).hexdigest() == known["sha256"]
    except FileNotFoundError:
        return False


def _asked(run: Run, name: str, system: SystemSection, header: Header, key: str) -> Any:
    """Have the clips scored in tasks of Ray, one for each head, and the fit done in another; the
    reference of what that gives."""
    folds: list[str | None] = [*header.settings["folds"]] or [None]
    section = system.calibration
    assert section is not None
    tasks = [
        RawTask(
            run.head(name).folder,
            run.embeddings(system.backbone).folder,
            run.manifest().folder,
            fold,
            tuple(header.settings["train"]["drop_sources"]),
            max(1, _MOST_CELLS // len(header.classes) // len(folds)),
        )
        for fold in folds
    ]
    options = {"num_cpus": alone_cpus(system.train), "max_retries": RETRIES}
    score, fit = ray.remote(**options)(raw_scores), ray.remote(**options)(fit_on)
    parts = [score.remote(task) for task in tasks]
    return fit.remote(section, tuple(header.classes), key, *parts)


def _told(done: SystemCalibration) -> list[str]:
    """What a person hears of a calibration."""
    fitted = done.fitted
    before, after = fitted["before"], fitted["after"]
    told = (
        f"{done.method} calibration on {fitted['clips']:,} clips: ECE {before['ece']:.3f} -> "
        f"{after['ece']:.3f}, log loss {before['nll']:.3f} -> {after['nll']:.3f}"
    )
    if done.method == "none":
        told = f"thresholds for {done.target} on {fitted['clips']:,} clips"
    return [told, *fitted["notes"]]
