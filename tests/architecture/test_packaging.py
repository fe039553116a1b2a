"""The four import names are ours alone, and what is installed is what the locks say (DECISIONS.md, decision 1)."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.architecture.source_tree import PACKAGES, ROOT

PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCKS = ["requirements.lock", "requirements-dev.lock", "requirements-extras.lock"]

_PINNED = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[a-z,]+\])?==([^ ;\\]+)")


def _locked(lock: str) -> dict[str, Version]:
    pins = (_PINNED.match(line) for line in (ROOT / lock).read_text(encoding="utf-8").splitlines())
    return {canonicalize_name(pin[1]): Version(pin[2]) for pin in pins if pin}


def _wanted(lock: str) -> list[str]:
    groups = PYPROJECT["dependency-groups"]
    wanted = [*PYPROJECT["project"]["dependencies"], *groups["build"]]
    if lock != "requirements.lock":
        wanted += groups["dev"]
    if lock == "requirements-extras.lock":
        for extra in PYPROJECT["project"]["optional-dependencies"].values():
            wanted += extra
    return wanted


@pytest.mark.parametrize("name", PACKAGES)
def test_the_import_name_resolves_to_this_checkout(name: str) -> None:
    found = importlib.util.find_spec(name)

    assert found is not None
    assert found.origin is not None
    assert Path(found.origin).is_relative_to(ROOT / name), f"`{name}` is somebody else's: use a fresh environment"


@pytest.mark.parametrize("name", PACKAGES)
def test_no_other_distribution_owns_the_import_name(name: str) -> None:
    owners = set(importlib.metadata.packages_distributions().get(name, ["aiops-core"]))

    assert owners == {"aiops-core"}, f"uninstall {owners - {'aiops-core'}}, or use a fresh environment"


def test_pip_and_uv_refuse_the_rivals_for_our_names() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    constraints = [line for line in lines if not line.startswith("#")]

    assert constraints == PYPROJECT["tool"]["uv"]["constraint-dependencies"] == ["openai-agents==0", "tables==0"]


@pytest.mark.parametrize("file", ["pyproject.toml", "constraints.txt", *LOCKS])
def test_no_address_is_in_what_is_installed_from(file: str) -> None:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()

    assert [line for line in lines if "://" in line or re.match(r"\s*(-i|-f|--(extra-)?index|--find)", line)] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_fits_the_ranges_of_pyproject(lock: str) -> None:
    locked = _locked(lock)
    wrong = [
        f"{wanted}, locked: {locked.get(wanted.name)}"
        for wanted in map(Requirement, _wanted(lock))
        if (version := locked.get(canonicalize_name(wanted.name))) is None or version not in wanted.specifier
    ]

    assert wrong == [], "run `make lock`"


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_version_has_hashes(lock: str) -> None:
    entries = re.split(r"(?m)^(?=\S)", (ROOT / lock).read_text(encoding="utf-8"))
    bare = [entry.split()[0] for entry in entries if _PINNED.match(entry) and "--hash=sha256:" not in entry]

    assert bare == []


def test_the_locks_agree_on_every_version() -> None:
    runtime, dev, extras = map(_locked, LOCKS)

    assert runtime.items() <= dev.items() <= extras.items()


def test_every_dependency_has_a_lower_and_an_upper_bound() -> None:
    project = PYPROJECT["project"]
    declared = [
        *project["dependencies"],
        *(each for extra in project["optional-dependencies"].values() for each in extra),
    ]
    open_ended = [
        wanted for wanted in declared if {part.operator for part in Requirement(wanted).specifier} != {">=", "<"}
    ]

    assert open_ended == []


def test_a_wheel_holds_every_file_the_program_reads(tmp_path: Path) -> None:
    # A copy, since a build leaves folders behind, and what an earlier one left would get into the wheel.
    source, out = tmp_path / "source", tmp_path / "out"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", source)
    out.mkdir()
    build = f"import setuptools.build_meta as backend; backend.build_wheel({str(out)!r})"
    done = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = out.glob("*.whl")

    packed = set(zipfile.ZipFile(wheel).namelist())

    read = {
        str(path.relative_to(source))
        for package in PACKAGES
        for path in (source / package).rglob("*")
        if path.is_file()
    }
    assert read - packed == set(), "name the suffix in [tool.setuptools.package-data]"
