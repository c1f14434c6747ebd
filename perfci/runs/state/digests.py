"""The digests that tell code under test and environment apart."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from perfci.results.model import CodeUnderTest, ServiceRevision

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_DIGITS = 12


def digest(value: object) -> str:
    """Return 12 hex digits of SHA-256 over a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def environment_digest(*, facts: Mapping[str, Any], job_digest: str, nodes: Sequence[str]) -> str:
    """Return the digest over everything that is not the code under test.

    `facts` is what the fingerprint found on the nodes, `job_digest` covers what the job measures and
    how, `nodes` are the names of the nodes it ran on.
    """
    return digest({"facts": facts, "job": job_digest, "nodes": sorted(nodes)})


def code_under_test(services: Sequence[Mapping[str, Any]]) -> CodeUnderTest:
    """Build the code under test from the services of code.json, with its digest."""
    revisions = tuple(
        sorted(
            (
                ServiceRevision(
                    service=str(entry["service"]),
                    version=str(entry["version"]),
                    source=str(entry["source"]),
                    revision=str(entry["revision"]),
                    changes=tuple(map(str, entry.get("changes", ()))),
                )
                for entry in services
            ),
            key=lambda revision: revision.service,
        )
    )
    parts = [[r.service, r.source, r.revision, *r.changes] for r in revisions]
    return CodeUnderTest(digest=digest(parts), services=revisions)
