"""Which changes can have made a scenario slower: what is left without what the cloud does not run.

Left out is what touches tests, documents, release notes, translations and the like alone, what belongs to a
project or package that the cloud does not install, and a merge of nothing. The rest are suspects, the most
plausible first: what their files do, and whether they belong to the scenario's service.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from perfci.changes.model import REQUIREMENTS, Change, ChangeHistory, PinMove
from perfci.changes.pin_moves import CONSTRAINTS, normal

if TYPE_CHECKING:
    from collections.abc import Iterable


class Left(StrEnum):
    """Why a change is no suspect."""

    NOTHING = "it changes no file"
    TESTS = "tests"
    DOCUMENTS = "documents"
    RELEASE_NOTES = "release notes"
    TRANSLATIONS = "translations"
    CI = "how the project is built and tested"
    MIXED = "tests, documents and the like"
    NOT_INSTALLED = "the cloud does not install it"


_KINDS: tuple[tuple[Left, re.Pattern[str]], ...] = (
    (
        Left.TESTS,
        re.compile(
            r"(^|/)(tests?|functional|unit|fullstack)/|(^|/)conftest\.py$|(^|/)test_\w+\.py$"
            r"|^(test-requirements\.txt|\.stestr\.conf|\.coveragerc|\.testr\.conf)$"
        ),
    ),
    (Left.RELEASE_NOTES, re.compile(r"^releasenotes/")),
    (Left.TRANSLATIONS, re.compile(r"\.(po|pot)$")),
    (
        Left.DOCUMENTS,
        re.compile(
            r"^(docs?|api-ref|api-guide|specs)/|\.(rst|md|txt\.sample)$"
            r"|^(LICENSE|AUTHORS|ChangeLog|CONTRIBUTING|HACKING)(\.\w+)?$"
        ),
    ),
    (
        Left.CI,
        re.compile(
            r"^(\.zuul\.d|zuul\.d|playbooks|roles|\.github|devstack|gate|rally-jobs|tools|contrib|vagrant)/"
            r"|^(\.zuul|zuul|\.pre-commit-config|\.readthedocs)\.ya?ml$"
            r"|^(\.git\w*|\.mailmap|\.editorconfig|tox\.ini|noxfile\.py|bindep\.txt|\.pylintrc|\.flake8|\.yamllint"
            r"|reno\.yaml|doc-requirements\.txt|\.stylelintrc)$"
        ),
    ),
)
_WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")
_DULL = frozenset(
    {"and", "with", "the", "create", "delete", "list", "get", "boot", "update", "py", "v2", "v3"}
)
_LEAST_WORD = 3

_OWN, _LIBRARY, _SHARED, _OTHER = 1.0, 0.3, 0.3, 0.1
"""How plausible a change of the scenario's own service, of a library, of what every request goes through
(keystone), and of another service is."""
_SHARED_PROJECTS = frozenset({"keystone", "keystonemiddleware", "keystoneauth"})
_SERVICES = frozenset({"keystone", "placement", "glance", "nova", "neutron"})
_NAMES_IT = 3.0
"""How much more plausible a file is that has a word of the scenario in its path."""
# The clouds' networks are Open vSwitch's own; OVN's parts of neutron are installed, and do nothing.
_WEIGHTS: tuple[tuple[re.Pattern[str], float], ...] = (
    (re.compile(r"(^|/)virt/(?!fake|driver|hardware|images|block_device)\w+/"), 0.1),
    (re.compile(r"(^|/)ovn(/|_)"), 0.1),
    (re.compile(r"(^|/)(alembic_migrations|alembic|migrations?|legacy_migrations)/"), 0.1),
    (re.compile(r"(^|/)(cmd|conf|hacking|locale)/|(^|/)(opts|config)\.py$"), 0.2),
    (re.compile(r"(^|/)(agent|drivers?|privileged)/"), 0.3),
    (re.compile(r"^[^/]*\.(cfg|toml|txt|ini|py)$|^etc/"), 0.1),
    (
        re.compile(
            r"(^|/)(db|api|objects|models|sql|resources|common|policies|scheduler|middleware)(/|\.py$)"
        ),
        1.0,
    ),
)
_ELSE = 0.6
_UNKNOWN_FILES = 0.5


@dataclass(frozen=True, slots=True)
class Installed:
    """What the cloud runs: `projects` from git, by project, and `packages` from wheels, by any spelling."""

    projects: frozenset[str]
    packages: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class SlowTarget:
    """What became slower: the scenario's service (a project), the scenario's and the action's names."""

    service: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Suspect:
    """A change that can reach what is installed; `plausibility` is above 0, all suspects' add up to 1.

    `place` is its number in the order of merging among all changes of the history, from 0.
    """

    change: Change
    plausibility: float
    place: int


