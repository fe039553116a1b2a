"""How the source is cut and named, and who may touch what: the rules that no linter knows."""

from __future__ import annotations

import ast
import re

import pytest

from tests.architecture.source_tree import PACKAGES, PURE_PACKAGES, ROOT, Module, imported_names, modules, text_files

LINES_MAX = 400

# A function lives beside its one user, or has a subject and a module of that name.
EMPTY_NAMES = {"base", "common", "core", "helper", "helpers", "manager", "managers", "misc", "shared", "util", "utils"}

# Started by name from outside, so nothing here imports them.
ENTRY_POINTS = {"pipeline.main"}

READS_THE_ENVIRONMENT = ("pipeline.settings", "pipeline.servers", "pipeline.patient")
STARTS_PROCESSES = ("pipeline.bench", "pipeline.executors", "pipeline.servers", "pipeline.patient")

# Put together here, so that this file does not contain what it looks for.
ABSOLUTE_HOMES = re.compile("/(?:" + "|".join(["home", "Users", "root", "work"]) + r")/[A-Za-z0-9_.-]+")
REGISTRY_HOSTS = re.compile("|".join(["pypi" + r"\.org", "python" + "hosted", "npm" + r"js\.", "--index" + "-url="]))

_NAME = re.compile(rf"\b(?:{'|'.join(PACKAGES)})(?:\.[a-z_][a-z0-9_]*)+")


def _below(name: str, places: tuple[str, ...]) -> bool:
    return any(name == place or name.startswith(f"{place}.") for place in places)


def _none(found: list[str], advice: str) -> None:
    """Fail with all that was found: pytest's own comparison shows the first only."""
    assert not found, "\n  ".join([advice, *found])


def _ours() -> tuple[Module, ...]:
    return modules(*PACKAGES)


def _with_tests() -> tuple[Module, ...]:
    return modules(*PACKAGES, "tests")


def test_no_module_is_longer_than_can_be_read_in_one_sitting() -> None:
    counted = [(module, module.text.count("\n")) for module in _with_tests()]
    too_long = [f"{module} has {count} lines" for module, count in counted if count > LINES_MAX]

    _none(too_long, f"over {LINES_MAX} lines: split where the docstring needs an 'and'")


def test_every_module_is_named_for_its_subject() -> None:
    nameless = [str(module) for module in _with_tests() if EMPTY_NAMES & set(module.name.split("."))]
    suffixed = [str(module) for module in _ours() if re.search(r"_(manager|utils?|helpers?)$", module.name)]

    _none(nameless + suffixed, "say what it does, not that it is something")


def test_every_module_says_what_lives_in_it() -> None:
    silent = [str(module) for module in _with_tests() if ast.get_docstring(module.tree) is None]

    _none(silent, "say what lives here, in a module docstring")


def test_every_module_postpones_the_evaluation_of_annotations() -> None:
    eager = [
        str(module)
        for module in _with_tests()
        if len(module.tree.body) > 1 and "__future__.annotations" not in imported_names(module)
    ]

    _none(eager, "begin with `from __future__ import annotations`")


def test_every_folder_of_modules_is_a_package() -> None:
    folders = {module.path.parent for module in _ours()}
    bare = [str(folder.relative_to(ROOT)) for folder in sorted(folders) if not (folder / "__init__.py").exists()]

    _none(bare, "without __init__.py, import-linter and the type checker pass it by")


def test_test_folders_are_no_packages() -> None:
    _none([str(module) for module in modules("tests") if module.is_package], "delete these; pytest needs none")


def _mentions(module: Module) -> set[str]:
    """Modules this one names: in imports, and in strings.

    Subcommands and stages are loaded by name, processes are started with `-m name` or by their file beside this one.
    """
    named = imported_names(module)
    package = module.name if module.is_package else module.name.rpartition(".")[0]
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            named.update(_NAME.findall(node.value))
            if re.fullmatch(r"[a-z_]+\.py", node.value):
                named.add(f"{package}.{node.value.removesuffix('.py')}")
    return named - {module.name}


def test_no_module_is_orphaned() -> None:
    mentioned = set(ENTRY_POINTS).union(*map(_mentions, _ours()))
    for declaration in [path for path in text_files() if path.suffix == ".yaml"]:
        mentioned.update(_NAME.findall(declaration.read_text(encoding="utf-8")))

    orphans = [
        module.name
        for module in _ours()
        if not module.is_package and not module.name.endswith("__main__") and module.name not in mentioned
    ]

    _none(orphans, "nothing uses these: delete them, or wire them up")


@pytest.mark.parametrize("module", modules(*PURE_PACKAGES), ids=str)
def test_left_of_pipeline_nothing_opens_files_or_talks_to_a_terminal(module: Module) -> None:
    calls = [
        f"{node.func.id}() in line {node.lineno}"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"open", "input", "print"}
    ]

    assert calls == []


def test_the_environment_is_read_in_few_places() -> None:
    readers = [
        str(module)
        for module in _ours()
        if not _below(module.name, READS_THE_ENVIRONMENT) and re.search(r"\bos\.(environ|getenv)\b", module.text)
    ]

    _none(readers, "take the value as an argument; pipeline/settings.py reads it")


def test_processes_are_started_in_few_places() -> None:
    starters = [
        str(module)
        for module in _ours()
        if not _below(module.name, STARTS_PROCESSES)
        and ("subprocess" in imported_names(module) or "create_subprocess" in module.text)
    ]

    _none(starters, f"only {', '.join(STARTS_PROCESSES)} start processes")


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    found = []
    for path in text_files():
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
            if ABSOLUTE_HOMES.search(line) or REGISTRY_HOSTS.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")

    _none(found, "a path or a host of one machine")


def test_the_map_of_the_engine_names_each_of_its_modules_in_the_order_of_their_imports() -> None:
    package, *engine = [module for module in modules("pipeline") if _below(module.name, ("pipeline.engine",))]
    topics = (ast.get_docstring(package.tree) or "").split("\n- ")[1:]
    height = {
        f"pipeline.engine.{name}": place
        for place, topic in enumerate(topics)
        for name in re.findall("``(.+?)``", topic)
    }
    assert sorted(height) == sorted(module.name for module in engine)

    _none(
        [
            f"{module} imports {imported}"
            for module in engine
            for imported in sorted(imported_names(module) & height.keys())
            if height[imported] > height[module.name]
        ],
        "pipeline/engine/__init__.py says what may import what in the engine; move what is needed, or the module's place:",
    )
