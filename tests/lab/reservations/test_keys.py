"""Which lines are SSH public keys: as ssh-keygen makes and names them."""

from __future__ import annotations

import subprocess
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs import needs

from perfci.lab.errors import ReservationInvalid
from perfci.lab.reservations.keys import LONGEST_KEY, MOST_KEYS, check_keys, fingerprint

KEY = f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{'A' * 43} ann@laptop"


@needs("ssh-keygen")
@pytest.mark.parametrize(("kind", "bits"), [("ed25519", "256"), ("rsa", "2048"), ("ecdsa", "384")])
def test_keys_that_ssh_makes_are_taken_and_called_as_ssh_calls_them(tmp_path, kind, bits):
    file = tmp_path / "key"
    make = ["ssh-keygen", "-q", "-t", kind, "-b", bits, "-N", "", "-C", "ann the first", "-f", file]
    subprocess.run(make, check=True)
    line = file.with_suffix(".pub").read_text()
    (key,) = check_keys([line, "", line])
    assert key == line.strip()
    said = subprocess.run(["ssh-keygen", "-lf", f"{file}.pub"], check=True, capture_output=True, text=True)
    assert fingerprint(key) in said.stdout
    with pytest.raises(ReservationInvalid):
        check_keys(file.read_text().splitlines())


@pytest.mark.parametrize(
    "line",
    [
        "no key",
        "ssh-ed25519",
        "ssh-ed25519 AAAA",
        KEY.replace("ssh-ed25519", "ssh-rsa"),
        f'command="rm -rf /" {KEY}',
        f"{KEY}\n{KEY}",
        f"{KEY} \x1b[31m",
        KEY.replace("AAAAI", "AA*AI"),
        KEY + "x" * LONGEST_KEY,
        "x" * 10_000_000,
    ],
)
def test_what_is_no_key_is_refused_and_not_repeated(line):
    with pytest.raises(ReservationInvalid, match="SSH key 2") as refused:
        check_keys([KEY, line])
    assert len(str(refused.value)) < 200


def test_how_many_there_may_be():
    many = [f"{KEY}{number}" for number in range(MOST_KEYS + 1)]
    assert len(check_keys(many[:-1])) == MOST_KEYS
    with pytest.raises(ReservationInvalid):
        check_keys(many)


@given(st.text())
def test_any_text_is_a_key_or_refused(text):
    with suppress(ReservationInvalid):
        assert len(check_keys([text])) <= 1
