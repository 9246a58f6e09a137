"""Secrets are kept out of everything a person or a log reads: messages, events, headers, reports.

Masked are passwords in urls, the signatures of presigned urls, the credentials in the environment,
and values that the caller knows to be secret.
"""

import difflib
import json
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from audioflow.errors import Fault

MASK = "***"
OPTIONS_KEY = "storage_options"
"""The recipe's section whose texts are secret unless named in `HARMLESS`."""

HARMLESS = frozenset(
    "endpoint_url region_name profile anon use_ssl verify requester_pays cache_regions mode"
    " addressing_style signature_version connect_timeout read_timeout max_concurrency".split()
)
"""Options whose values may be told. All other texts are masked: nobody can list every secret."""

_MEANT = (OPTIONS_KEY, "storage", "options", "s3", "credentials")
"""Keys that may be meant to be `OPTIONS_KEY`."""

_SHORTEST = 6
"""A shorter value is not searched for in texts: it would be found in the middle of words."""

_ENVIRONMENT = (
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_ACCESS_KEY_ID",
    "AZURE_STORAGE_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_CONNECTION_STRING",
)

_SIGNATURES = (
    r"X-(?:Amz|Goog)-(?:Signature|Credential|Security-Token)|AWSAccessKeyId|GoogleAccessId"
    r"|Signature|sig|(?:access_|session_)?token|api_?key|secret|password"
)
_SIGNED = re.compile(rf"(?i)([?&;](?:{_SIGNATURES})=)[^&#\s'\"<>]*[^&#\s'\"<>:;,.)]")
_SIGNING = re.compile(rf"(?i)(?:{_SIGNATURES}|X-(?:Amz|Goog)-[\w-]+|Expires)=")
_USER = re.compile(r"(?i)(?<=[a-z0-9]://)[^\s/?#'\"<>]*:[^\s/?#'\"<>]*@")
_COMMENTED = re.compile(
    r"(?i)(#[^\n]*\b\w*(?:key|secret|token|password)\w*[\"']?\s*[:=]\s*)[^\s,}#]+"
)
_FAULT = re.compile(r"(?<![\w'])storage_?options?\S*: ")
_QUOTED = re.compile(
    r"""(?<!did you mean )(?:'(?:[^'\\\n]|\\.)*(?:'|$)|"(?:[^"\\\n]|\\.)*(?:"|$)|\b\d{6,}\b)"""
)
_OVERRIDE = re.compile(rf"(\b{OPTIONS_KEY}\.[^\s=:]+[=:])(?=\S)[^\s]+")


