"""Python, and the packages of each of the project's extras."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement

from ondevice.doctor.check import ANY_BOARD, NOBODY, Check

FAMILY = "Python"
_DISTRIBUTION = "ondevice-training"
_OLDEST = (3, 11)
# Extra -> what it is for, and who needs it.
_EXTRAS = {
    "": ("the tool itself", ANY_BOARD),
    "compiler": ("compiling models", ANY_BOARD),
    "demo": ("the demo's data", NOBODY),
    "torch": ("models of PyTorch", NOBODY),
    "tune": ("ondevice tune", NOBODY),
    "test": ("this project's tests", NOBODY),
}


def check_python() -> list[Check]:
    """Python's version and every package that the project names."""
    version = sys.version_info[:3]
    text = ".".join(map(str, version))
    if version < _OLDEST:
        text += f"; {'.'.join(map(str, _OLDEST))} or newer is needed"
    checks = [Check(FAMILY, "Python", version >= _OLDEST, text, ANY_BOARD)]
    try:
        requirements = [Requirement(r) for r in distribution(_DISTRIBUTION).requires or ()]
    except PackageNotFoundError:
        how = "not installed as a package, so its needs are not known; `pip install -e .`"
        return [*checks, Check(FAMILY, "packages", False, how)]
    for extra, (purpose, needed_by) in _EXTRAS.items():
        checks.append(_check_extra(extra, purpose, needed_by, requirements))
    return checks


def _check_extra(
    extra: str, purpose: str, needed_by: frozenset[str], requirements: list[Requirement]
) -> Check:
    wanted = [r for r in requirements if _belongs(r, extra)]
    found: list[str] = []
    wrong: list[str] = []
    for requirement in wanted:
        try:
            version = distribution(requirement.name).version
        except PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        right = requirement.specifier.contains(version, prereleases=True)
        (found if right else wrong).append(f"{requirement.name} {version}")
    name = f"packages: {purpose}"
    if wrong:
        brackets = f"[{extra}]" if extra else ""
        how = f"`make train`, or `pip install -e '.{brackets}'`"
        return Check(FAMILY, name, False, f"{', '.join(wrong)}; {how}", needed_by)
    return Check(FAMILY, name, True, ", ".join(found), needed_by)


def _belongs(requirement: Requirement, extra: str) -> bool:
    marker = requirement.marker
    if marker is None:
        return extra == ""
    without = marker.evaluate({"extra": ""})
    return marker.evaluate({"extra": extra}) and (extra == "" or not without)
