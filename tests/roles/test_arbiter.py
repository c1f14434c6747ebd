"""The arbiter's socket: what can't be understood costs nobody anything."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from lockstep import Lockstep
from side_by_side import Arbiter

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "garbage", [b"\xff\n", b"[]\n", b'{"ask": 1}\n', b'{"side": "third", "join": true}\n', b'{"side": 7}\n']
)
def test_who_sends_garbage_is_cut_off_and_nobody_else(tmp_path: Path, garbage: bytes) -> None:
    arbiter = Arbiter(tmp_path / "s", Lockstep(("new", "old"), seed=1))
    with socket.socket(socket.AF_UNIX) as good, socket.socket(socket.AF_UNIX) as bad:
        for client, said in ((good, b'{"side": "new", "join": true}\n'), (bad, garbage)):
            client.connect(str(tmp_path / "s"))
            client.sendall(said)
        for _ in range(4):
            arbiter.serve(0.05)
        assert bad.recv(10) == b""
        assert arbiter.lockstep.sides["new"].joined
        assert not arbiter.lockstep.sides["new"].gone
    arbiter.close()