def masked(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without `secrets`, those of the environment, and those in the urls of the text."""
    known = {*secrets, *(os.environ.get(name, "") for name in _ENVIRONMENT)}
    for secret in sorted(known, key=len, reverse=True):
        if len(secret) >= _SHORTEST:
            for form in {secret, quote(secret, safe=""), quote(secret), json.dumps(secret)[1:-1]}:
                text = text.replace(form, MASK)
    text = _USER.sub(f"{MASK}@", text)
    return _SIGNED.sub(rf"\1{MASK}", text)


def masked_faults(text: str) -> str:
    """The text of a recipe's faults without what those of storage options quote."""
    lines = text.splitlines(keepends=True)
    return "".join(_QUOTED.sub(MASK, line) if _FAULT.search(line) else line for line in lines)


def masked_fault(fault: Fault) -> Fault:
    """A fault of a recipe without the values that it quotes of storage options."""
    if not fault.key.startswith(OPTIONS_KEY.rstrip("s")):
        return fault
    key = _OVERRIDE.sub(rf"\1{MASK}", fault.key)
    return replace(fault, key=key, problem=_QUOTED.sub(MASK, fault.problem), value=None)


def masked_values(value: Any, secrets: Iterable[str] = ()) -> Any:
    """A JSON-like value with every text in it masked."""
    if isinstance(value, str):
        return masked(value, secrets)
    if isinstance(value, Mapping):
        return {key: masked_values(item, secrets) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked_values(item, secrets) for item in value]
    return value


def has_password(url: str) -> bool:
    """Whether a url holds `user:password@`."""
    return _USER.search(url) is not None


def unsigned(url: str) -> str:
    """The url without the signature of a presigned one: what stays the same when it is renewed."""
    place, mark, query = url.partition("?")
    if not mark or not any(_SIGNING.match(part) for part in query.split("&")):
        return url
    kept = [part for part in query.split("&") if not _SIGNING.match(part)]
    return f"{place}?{'&'.join(kept)}" if kept else place


def secret_texts(options: Any, key: str = "") -> Iterator[str]:
    """The texts in storage options that may be secrets; `key` is the one they stand at."""
    if isinstance(options, Mapping):
        for name, value in options.items():
            yield from secret_texts(value, str(name))
    elif isinstance(options, list | tuple):
        for value in options:
            yield from secret_texts(value, key)
    elif isinstance(options, str) and key not in HARMLESS:
        yield options


def masked_options(options: Any, key: str = "") -> Any:
    """Storage options with every value masked that is not known to be harmless."""
    if isinstance(options, Mapping):
        return {name: masked_options(value, str(name)) for name, value in options.items()}
    if isinstance(options, list | tuple):
        return [masked_options(value, key) for value in options]
    return masked_values(options) if key in HARMLESS or isinstance(options, bool) else MASK


def misplaced_masked(value: Any, key: str = "") -> Any:
    """A value of the recipe, with what looks like storage options in a wrong place masked."""
    if not isinstance(value, Mapping):
        return value
    if difflib.get_close_matches(key.casefold(), _MEANT, n=1, cutoff=0.7):
        return masked_options(value)
    return {name: misplaced_masked(item, str(name)) for name, item in value.items()}


def masked_recipe(text: str) -> str:
    """A recipe's YAML as it was written, with the secrets of its storage options masked."""
    text = text.removeprefix("\ufeff")
    try:
        node = YAML(typ="safe", pure=True).compose(text)
    except (YAMLError, RecursionError):
        node = None
    spans: set[tuple[int, int]] = set()
    secrets: list[str] = []
    if isinstance(node, MappingNode):
        for name, value in node.value:
            if name.value == OPTIONS_KEY:
                for found in _secret_nodes(value, ""):
                    spans.add((found.start_mark.index, found.end_mark.index))
                    secrets.append(found.value)
    for start, end in sorted(spans, reverse=True):
        text = f"{text[:start]}{MASK}{_line_end(text, end)}"
    return masked(_COMMENTED.sub(rf"\1{MASK}", text), secrets)


def _line_end(text: str, end: int) -> str:
    """The rest of the text; a block scalar ends behind the end of its line, which is kept."""
    return text[end - 1 :] if end and text[end - 1] == "\n" else text[end:]


def _secret_nodes(node: Node, key: str) -> Iterator[ScalarNode]:
    if isinstance(node, MappingNode):
        for name, value in node.value:
            yield from _secret_nodes(value, str(name.value))
    elif isinstance(node, SequenceNode):
        for value in node.value:
            yield from _secret_nodes(value, key)
    elif isinstance(node, ScalarNode) and key not in HARMLESS and not _is_plain(node):
        yield node


def _is_plain(node: ScalarNode) -> bool:
    return str(node.tag).endswith((":bool", ":null"))


def masked_command(command: str) -> str:
    """A command line with the secrets of overrides like `storage_options.secret=...` masked."""
    try:
        parts = shlex.split(command)
    except ValueError:
        # It was never run like this: better say too little than guess where a value ends.
        return masked(command.partition(OPTIONS_KEY)[0] + MASK)
    return masked(shlex.join(map(masked_override, parts)))


def masked_override(override: str) -> str:
    """An override of the recipe; those of storage options keep harmless values only."""
    key, equals, _ = override.partition("=")
    if not key.startswith(OPTIONS_KEY.rstrip("s")) or key.rpartition(".")[2] in HARMLESS:
        return override
    return f"{key}={MASK}" if equals else _OVERRIDE.sub(rf"\1{MASK}", override)
