"""Which tables a run folder holds, complete or not, and which job makes each.

A table is named by its path in the run folder: `manifest`, `embeddings/acoustic`, `heads/audio`,
`tune/searched`, `scores/fused`, `report`.
"""

from audioflow.errors import InputError
from audioflow.redaction import masked
from audioflow.s3_pages import in_pages, page
from audioflow.storage import AccessFailed, Folder, cause, filesystem, retried
from audioflow.tables import FAILURES, HEADER, PARTS, RECEIPTS

KINDS = {
    "manifest": "manifest",
    "embeddings": "embeddings",
    "heads": "head",
    "tune": "tune",
    "scores": "scores",
    "report": "report",
}
"""The folders of a run, in the order of the flow -> `kind` in the headers of the tables there."""

_JOBS = {
    "manifest": "manifest",
    "embeddings": "embed",
    "heads": "train",
    "tune": "tune",
    "scores": "score",
    "report": "report",
}


def is_table(name: str) -> bool:
    """Whether this may be the path of a table of a run."""
    return name.partition("/")[0] in KINDS


def kind_of(table: str) -> str:
    """What the header of a table has to say as its `kind`."""
    return KINDS[table.partition("/")[0]]


def job_for(table: str) -> str:
    """The job that makes a table, as far as its place tells."""
    return _JOBS[table.partition("/")[0]]


def command_for(table: str, job: str | None = None) -> str:
    """The command that makes a table, where need be by a job that its place does not tell."""
    return f"audioflow {job or job_for(table)} RECIPE"


def tables_in(folder: Folder) -> list[str]:
    """Every table of a run that is there or was begun, in the order of the flow.

    Raises `InputError` where there is none, or where the folder cannot be read, or its bucket does
    not exist.
    """
    found: list[str] = []
    for root in KINDS:
        single = root in ("manifest", "report")
        names = [root] if single else [f"{root}/{name}" for name in subfolders(folder / root)]
        found += [name for name in names if is_begun(folder / name)]
    if not found:
        _see_bucket(folder)
        inside = ""
        if folder.exists(HEADER):
            inside = f"; {folder.url} is a table itself: give the folder of its run"
        raise InputError(
            f"{folder.url} holds no table of a run; expected is the run_dir of a recipe, with "
            f"{', '.join(f'{root}/' for root in KINDS)}{inside}"
        )
    return found


def _see_bucket(folder: Folder) -> None:
    """Raise `InputError` where a url of S3 names a bucket that does not exist: a folder that is not
    there looks like one that is empty, also to s3fs."""
    if not in_pages(folder.url, folder.options.for_url(folder.url)):
        return

    def look() -> None:
        fs, path = filesystem(folder.url, folder.options)
        page(fs, path)

    try:
        retried(look, folder.retrying, folder.url)
    except AccessFailed as failed:
        told = f"{folder.url} cannot be read{failed.after}: {cause(failed.error)}"
        raise InputError(masked(told, folder.options.secrets)) from failed.error


def is_begun(folder: Folder) -> bool:
    """Whether a table's folder holds a file of the table."""
    places = [folder, folder / RECEIPTS, folder / FAILURES, folder / PARTS]
    return any(place.names() for place in places) or any(
        (folder / name).names() for name in subfolders(folder) if name.startswith("fold-")
    )


def subfolders(folder: Folder) -> list[str]:
    """Names of the folders directly inside, sorted; hidden ones left out."""
    try:
        found = retried(lambda: _subfolders(folder), folder.retrying, folder.url)
    except AccessFailed as failed:
        told = f"{folder.url} cannot be read{failed.after}: {cause(failed.error)}"
        raise InputError(masked(told, folder.options.secrets)) from failed.error
    return sorted(name for name in found if not name.startswith("."))


def _subfolders(folder: Folder) -> list[str]:
    fs, path = filesystem(folder.url, folder.options, listing=True)
    fs.invalidate_cache()
    try:
        entries = fs.ls(path, detail=True)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [
        entry["name"].rstrip("/").rsplit("/", 1)[-1]
        for entry in entries
        if entry["type"] == "directory"
    ]