@dataclass(frozen=True, slots=True)
class Sifted:
    """A history, sifted: `suspects`, most plausible first, and `left_out` in order of merging, with why."""

    suspects: tuple[Suspect, ...]
    left_out: tuple[tuple[Change, Left], ...]


def kind_of(file: str) -> Left | None:
    """Return why a file (relative to its project) can't matter to a cloud; None where it may."""
    return next((kind for kind, pattern in _KINDS if pattern.search(file)), None)


def why_left_out(change: Change, installed: Installed) -> Left | None:
    """Return why a change can't have reached the cloud; None for a suspect.

    A change whose files nobody knows is a suspect where its project is installed.
    """
    if change.project == REQUIREMENTS:
        return _left_of_pins(change, installed)
    if change.project not in installed.projects:
        return Left.NOT_INSTALLED
    if change.files is None:
        return None
    if not change.files:
        return Left.NOTHING
    kinds = {kind_of(file) for file in change.files}
    if None in kinds:
        return None
    return next(iter(kinds)) if len(kinds) == 1 else Left.MIXED


def _left_of_pins(change: Change, installed: Installed) -> Left | None:
    if change.files == ():
        return Left.NOTHING
    if change.files is not None and CONSTRAINTS not in change.files:
        return Left.CI
    if change.files is None:
        return None if installed.packages else Left.NOT_INSTALLED
    return None if any(reaches(pin, installed) for pin in change.pins) else Left.NOT_INSTALLED


def reaches(pin: PinMove, installed: Installed) -> bool:
    """Say whether a moved pin changes what is installed: its package is there, and comes from a wheel."""
    known = {normal(one) for one in installed.packages}
    return pin.package in known and pin.project not in installed.projects


def sift(history: ChangeHistory, installed: Installed, target: SlowTarget | None = None) -> Sifted:
    """Return the suspects of a history, and what was left out.

    Without a target all projects are as plausible. Equally plausible ones stay in the order of merging.
    """
    left_out: list[tuple[Change, Left]] = []
    rated: list[tuple[float, int, Change]] = []
    for place, change in enumerate(history.changes):
        why = why_left_out(change, installed)
        if why is None:
            rated.append((_rate(change, installed, target), place, change))
        else:
            left_out.append((change, why))
    total = sum(rate for rate, _, _ in rated)
    ranked = sorted(rated, key=lambda one: (-one[0], one[1]))
    return Sifted(
        tuple(Suspect(change, rate / total, place) for rate, place, change in ranked), tuple(left_out)
    )


def _rate(change: Change, installed: Installed, target: SlowTarget | None) -> float:
    words = _words(target.names) - _words([target.service, change.project]) if target else frozenset()
    if change.project == REQUIREMENTS:
        pins = [pin for pin in change.pins if reaches(pin, installed)]
        files = [file for pin in pins for one in pin.changes for file in one.files or ()]
        return _LIBRARY * max(
            (_weight(one, words) for one in files if kind_of(one) is None), default=_UNKNOWN_FILES
        )
    share = _share(change.project, target)
    if change.files is None:
        return share * _UNKNOWN_FILES
    return share * max(_weight(file, words) for file in change.files if kind_of(file) is None)


def _share(project: str, target: SlowTarget | None) -> float:
    if target is None or project == target.service:
        return _OWN
    if project in _SHARED_PROJECTS:
        return _SHARED
    return _OTHER if project in _SERVICES else _LIBRARY


def _weight(file: str, words: frozenset[str]) -> float:
    weight = next((weight for pattern, weight in _WEIGHTS if pattern.search(file)), _ELSE)
    return weight * (_NAMES_IT if words & _words([file]) else 1.0)


def _words(texts: Iterable[str]) -> frozenset[str]:
    found = (word.lower() for text in texts for word in _WORD.findall(text.replace("_", " ")))
    return frozenset(_singular(one) for one in found if len(one) >= _LEAST_WORD and one not in _DULL)


def _singular(word: str) -> str:
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word
