"""A recipe's YAML as plain values, each with the place it was written at, and its overrides.

YAML 1.2: `no` and `on` are texts, `1e-3` is a number. What looks like a date stays the text it is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from audioflow.errors import Fault, RecipeError, shown
from audioflow.stores import is_local

Key = tuple[str, ...]

FILE = "(file)"
"""The key of faults that concern the whole file."""
COMMAND_LINE = "command line"

_TAG = "tag:yaml.org,2002:"
_TEXTS = ("str", "timestamp", "value", "merge")
_MOST_VALUES = 100_000


@dataclass
class Document:
    """The values of a recipe, where each was written, and what was wrong with the writing."""

    data: dict[str, Any]
    places: dict[Key, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def place(self, key: Key) -> str:
        """Where the value at `key`, or what would hold it, was written."""
        while key and key not in self.places:
            key = key[:-1]
        return self.places.get(key, "")


def read_text(path: str) -> str:
    """The text of the recipe file `path`, on disk or as the url of a store that needs no options
    of its own; raises `RecipeError` where there is none, or it is no text."""
    try:
        data = Path(path).read_bytes() if is_local(path) else _fetch(path)
        return data.decode("utf-8-sig")
    except FileNotFoundError:
        raise RecipeError(path, [Fault(FILE, "does not exist")]) from None
    except UnicodeDecodeError as error:
        problem = f"cannot be read as UTF-8 text: {error.reason} at byte {error.start}"
        raise RecipeError(path, [Fault(FILE, problem)]) from None
    except OSError as error:
        raise RecipeError(path, [Fault(FILE, f"cannot be read: {error.strerror}")]) from None


def _fetch(url: str) -> bytes:
    """The bytes at a url; here, since most recipes lie on disk and need no store."""
    from audioflow.storage import Folder

    folder, name = Folder(url).split()
    return folder.read(name)


def read_document(path: str) -> Document:
    """The recipe file `path`; raises `RecipeError` where it is no YAML mapping of sections."""
    name = Path(path).name
    text = read_text(path)
    reader = _Reader(lambda line: f"{name}:{line}")
    try:
        data = reader.read(text, ())
    except _NotYaml as error:
        place = f"{name}:{error.line}" if error.line else ""
        raise RecipeError(path, [Fault(FILE, f"is not YAML: {error}", place=place)]) from None
    if not isinstance(data, dict):
        problem = "is empty" if data is None else f"is not a mapping of sections but {shown(data)}"
        allowed = "sections like run_dir, manifest, embed"
        raise RecipeError(path, [Fault(FILE, problem, data, allowed)])
    return Document(data, {(): name} | reader.places, reader.faults)


def apply_override(document: Document, override: str) -> None:
    """Set what `section.key=value` says, the value read as YAML."""
    dotted, equals, text = override.partition("=")
    key = tuple(dotted.split("."))
    if not equals or not all(key):
        problem, allowed = "is no override", "section.key=value"
        document.faults.append(Fault(override, problem, override, allowed, place=COMMAND_LINE))
        return
    reader = _Reader(lambda line: COMMAND_LINE)
    try:
        value = reader.read(text, key)
        if value is None and text.lstrip().startswith("#"):
            raise _NotYaml("'#' begins a comment; put the value in quotes")
    except _NotYaml as error:
        problem = f"{shown(text)} is not YAML: {error}"
        document.faults.append(Fault(dotted, problem, text, place=COMMAND_LINE))
        return
    holder: Any = document.data
    for depth, part in enumerate(key[:-1], 1):
        if holder.get(part) is None:
            holder[part] = {}
            document.places[key[:depth]] = COMMAND_LINE
        holder = holder[part]
        if not isinstance(holder, dict):
            above = ".".join(key[:depth])
            problem = f"cannot be set to {shown(text)}: {above} is {shown(holder)}, no mapping"
            way_out = f"{above}={{...}}, the whole of it"
            document.faults.append(Fault(dotted, problem, text, way_out, place=COMMAND_LINE))
            return
    holder[key[-1]] = value
    for old in [place for place in document.places if place[: len(key)] == key]:
        del document.places[old]
    document.places |= {key: COMMAND_LINE}
    document.faults += reader.faults


class _NotYaml(Exception):
    """The text breaks the rules of YAML; `line` counts from 1, 0 where it is not known."""

    def __init__(self, problem: str, line: int = 0) -> None:
        self.line = line
        super().__init__(problem)


@dataclass
class _Reader:
    """Turns one YAML text into plain values."""

    place: Callable[[int], str]
    places: dict[Key, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    _open: list[Node] = field(default_factory=list)
    _count: int = 0

    def read(self, text: str, key: Key) -> Any:
        """The value of `text`, which stands at `key` of the recipe; None where it is empty."""
        self._yaml = YAML(typ="safe", pure=True)
        try:
            node = self._yaml.compose(text)
            return None if node is None else self._value(node, key)
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            parts = [part for part in (error.context, error.problem) if part]
            problem = " ".join((", ".join(parts) or str(error)).split())
            if "'\\t'" in problem:
                problem += "; indent with spaces, not with tabs"
            raise _NotYaml(problem, mark.line + 1 if mark else 0) from None
        except ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            character = chr(error.character)
            raise _NotYaml(f"the character {character!r} may not stand in it", line) from None
        except RecursionError:
            raise _NotYaml("it is nested too deeply") from None

    def _value(self, node: Node, key: Key) -> Any:
        self._count += 1
        if self._count > _MOST_VALUES:
            raise _NotYaml(f"it has more than {_MOST_VALUES} values", node.start_mark.line + 1)
        if any(node is outer for outer in self._open):
            self._fault(node, key, "refers to itself")
            return None
        self._open.append(node)
        try:
            if isinstance(node, MappingNode):
                return self._mapping(node, key)
            if isinstance(node, SequenceNode):
                return self._list(node, key)
            return self._scalar(node, key)
        finally:
            self._open.pop()

    def _mapping(self, node: MappingNode, key: Key) -> dict[str, Any]:
        self._known_tag(node, key, ("map",))
        found: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for name_node, item in node.value:
            line = name_node.start_mark.line + 1
            if not isinstance(name_node, ScalarNode):
                self._fault(name_node, key, "has a list or mapping as a key", "texts as keys")
                continue
            name = name_node.value
            if name in found:
                problem = f"stands twice, first in line {lines[name]}; keep one of the two"
                self._fault(name_node, (*key, name), problem)
                continue
            lines[name] = line
            self.places[(*key, name)] = self.place(line)
            found[name] = self._value(item, (*key, name))
        return found

    def _list(self, node: SequenceNode, key: Key) -> list[Any]:
        self._known_tag(node, key, ("seq",))
        found = []
        for index, item in enumerate(node.value):
            self.places[(*key, str(index))] = self.place(item.start_mark.line + 1)
            found.append(self._value(item, (*key, str(index))))
        return found

    def _scalar(self, node: Node, key: Key) -> Any:
        kind = str(node.tag).removeprefix(_TAG)
        if kind == "null":
            return None
        if kind in ("bool", "int", "float"):
            try:
                return getattr(self._yaml.constructor, f"construct_yaml_{kind}")(node)
            except (ValueError, KeyError):
                self._fault(node, key, f"{shown(node.value)} cannot be read as !!{kind}")
                return node.value
        self._known_tag(node, key, _TEXTS)
        if any("\ud800" <= character <= "\udfff" for character in node.value):
            self._fault(node, key, f"{shown(node.value)} holds half of a character")
            return ""
        return node.value

    def _known_tag(self, node: Node, key: Key, known: Sequence[str]) -> None:
        kind = str(node.tag)
        if kind.removeprefix(_TAG) not in known:
            kind = kind.replace(_TAG, "!!")
            self._fault(node, key, f"has the tag {kind}", "plain values, without a tag")

    def _fault(self, node: Node, key: Key, problem: str, allowed: str = "") -> None:
        place = self.place(node.start_mark.line + 1)
        value = node.value if isinstance(node.value, str) else None
        self.faults.append(Fault(".".join(key) or FILE, problem, value, allowed, place=place))
