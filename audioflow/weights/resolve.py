"""What the settings of a backbone name as weights, as files on this machine."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from audioflow.redaction import masked, unsigned
from audioflow.registry import nearest
from audioflow.stores import NO_OPTIONS, StorageOptions, is_local, local_path
from audioflow.weights.faults import WeightsError, some
from audioflow.weights.fetch import Source
from audioflow.weights.known import RANDOM, KnownWeights, weights_fields
from audioflow.weights.remote import local_copy_of
from audioflow.weights.store import digest, files_digest, mismatch, pinned, place
from audioflow.weights.tensorflow_files import checkpoint_files

Chosen = TypeVar("Chosen", bound=BaseModel)


class UnknownWeights(WeightsError):
    """A setting names weights that are neither published ones nor a path: the recipe is wrong."""

    exit_code = 2


@dataclass(frozen=True)
class Identity:
    """Which weights a setting names: what was given, and the hash of the file ("" if random).

    given: without passwords and signatures. licence: of known weights.
    """

    given: str
    sha256: str
    licence: str = ""

    @property
    def trained(self) -> bool:
        """Whether these are weights of a file, not drawn from a seed."""
        return bool(self.sha256)

    def to_json(self) -> dict[str, Any]:
        """As it stands in a header."""
        return vars(self) | {"trained": self.trained}


def resolved(
    settings: Chosen,
    known: Sequence[KnownWeights],
    storage: StorageOptions = NO_OPTIONS,
    backbone: str = "",
) -> tuple[Chosen, dict[str, Identity]]:
    """The settings with a local path in place of every name or url, and what was found, by setting.

    backbone: its name, for messages. Settings without weights come back as they are. Raises
    `WeightsError` where a file is not on this machine (and says how to get it) or not what was
    published.
    """
    paths: dict[str, str] = {}
    found: dict[str, Identity] = {}
    for field in weights_fields(type(settings)):
        given = getattr(settings, field)
        if given is None:
            continue
        if given == RANDOM:
            found[field] = Identity(given, "")
            continue
        public = next((each for each in known if each.name == given), None)
        if public is not None:
            path = _of_store(public, field, backbone)
            found[field] = Identity(given, digest(path), public.licence)
        else:
            path = _of_user(given, known, storage, field)
            found[field] = Identity(masked(unsigned(given), storage.secrets), identity(path))
        paths[field] = str(path)
    return settings.model_copy(update=paths), found


def _of_store(public: KnownWeights, field: str, backbone: str) -> Path:
    path = place(public)
    name = f"{backbone}/{public.name}" if backbone else public.name
    if not path.exists():
        size = f"{public.size_bytes / 1e6:.1f} MB, " if public.size_bytes else ""
        raise WeightsError(
            f"{field}: {public.name} ({size}licence: {public.licence}) is not on this machine: "
            f"expected at {path}; get it with `audioflow weights fetch {name}`, or give a local "
            "path or an s3:// url instead"
        )
    wrong = mismatch(path, public, pinned(path))
    if wrong:
        raise WeightsError(
            f"{field}: {path} is not {public.name} as it was published: {wrong}; get it again "
            f"with `audioflow weights fetch {name}`"
        )
    return path


def _of_user(
    given: str, known: Sequence[KnownWeights], storage: StorageOptions, field: str
) -> Path:
    if not is_local(given):
        return local_copy_of(Source(given, storage))
    path = Path(local_path(given)).expanduser()
    if path.exists() or _index(path).exists():
        return path.absolute()
    names = [each.name for each in known]
    if "/" in given or path.suffix:
        raise WeightsError(
            f"{field}: {given} does not exist; expected a weight file, "
            f"{some([repr(name) for name in [RANDOM, *names]])}"
        )
    hint = nearest(given, [*names, RANDOM])
    raise UnknownWeights(
        f"{field}: {given!r} is neither a file nor known weights ({some([*names, RANDOM])})"
        + (f"; did you mean {hint!r}?" if hint else "")
    )


def _index(path: Path) -> Path:
    """Of a TensorFlow checkpoint that is named by the prefix of its files."""
    return path.with_name(path.name + ".index")


def identity(path: Path) -> str:
    """The hash of a weight file; of a folder or a checkpoint, one over all its files.

    Raises `WeightsError` where there is no file.
    """
    if path.is_dir():
        files = sorted(each for each in path.rglob("*") if each.is_file())
        if not files:
            raise WeightsError(f"{path} is an empty folder; expected weights")
        return files_digest(files, path)
    if not path.exists():
        return files_digest(checkpoint_files(str(path)), path.parent)
    return digest(path)
