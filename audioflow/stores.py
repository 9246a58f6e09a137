"""Where urls lead: local paths, or any store that fsspec knows, with its options.

A *url* is a local path or `scheme://...`. A local path whose name is not valid UTF-8 travels as a
percent-encoded `file://` url, so that every url can stand in a Parquet string column.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import fsspec

from audioflow.errors import InputError
from audioflow.redaction import OPTIONS_KEY, has_password, masked, secret_texts

CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 30
"""How long a store may send nothing, where the options do not say."""

LISTING_ATTEMPTS = 5

_MAPPINGS = ("client_kwargs", "config_kwargs", "s3_additional_kwargs")
_TEXTS = ("endpoint_url", "key", "secret", "token", "profile", "username", "password")
_SWITCHES = ("anon", "use_ssl", "requester_pays", "cache_regions", "version_aware")
_OURS = ("asynchronous", "loop", "session", "skip_instance_cache")
_PREFIX = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_UNKNOWN = re.compile(r"unexpected keyword argument '(\w+)'")


def is_local(url: str) -> bool:
    """True for a plain path or a `file://` url."""
    return url.startswith("file://") or "://" not in url


def local_path(url: str) -> str:
    """The path behind a local url, in the form that `open` takes (undecodable bytes kept)."""
    if url.startswith("file://"):
        return os.fsdecode(unquote_to_bytes(url.removeprefix("file://")))
    return url


def path_url(path: str) -> str:
    """The url of a local path: the path itself where it is valid UTF-8, else percent-encoded."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return "file://" + quote(os.fsencode(path))
    return path


@dataclass(frozen=True)
class OptionFault:
    """What is wrong at a key of storage options; never the value, which may be a secret."""

    key: tuple[str, ...]
    problem: str
    allowed: str


def option_faults(options: Any) -> list[OptionFault]:
    """Everything that is wrong with the shape of storage options."""
    if not isinstance(options, Mapping):
        return [OptionFault((), "is no mapping", "a mapping of options of fsspec ({} for none)")]
    return list(_faults(options, ()))


def _faults(options: Mapping[str, Any], above: tuple[str, ...]) -> Iterator[OptionFault]:
    for name, value in options.items():
        key = (*above, name)
        if "://" in name:
            yield from _prefix_faults(name, value, key)
        elif name in _OURS:
            yield OptionFault(key, "cannot be set: it is audioflow's to choose", "other options")
        elif value is None:
            continue  # takes back a general option for the urls of a prefix
        elif name in _MAPPINGS and not isinstance(value, Mapping):
            yield OptionFault(key, "is no mapping", "a mapping")
        elif name in _TEXTS and (not isinstance(value, str) or not value):
            yield OptionFault(key, "is no text", "a text (put it in quotes)")
        elif name in _SWITCHES and not isinstance(value, bool):
            yield OptionFault(key, "is neither true nor false", "true or false")
        elif name == "endpoint_url" and not value.startswith(("http://", "https://")):
            yield OptionFault(key, "is no address of a server", "http://... or https://...")


def _prefix_faults(name: str, value: Any, key: tuple[str, ...]) -> Iterator[OptionFault]:
    example = 'a mapping of its own options, as in "s3://bucket/": {anon: true}'
    if has_password(name):
        shown = (*key[:-1], masked(name))
        yield OptionFault(shown, "holds a password", "the url alone; key and secret inside it")
    elif len(key) > 1:
        yield OptionFault(key, "is a url prefix inside another", "url prefixes beside each other")
    elif not _PREFIX.match(name) or is_local(name):
        yield OptionFault(key, "is no url of a store", "a prefix like s3://bucket/")
    elif not isinstance(value, Mapping):
        yield OptionFault(key, "is no mapping", example)
    else:
        yield from _faults(value, key)


