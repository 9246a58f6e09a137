"""Where weight files lie on this machine, what is known of them, and their hashes.

The store is `$AUDIOFLOW_WEIGHTS`, else `$XDG_CACHE_HOME/audioflow/weights`, else
`~/.cache/audioflow/weights`. A public file lies at `<key of its url>/<file>`, with
`<file>.json` beside it: where it came from and the hash it had then. Nothing is made before
something is fetched, and a store that cannot be written to costs time only.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from audioflow.weights.faults import WeightsError
from audioflow.weights.known import KnownWeights

ENVIRONMENT = "AUDIOFLOW_WEIGHTS"
LOCK_PATIENCE_S = 120.0
"""How long a download by another process may stand still before it is given up on."""

_KEY_DIGITS = 12
_SETTLED_S = 2.0


def store_folder() -> Path:
    """The folder of the store; it need not exist."""
    own = os.environ.get(ENVIRONMENT)
    if own:
        return Path(own).expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME")
    base = Path(cache) if cache and Path(cache).is_absolute() else Path.home() / ".cache"
    return base / "audioflow" / "weights"


def place(known: KnownWeights) -> Path:
    """Where a public file lies, or would."""
    return store_folder() / key_of(known.url or known.name) / file_name(known.url or known.name)


def key_of(*parts: str) -> str:
    """A short name for what these texts name together."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:_KEY_DIGITS]


def file_name(url: str) -> str:
    """The name of the file behind a url, as a plain name on this machine."""
    name = unquote(url.partition("?")[0].rstrip("/").rpartition("/")[2])
    kept = "".join(each if each.isalnum() or each in "._-+" else "_" for each in name)
    return kept.lstrip(".")[-120:] or "weights"


def writable_folder() -> Path:
    """The store, made if need be; where it cannot be written, a folder of this user's elsewhere.

    Raises `WeightsError` where there is none.
    """
    folder = store_folder()
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK | os.X_OK):
            return folder
    spare = Path(tempfile.gettempdir()) / f"audioflow-weights-{os.getuid()}"
    try:
        spare.mkdir(mode=0o700, exist_ok=True)
        if spare.stat().st_uid == os.getuid() and not spare.is_symlink():
            return spare
    except OSError as error:
        raise no_room(folder, error) from error
    raise WeightsError(f"neither {folder} nor {spare} is this user's; set {ENVIRONMENT}")


def no_room(folder: Path, error: OSError) -> WeightsError:
    """The error for a folder that cannot take a file."""
    return WeightsError(
        f"weights cannot be written to {folder}: {error.strerror or error}; make room there, or "
        f"set {ENVIRONMENT} to a folder with room"
    )


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replace a small file as a whole; raises `OSError`."""
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, prefix=path.name, suffix=".new", delete=False
    ) as file:
        json.dump(content, file, indent=1)
    Path(file.name).replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """What a small file holds; nothing where it is missing or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def note_of(path: Path) -> Path:
    """The file beside a weight file that says where it came from and which hash it had."""
    return path.with_name(path.name + ".json")


# Hashes


def digest(path: Path, algorithm: str = "sha256") -> str:
    """The hash of a file; kept in the store, for as long as size and time of the file stay.

    Raises `WeightsError` where the file cannot be read.
    """
    try:
        path = path.resolve()
        before = path.stat()
        seen = {"path": str(path), "size": before.st_size, "mtime_ns": before.st_mtime_ns}
        kept = store_folder() / "hashes" / f"{key_of(algorithm, str(path))}.json"
        found = read_json(kept)
        if {name: found.get(name) for name in seen} == seen and found.get(algorithm):
            return str(found[algorithm])
        with path.open("rb") as file:
            value = hashlib.file_digest(file, algorithm).hexdigest()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error
    # What was written a moment ago may be written again within the same tick of the clock.
    if time.time() - before.st_mtime > _SETTLED_S:
        with contextlib.suppress(OSError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_json(kept, seen | {algorithm: value})
    return value


def files_digest(files: list[Path], folder: Path) -> str:
    """One hash over several files, their names below the folder included."""
    lines = sorted(f"{digest(each)}  {each.relative_to(folder).as_posix()}" for each in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def pinned(target: Path) -> str:
    """The sha256 of a known file at its first fetch; "" where it was not fetched."""
    return str(read_json(note_of(target)).get("sha256", ""))


def mismatch(path: Path, known: KnownWeights, pin: str) -> str:
    """What differs from what was published, or from the first fetch; "" where nothing does."""
    size = path.stat().st_size
    published = [("sha256", known.sha256), ("md5", known.md5)]
    for algorithm, expected in published:
        found = digest(path, algorithm) if expected else ""
        if not found.startswith(expected.lower()):
            return f"expected {algorithm} {expected}, found {found} ({size} bytes)"
    if known.size_bytes is not None and size != known.size_bytes:
        return f"expected {known.size_bytes} bytes, found {size}"
    if pin and not known.sha256 and digest(path) != pin:
        return f"expected sha256 {pin}, which it had at the first fetch, found {digest(path)}"
    return ""


# One at a time


@contextlib.contextmanager
def alone(target: Path, part: Path) -> Iterator[None]:
    """Only one process at a time makes `target`; others wait for as long as `part` grows.

    Raises `WeightsError` where it stands still for `LOCK_PATIENCE_S`.
    """
    lock = target.with_name(target.name + ".lock")
    with lock.open("a") as file:
        _wait_for(file.fileno(), lock, part)
        yield


def _wait_for(descriptor: int, lock: Path, part: Path) -> None:
    seen, since = _size(part), time.monotonic()
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if _size(part) != seen:
                seen, since = _size(part), time.monotonic()
            if time.monotonic() - since > LOCK_PATIENCE_S:
                raise WeightsError(
                    f"another process holds {lock} and its download stands still for "
                    f"{LOCK_PATIENCE_S:.0f} s; end that process, or wait for it"
                ) from None
            time.sleep(0.05)
        except OSError:
            return  # a file system without locks: what is made is put in place as a whole anyway
        else:
            return


def _size(path: Path) -> int:
    try:
        inside = path.rglob("*") if path.is_dir() else [path]
        return sum(each.stat().st_size for each in inside)
    except OSError:
        return -1
