"""What is known of tables beside their rows: failures, receipts, headers, fingerprints."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata
from typing import Any

import pyarrow as pa

from audioflow.schemas import FAILURES_SCHEMA

SCHEMA_VERSION = 1
FINGERPRINT_DIGITS = 32

_PACKAGES = "audioflow av decord numpy pyarrow ray scikit-learn soxr torch torchaudio".split()


def fingerprint(*parts: Any) -> str:
    """A hash (32 hex digits) of JSON-like values, whatever the order of the keys of mappings."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:FINGERPRINT_DIGITS]


@dataclass(frozen=True)
class Failure:
    """One clip that gave no result, as a row of a failures table."""

    clip_id: str
    uri: str | None
    stage: str
    error: str
    reason: str
    attempts: int = 1
    node: str | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was committed with one shard.

    `media_s` is the media time (seconds) its rows cover; `variants` counts the rows that are
    augmented copies of others.
    """

    name: str
    rows: int
    failures: int
    sha256: str
    size_bytes: int
    media_s: float = 0.0
    failures_sha256: str = ""
    errors: dict[str, int] = field(default_factory=dict)
    variants: int = 0

    @property
    def clips(self) -> int:
        """How many clips it accounts for."""
        return self.rows - self.variants + self.failures

    @classmethod
    def parse(cls, text: bytes) -> "Receipt":
        """A receipt from its file, which may say more; raises ValueError, TypeError or KeyError."""
        data = dict(json.loads(text))
        names = {item.name for item in fields(cls)}
        return cls(**{name: value for name, value in data.items() if name in names})


@dataclass(frozen=True)
class Header:
    """Provenance of a complete table; the content of `_header.json`."""

    kind: str
    name: str
    fingerprint: str
    parents: dict[str, str]
    settings: dict[str, Any]
    rows: int
    failures: int
    shards: list[Receipt]
    classes: list[str] = field(default_factory=list)
    stats: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> bytes:
        """As it is written: a shard a line, each made by itself, since there may be millions."""
        whole = {item.name: getattr(self, item.name) for item in fields(self)}
        text = json.dumps(whole | {"shards": []}, indent=1, ensure_ascii=False)
        before, after = text.encode().split(b'\n "shards": []')
        names = [item.name for item in fields(Receipt)]
        rows = ({name: getattr(one, name) for name in names} for one in self.shards)
        lines = (json.dumps(row, ensure_ascii=False).encode() for row in rows)
        shards = b"\n  " + b",\n  ".join(lines) + b"\n " if self.shards else b""
        return b"".join((before, b'\n "shards": [', shards, b"]", after))

    @property
    def media_s(self) -> float:
        return sum(shard.media_s for shard in self.shards)

    @property
    def good(self) -> int:
        """How many clips gave a row; their variants are not counted."""
        return self.rows - sum(shard.variants for shard in self.shards)


def failures_table(failures: Sequence[Failure]) -> pa.Table:
    """Failures as an Arrow table of `FAILURES_SCHEMA`; bytes that are no text are escaped."""
    rows = [
        {name: _text(value) if isinstance(value, str) else value for name, value in row.items()}
        for row in map(asdict, failures)
    ]
    return pa.Table.from_pylist(rows, schema=FAILURES_SCHEMA)


def _text(value: str) -> str:
    # A message may quote a path as the system has it, with bytes that no Parquet text can hold.
    return value.encode("utf-8", "backslashreplace").decode()


def package_versions() -> dict[str, str]:
    """Versions of what a table's content may depend on, for its header."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