@dataclass(frozen=True, repr=False)
class StorageOptions:
    """Options of fsspec for urls that are not local; its text never shows a value.

    Make one with `of`. Travels to workers, and can be a key. A key with `://` in it is a prefix of
    urls, whose options are merged over the general ones; the longest prefix counts.
    """

    _json: str = "{}"

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "StorageOptions":
        """Checked options; raises `ValueError`, which names keys and no values."""
        faults = option_faults(options)
        if faults:
            told = (f"{'.'.join(f.key)} {f.problem}; allowed: {f.allowed}" for f in faults)
            raise ValueError("\n".join(told))
        return cls(json.dumps(options, sort_keys=True))

    def for_url(self, url: str) -> dict[str, Any]:
        """The options that apply to `url`; none for a local one."""
        if is_local(url):
            return {}
        given: dict[str, Any] = json.loads(self._json)
        prefixes = [name for name in given if "://" in name and url.startswith(name)]
        own = given[max(prefixes, key=len)] if prefixes else {}
        general = {name: value for name, value in given.items() if "://" not in name}
        return {name: value for name, value in (general | own).items() if value is not None}

    @property
    def secrets(self) -> frozenset[str]:
        """The texts in it that may be secrets, to be masked in messages."""
        return frozenset(secret_texts(json.loads(self._json)))

    def __repr__(self) -> str:
        return masked(f"StorageOptions({', '.join(json.loads(self._json))})")


NO_OPTIONS = StorageOptions()


def filesystem(
    url: str, options: StorageOptions = NO_OPTIONS, *, listing: bool = False
) -> tuple[Any, str]:
    """The fsspec file system of `url`, connected, and the path inside it.

    listing: for calls that are many requests in one, which the store's library then repeats one by
    one; other calls are one request, repeated by `retries.retried` alone, so that the two do not
    multiply. Raises `InputError` when the scheme is unknown, its package is not installed or an
    option does not exist, and what the store raises when no connection can be made.
    """
    if is_local(url):
        return fsspec.filesystem("file"), local_path(url)
    given = options.for_url(url)
    is_s3 = url.startswith(("s3://", "s3a://"))
    try:
        fs, path = fsspec.core.url_to_fs(url, **(_s3_options(given, listing) if is_s3 else given))
        if is_s3:
            fs.retries = 1
            fs.connect()
    except (ImportError, ValueError, TypeError, KeyError) as error:
        refuse_option(url, options, error)
        told = masked(f"{url}: {error}", options.secrets)
        raise InputError(
            f"{told}; known are local paths, s3:// and what fsspec knows"
            + (f", with {OPTIONS_KEY} of that store" if given else "")
        ) from error
    return fs, path


def _s3_options(given: Mapping[str, Any], listing: bool) -> dict[str, Any]:
    config = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "read_timeout": READ_TIMEOUT_S,
        "max_pool_connections": 32,
        "retries": {"total_max_attempts": LISTING_ATTEMPTS if listing else 1, "mode": "standard"},
    } | given.get("config_kwargs", {})
    # One stream for a file: else s3fs asks for the size of each before it reads it.
    own = {"use_listings_cache": False, "max_concurrency": 1}
    return own | dict(given) | {"config_kwargs": config}


def refuse_option(url: str, options: StorageOptions, error: BaseException) -> None:
    """Raise `InputError` where a library says that it does not know one of the options."""
    error = error if isinstance(error, TypeError) else error.__cause__ or error
    found = _UNKNOWN.search(str(error))
    if isinstance(error, TypeError) and found and found[1] in _names(options.for_url(url)):
        scheme = url.partition("://")[0]
        raise InputError(
            f"{OPTIONS_KEY}: {found[1]!r} is no option of the store behind {scheme}:// "
            f"(needed for {masked(url)}); correct its spelling, or let it stand below the url "
            f'prefix it is meant for, as in "s3://": {{{found[1]}: ...}}'
        ) from error


def _names(options: Mapping[str, Any]) -> set[str]:
    inner = (_names(value) for value in options.values() if isinstance(value, Mapping))
    return set(options).union(*inner)
