"""Addresses of repositories as they may be shown."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:pw@host:8443/x", "https://host:8443/x"),
        ("https://me:p@w@host/x@y", "https://host/x@y"),
        ("fatal: unable to access 'https://pw@host/x/': no", "fatal: unable to access 'https://host/x/': no"),
        ("/srv/git/nova", "/srv/git/nova"),
        ("git@host:nova and https://host/nova", "git@host:nova and https://host/nova"),
    ],
)
def test_no_password_of_an_address_is_shown(addresses, text, shown):
    assert addresses.without_credentials(text) == shown
