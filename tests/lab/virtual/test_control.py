"""The control socket of a lab, with real sockets."""

from __future__ import annotations

import asyncio
import os
import socket
import threading

import pytest
from programs import needs_root

from perfci.lab.virtual import control
from perfci.lab.virtual.errors import RootNeeded, VirtualLabBroken, VirtualNodeUnknown
from perfci.lab.virtual.folders import LabFolder


class Server:
    """A control socket that answers in a thread of its own."""

    def __init__(self, folder, answer):
        self._folder, self._answer = folder, answer
        self._ready, self._loop = threading.Event(), asyncio.new_event_loop()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()))

    async def _serve(self):
        self._stop = asyncio.Event()
        async with await control.listen(self._folder.control, self._answer):
            self._ready.set()
            await self._stop.wait()

    def __enter__(self):
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()


async def answer(request):
    if request["do"] == "fault":
        raise VirtualNodeUnknown(name="node-9", known="node-1")
    return {"asked": request["do"]}


def test_questions_and_answers(tmp_path):
    folder = LabFolder(tmp_path)
    with Server(folder, answer):
        assert folder.control.stat().st_mode & 0o077 == 0
        assert control.ask(folder, do="status") == {"asked": "status"}
        with pytest.raises(control.RequestRefused, match="no node 'node-9'") as refused:
            control.ask(folder, do="fault")
        assert refused.value.advice == "`perfci virtual status` shows them."
        with pytest.raises(control.RequestRefused, match="not a request: 'do'"):
            control.ask(folder, node="node-1")


@pytest.mark.parametrize("garbage", [b"", b"\n", b"[]\n", b"\xff\xfe\n", b"{" * 3_000_000, b'{"do": '])
def test_garbage_harms_nobody(tmp_path, garbage):
    folder = LabFolder(tmp_path)
    with Server(folder, answer):
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(10)
            line.connect(str(folder.control))
            try:
                line.sendall(garbage)
                line.shutdown(socket.SHUT_WR)
                line.recv(1000)
            except OSError:
                pass  # it was sent away in the middle of it
        assert control.ask(folder, do="status") == {"asked": "status"}


def test_no_lab_and_one_that_is_gone(tmp_path):
    folder = LabFolder(tmp_path)
    assert control.ask(folder, do="status") is None
    with socket.socket(socket.AF_UNIX) as line:
        line.bind(str(folder.control))
    assert control.ask(folder, do="status") is None


def test_a_lab_that_says_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(control, "TIMEOUT_SECONDS", 0.1)
    folder = LabFolder(tmp_path)
    with socket.socket(socket.AF_UNIX) as line:
        line.bind(str(folder.control))
        line.listen()
        with pytest.raises(VirtualLabBroken, match="does not answer"):
            control.ask(folder, do="status")


@needs_root
def test_another_user_is_told_to_be_root(tmp_path):
    folder = LabFolder(tmp_path)
    with Server(folder, answer):
        os.seteuid(65534)
        try:
            with pytest.raises(RootNeeded, match="`perfci virtual status` needs root"):
                control.ask(folder, do="status")
        finally:
            os.seteuid(0)
