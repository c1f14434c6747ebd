"""The serial port, over a real pseudo-terminal and a real socket."""

from __future__ import annotations

import asyncio
import os
import socket

from perfci.lab.virtual.console import SerialConsole


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the condition is anything
            await asyncio.sleep(0.001)


def test_what_comes_out_is_kept_and_seen_while_somebody_watches(tmp_path):
    async def story():
        log, seen = tmp_path / "console.log", []
        console = SerialConsole(log)
        console.say("[firmware] POST")
        ours, machine = socket.socketpair()
        console.connect(ours.detach())
        with machine:
            machine.sendall(b"unseen\n")
            await until(lambda: b"unseen" in log.read_bytes())
            console.attach(seen.append)
            machine.sendall(b"login: ")
            await until(lambda: seen)
            console.write(b"root\n")
            machine.settimeout(5)
            assert machine.recv(100) == b"root\n"
            console.detach()
            machine.sendall(b"last words")
        console.disconnect()
        assert log.read_bytes() == b"[firmware] POST\r\nunseen\nlogin: last words"
        assert b"".join(seen) == b"login: "
        console.write(b"nobody is there")
        console.disconnect()

    asyncio.run(story())


def test_a_terminal_whose_other_end_closes(tmp_path):
    async def story():
        console = SerialConsole(tmp_path / "log")
        ours, theirs = os.openpty()
        console.connect(ours)
        os.write(theirs, b"goodbye")
        os.close(theirs)
        await until(lambda: console._line is None)
        console.write(b"too late")
        console.disconnect()
        assert (tmp_path / "log").read_bytes() == b"goodbye"

    asyncio.run(story())


def test_a_machine_that_does_not_read_its_keys_stops_nobody(tmp_path):
    async def story():
        console = SerialConsole(tmp_path / "log")
        ours, machine = socket.socketpair()
        console.connect(ours.detach())
        with machine:
            for _ in range(100):
                console.write(b"x" * 65536)
        console.disconnect()

    asyncio.run(story())
