"""The layers of DESIGN.md, section 3: imports go downward only, those inside functions included.

A module that is not in the table below fails the test: where it belongs is a decision.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "audioflow"

# From the bottom up. A folder stands for all its modules.
LAYERS: tuple[frozenset[str], ...] = tuple(
    frozenset(names.split())
    for names in (
        "errors",
        "clip downloads events hashes ids parquet pieces places records redaction registry recipe"
        " recipe_augment recipe_calibration recipe_checks recipe_embed recipe_faults recipe_file"
        " recipe_fuse"
        " recipe_fuse_checks recipe_names recipe_score recipe_score_checks"
        " recipe_searches recipe_sources recipe_splits"
        " recipe_systems recipe_train recipe_tune recipe_uses recipe_yaml retries s3_pages schemas"
        " search storage stores tables texts timing trial_text",
        "bootstrap cut division foreign_scores id_lists join listing manifest matching media"
        " metrics npy_arrays npz ranking shards spool stratify"
        " additions clip_columns event_text file_table grouping manifest_rows pace"
        " run_status text_index",
        "calibration embeddings frontend scores weights",
        "networks",
        "backbones datasets heads importers pooling score_importers",
        "systems",
        "checks codebook comparing doctor explain exporters failures fusion goldens neighbours"
        " planning report serving status_writer training verify",
        "plugins",
        "engine",
        "cli cli_tools codebook_cli console console_results console_status console_tables"
        " console_trials console_turns doctor_cli planning_cli"
        " compare_cli datasets_cli explain_cli export_cli run_argument search_cli serve_cli"
        " status_cli submit_cli submit_env weights_cli",
        "__main__ jobs",
    )
)

# Imports between two members of one layer: (importer, imported) -> why.
BESIDE: dict[tuple[str, str], str] = {
    ("recipe", "registry"): "sections are `Settings`, and `Plugins` holds registries",
    ("recipe", "recipe_embed"): "one section, in a file of its own",
    ("recipe_embed", "recipe_augment"): "a section below it, in a file of its own",
    ("recipe_embed", "recipe_names"): "names of tables become folders",
    ("recipe_embed", "recipe_score"): "imports of vectors read as those of scores do",
    ("recipe_embed", "registry"): "a section is `Settings`",
    ("recipe_uses", "recipe_embed"): "keys that stand beside a backbone's own",
    ("recipe_uses", "recipe_score"): "keys that stand beside an importer's own",
    ("recipe", "recipe_calibration"): "one section, in a file of its own",
    ("recipe", "recipe_fuse"): "one section, in a file of its own",
    ("recipe_fuse", "registry"): "a section is `Settings`",
    ("recipe", "recipe_names"): "names of tables become folders",
    ("recipe", "recipe_score"): "one section, in a file of its own",
    ("recipe", "recipe_sources"): "one section, in a file of its own",
    ("recipe", "recipe_splits"): "one section, in a file of its own",
    ("recipe", "recipe_train"): "one section, in a file of its own",
    ("recipe", "recipe_tune"): "two sections, in a file of their own",
    ("recipe", "redaction"): "faults never show a secret",
    ("recipe", "stores"): "options of stores are checked by their owner",
    ("recipe_augment", "recipe_splits"): "which splits there are",
    ("recipe_augment", "registry"): "a section is `Settings`",
    ("recipe_calibration", "registry"): "a section is `Settings`",
    ("recipe_checks", "recipe_fuse_checks"): "checks of fusions, in a file of their own",
    ("recipe_fuse_checks", "recipe"): "what a fusion may say",
    ("recipe_fuse_checks", "recipe_fuse"): "columns that every table has",
    ("recipe_fuse_checks", "recipe_score_checks"): "which systems there are",
    ("recipe_fuse_checks", "recipe_uses"): "rules and backbones are looked up",
    ("recipe_fuse_checks", "registry"): "the nearest spelling",
    ("recipe_checks", "redaction"): "passwords in urls are found, and faults never show a secret",
    ("recipe_checks", "stores"): "options of stores are checked by their owner",
    ("recipe_yaml", "storage"): "a recipe may lie in a bucket",
    ("recipe_yaml", "stores"): "whether it does",
    ("recipe_file", "redaction"): "faults never show a secret",
    ("stores", "redaction"): "what fails is told without secrets",
    ("downloads", "redaction"): "what fails is told without secrets",
    ("downloads", "retries"): "every access is tried again",
    ("downloads", "stores"): "where a url leads",
    ("storage", "downloads"): "one place for whoever handles files",
    ("storage", "redaction"): "what fails is told without secrets",
    ("storage", "retries"): "every access is tried again",
    ("storage", "s3_pages"): "how a bucket is listed",
    ("storage", "stores"): "where a url leads",
    ("recipe_sources", "recipe_splits"): "which splits there are",
    ("recipe_sources", "registry"): "a section is `Settings`",
    ("recipe_splits", "registry"): "a section is `Settings`",
    ("recipe_faults", "recipe"): "a plug-in's choice is described in its own words",
    ("recipe_faults", "registry"): "the nearest spelling",
    ("recipe_checks", "recipe"): "checks between its sections",
    ("recipe_checks", "recipe_score_checks"): "checks of what is scored, in a file of their own",
    ("recipe_checks", "recipe_searches"): "checks of systems and searches, in a file of their own",
    ("recipe_checks", "recipe_splits"): "which splits get clips",
    ("recipe_checks", "recipe_uses"): "checks of plug-ins, in a file of their own",
    ("recipe_checks", "registry"): "the nearest spelling",
    ("recipe_score", "recipe_names"): "names of tables become folders",
    ("recipe_score", "recipe_splits"): "which splits there are",
    ("recipe_score", "registry"): "a section is `Settings`",
    ("recipe_score_checks", "recipe_splits"): "which splits get clips",
    ("recipe_score_checks", "recipe_uses"): "entries of sections are looked through",
    ("recipe_searches", "recipe"): "what a system may be",
    ("recipe_searches", "recipe_faults"): "faults of trials read like those of sections",
    ("recipe_searches", "recipe_systems"): "whether the parts of a system fit each other",
    ("recipe_searches", "recipe_tune"): "what of a system may be varied",
    ("recipe_searches", "recipe_uses"): "head and pooling are looked up",
    ("recipe_searches", "registry"): "the nearest spelling",
    ("recipe_searches", "search"): "a space is read, and some of its trials are looked at",
    ("recipe_systems", "recipe"): "what a system is made of",
    ("recipe_train", "registry"): "a section is `Settings`",
    ("recipe_tune", "recipe_train"): "one range of seeds",
    ("recipe_tune", "registry"): "a section is `Settings`",
    ("recipe_uses", "recipe"): "which keys of a section are not the plug-in's",
    ("recipe_uses", "recipe_faults"): "faults of plug-in settings read like those of sections",
    ("recipe_uses", "recipe_sources"): "which of its keys are not the reader's",
    ("recipe_uses", "redaction"): "faults never show a secret",
    ("recipe_uses", "registry"): "plug-ins are looked up",
    ("search", "registry"): "the nearest spelling",
    ("recipe_file", "recipe"): "what a file is read into",
    ("recipe_file", "recipe_checks"): "step three of reading a file",
    ("recipe_file", "recipe_faults"): "step two of reading a file",
    ("recipe_file", "recipe_yaml"): "step one of reading a file",
    ("tables", "parquet"): "the files of its shards",
    ("tables", "records"): "what is known of its shards",
    ("tables", "schemas"): "the columns of what is written",
    ("records", "schemas"): "the columns of failures",
    ("parquet", "storage"): "where a file lies",
    ("tables", "storage"): "where it is written",
    ("tables", "timing"): "who made a shard is kept with its receipt",
    ("id_lists", "npy_arrays"): "ids may be an array",
    ("grouping", "clip_columns"): "whose groups they are",
    ("division", "clip_columns"): "what is divided",
    ("division", "grouping"): "whole groups go to one side",
    ("division", "stratify"): "splits by shares",
    ("manifest", "division"): "splits and folds",
    ("manifest", "additions"): "clips of further data sets",
    ("manifest", "clip_columns"): "what it is made from",
    ("manifest", "grouping"): "what must not straddle splits",
    ("manifest", "manifest_rows"): "clips as rows",
    ("manifest_rows", "clip_columns"): "what becomes rows",
    ("manifest_rows", "division"): "the split and fold of each",
    ("manifest_rows", "grouping"): "messages name some of many",
    ("additions", "clip_columns"): "clips of further data sets",
    ("additions", "division"): "one split for all of them",
    ("additions", "grouping"): "what each was cut from",
    ("additions", "manifest_rows"): "clips as rows",
    ("file_table", "listing"): "the files that are found",
    ("file_table", "text_index"): "files by path",
    ("metrics", "bootstrap"): "intervals",
    ("metrics", "ranking"): "metrics of a ranking",
    ("checks", "neighbours"): "near-duplicates are neighbours on two sides of a split",
    ("comparing", "fusion"): "gains of a fusion are differences like these",
    ("comparing", "report"): "figures read the same",
    ("comparing", "verify"): "which systems a run has",
    ("compare_cli", "console"): "errors look the same",
    ("compare_cli", "run_argument"): "which run is meant",
    ("cli_tools", "compare_cli"): "one command, in a file of its own",
    ("cli_tools", "datasets_cli"): "what one of its tools does",
    ("datasets_cli", "console"): "errors look the same",
    ("exporters", "verify"): "which systems a run has",
    ("failures", "verify"): "which tables a run has",
    ("places", "stores"): "which urls are local",
    ("report", "fusion"): "what leaving a system out costs is fused again",
    ("planning", "verify"): "counts and odd names look the same everywhere",
    ("cli", "cli_tools"): "its tools",
    ("cli_tools", "planning_cli"): "what one of its tools does",
    ("cli_tools", "status_cli"): "what one of its tools does",
    ("status_cli", "console"): "errors look the same",
    ("status_cli", "run_argument"): "what RUN_DIR may be",
    ("cli", "console"): "what a person sees",
    ("console", "console_tables"): "rows that come while a job runs",
    ("console", "console_results"): "what a report found, in its place",
    ("console", "console_status"): "how far and how fast, in its place",
    ("console", "console_trials"): "rows that come while a job runs",
    ("console", "console_turns"): "who speaks, of systems that are trained side by side",
    ("console_trials", "console_tables"): "the grid they stand in",
    ("cli_tools", "export_cli"): "what one of its tools does",
    ("export_cli", "console"): "errors look the same",
    ("export_cli", "run_argument"): "what every tool takes",
    ("cli_tools", "console"): "errors and status lines look the same",
    ("doctor", "goldens"): "what it compares with",
    ("cli_tools", "codebook_cli"): "what one of its tools does",
    ("cli_tools", "doctor_cli"): "what one of its tools does",
    ("cli_tools", "weights_cli"): "what one of its tools does",
    ("codebook_cli", "console"): "errors look the same",
    ("cli_tools", "run_argument"): "which run is meant",
    ("cli_tools", "search_cli"): "what one of its tools does",
    ("cli_tools", "submit_cli"): "what one of its tools does",
    ("submit_cli", "console"): "errors look the same",
    ("submit_cli", "submit_env"): "what is sent beside the folder",
    ("search_cli", "console"): "errors look the same",
    ("cli_tools", "explain_cli"): "what one of its tools does",
    ("cli_tools", "serve_cli"): "what one of its tools does",
    ("serve_cli", "console"): "errors look the same",
    ("serve_cli", "run_argument"): "which run is meant",
    ("explain_cli", "console"): "errors look the same",
    ("explain_cli", "run_argument"): "which run is meant",
    ("explain", "report"): "pictures look the same",
    ("search_cli", "run_argument"): "which run is meant",
    ("doctor_cli", "console"): "errors look the same",
    ("weights_cli", "console"): "errors and status lines look the same",
}

PLUGIN_FOLDERS = ("backbones", "datasets", "heads", "importers", "pooling", "score_importers")

LIGHT = (
    "errors events hashes registry recipe recipe_augment recipe_calibration calibration"
    " recipe_checks recipe_faults recipe_file"
    " recipe_names recipe_score recipe_score_checks recipe_searches recipe_sources recipe_splits"
    " recipe_systems recipe_train recipe_tune recipe_uses recipe_yaml parquet places records"
    " redaction retries s3_pages stores downloads schemas search storage tables listing stratify"
    " manifest"
    " additions clip_columns file_table grouping manifest_rows text_index"
    " clip division"
    " shards media bootstrap ranking metrics cut join"
    " npz npy_arrays id_lists matching foreign_scores spool datasets importers"
    " score_importers embeddings neighbours report fusion failures verify planning serving"
    " trial_text event_text pace run_status status_writer"
).split()
"""What must work, and start fast, where there is no torch."""

HEAVY = ("torch", "torchaudio", "torchvision", "ray")


@dataclass(frozen=True)
class Import:
    """One import: the importing module, the imported one, and whether importing executes it."""

    importer: str
    imported: str
    at_import: bool
    place: str


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {
    module_name(path): path
    for folder in (PACKAGE, "jobs")
    for path in sorted((ROOT / folder).rglob("*.py"))
}


def only_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def nodes(tree: ast.AST, at_import: bool = True) -> Iterator[tuple[ast.AST, bool]]:
    """Every node below `tree`, and whether it runs when the module is imported."""
    for node in ast.iter_child_nodes(tree):
        yield node, at_import
        lazy = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from nodes(node, at_import and not lazy and not only_for_types(node))


def imports_of(module: str) -> Iterator[Import]:
    path = SOURCES[module]
    for node, at_import in nodes(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in SOURCES else str(node.module) for name in inner]
        else:
            continue
        for name in names:
            place = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            yield Import(module, name, at_import, place)


IMPORTS = [found for module in SOURCES for found in imports_of(module)]


def member(module: str) -> str:
    """The entry of `LAYERS` that a module belongs to; "" for the package itself."""
    parts = module.split(".")
    return parts[0] if parts[0] == "jobs" else "".join(parts[1:2])


def inside(found: Import) -> bool:
    return found.imported.split(".")[0] in (PACKAGE, "jobs")


def level(name: str) -> int:
    return next(index for index, names in enumerate(LAYERS) if name in names)


def test_every_module_has_its_layer_and_every_layer_its_modules() -> None:
    members = {member(module) for module in SOURCES} - {""}
    named = set().union(*LAYERS)
    assert members - named == set(), "say in LAYERS where these belong"
    assert named - members == set(), "these are gone: take them out of LAYERS"
    assert sum(map(len, LAYERS)) == len(named), "a name stands in two layers"


def test_imports_go_downward() -> None:
    wrong = []
    for found in IMPORTS:
        if not inside(found) or not member(found.imported):
            continue
        importer, imported = member(found.importer), member(found.imported)
        if importer == imported or (importer, imported) in BESIDE:
            continue
        if not importer or level(imported) >= level(importer):
            wrong.append(f"{found.place}: {found.importer} imports {found.imported}")
    assert wrong == []


def test_every_import_within_a_layer_that_is_allowed_is_there_and_stays_within_it() -> None:
    real = {(member(found.importer), member(found.imported)) for found in IMPORTS if inside(found)}
    assert set(BESIDE) - real == set(), "these are gone: take them out of BESIDE"
    assert all(level(importer) == level(imported) for importer, imported in BESIDE)


def test_no_import_goes_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for found in IMPORTS:
        if found.imported in SOURCES and found.imported != found.importer:
            graph.setdefault(found.importer, set()).add(found.imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


@pytest.mark.parametrize("folder", PLUGIN_FOLDERS)
def test_no_plugin_folder_imports_another(folder: str) -> None:
    others = {*PLUGIN_FOLDERS} - {folder}
    found = [one for one in IMPORTS if member(one.importer) == folder]
    assert found
    assert [one.place for one in found if inside(one) and member(one.imported) in others] == []


def test_ray_is_imported_by_the_engine_only() -> None:
    users = {member(one.importer) for one in IMPORTS if one.imported.split(".")[0] == "ray"}
    assert users == {"engine"}


def needed_at_import(module: str) -> dict[str, str]:
    """Everything that importing `module` imports -> the place that does it."""
    found: dict[str, str] = {}
    todo = [module]
    while todo:
        importer = todo.pop()
        for one in IMPORTS:
            if one.importer != importer or not one.at_import:
                continue
            parts = one.imported.split(".")
            for depth in range(1, len(parts) + 1):  # importing a.b.c imports a and a.b too
                name = ".".join(parts[:depth])
                if name not in found:
                    found[name] = one.place
                    todo.append(name)
    return found


@pytest.mark.parametrize("name", LIGHT)
def test_light_modules_need_no_torch_and_no_ray(name: str) -> None:
    modules = [module for module in SOURCES if member(module) == name]
    assert modules
    for module in modules:
        needed = needed_at_import(module)
        assert {heavy: needed[heavy] for heavy in HEAVY if heavy in needed} == {}


def test_importing_the_light_modules_does_nothing(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    modules = [module for module in SOURCES if member(module) in LIGHT]
    assert len(modules) > 40
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
        # matplotlib keeps a list of fonts wherever it is imported; that is not ours to judge.
        "MPLCONFIGDIR": str(tmp_path_factory.mktemp("matplotlib")),
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
    assert [str(path) for path in tmp_path.rglob("*")] == []


def test_imports_are_seen_wherever_they_stand() -> None:
    source = (
        "import a\n"
        "if TYPE_CHECKING:\n    import b\n"
        "class C:\n    import c\n"
        "    def method(self):\n        import d\n        return lambda: __import__('e')\n"
    )
    seen = {
        node.names[0].name: at_import
        for node, at_import in nodes(ast.parse(source))
        if isinstance(node, ast.Import)
    }
    assert seen == {"a": True, "b": False, "c": True, "d": False}
