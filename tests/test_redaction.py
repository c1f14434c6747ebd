"""Secrets in texts that leave the lab: whatever form they stand in, they never come out."""

from __future__ import annotations

import json
import shlex

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from perfci.redaction import MASK, redacted

CHUNK = "Zq7"
"""Stands in each part of a secret, and in nothing else."""

SECRETS = st.lists(st.sampled_from(list(",;:@/=&?!+*(){}[]<>|~^%.-_ ")), min_size=1, max_size=4).map(
    lambda between: CHUNK + "".join(f"{one}{CHUNK}x" for one in between)
)
QUOTABLE = st.lists(st.sampled_from(list(",;:@/=&'\"\\$#` ")), min_size=1, max_size=4).map(
    lambda between: CHUNK + "".join(f"{one}{CHUNK}x" for one in between)
)
NAMES = st.sampled_from(
    [
        "password", "admin_password", "OS_PASSWORD", "secret", "secret_key", "memcache_secret_key", "adminPass",
        "RABBIT_PASS", "MYSQL_PWD", "api_key", "auth_key", "private_key", "authToken", "X-Auth-Token",
        "X-Subject-Token", "token", "passphrase", "database.password", "metadata_proxy_shared_secret",
        "heat.auth_encryption_key",
    ]
)  # fmt: skip
QUOTED_SHAPES = [
    lambda name, secret: json.dumps({"user": "nova", name: secret, "port": 1}),
    lambda name, secret: json.dumps(json.dumps({name: secret})),
    lambda name, secret: json.dumps({"auth": {name: secret}}, indent=2),
    lambda name, secret: f"2026-11-30 ERROR nova.api [-] { ({name: secret, 'user': 1})!r}",
    lambda name, secret: f"connect(user='nova', {name}={secret!r}, port=3306)",
    lambda name, secret: yaml.safe_dump({name: secret}, width=1000),
    lambda name, secret: f"export {name}={shlex.quote(secret)}",
]
LINE_SHAPES = [
    lambda name, secret: f"{name} = {secret}",
    lambda name, secret: f"{name}={secret}",
    lambda name, secret: f"[DEFAULT]\nuser = nova\n  {name}: {secret}\nport = 1",
    lambda name, secret: f"2026-11-30 INFO nova [-] {name} = {secret}",
    lambda name, secret: f"> {name}: {secret}",
    lambda name, secret: f"curl -H '{name}: {secret}' http://127.0.0.1",
    lambda name, secret: f'- {name}: "{secret}"',
]
OPTION_SHAPES = [
    lambda secret: f"openstack --os-password={shlex.quote(secret)} server list",
    lambda secret: f"openstack --os-password {shlex.quote(secret)} server list",
    lambda secret: f"run {['openstack', '--os-token', secret, 'server']!r}",
]
URL_SHAPES = [
    "connection = mysql+pymysql://nova:{}@127.0.0.1/nova?charset=utf8",
    "transport_url=rabbit://nova:{}@10.0.0.1:5672/",
    "rabbit://nova:{0}@10.0.0.1:5672,nova:{0}@10.0.0.2:5672//nova",
    "could not connect to redis://:{}@cache:6379",
    '{{"url": "amqp://nova:{}@host/"}}',
    "https://{}:x@example.org/",
    "https://admin:{}@example.org/",
]


@given(QUOTABLE | SECRETS, NAMES, st.sampled_from(QUOTED_SHAPES))
def test_a_quoted_secret_never_comes_out(secret, name, shape):
    text = shape(name, secret)
    assert CHUNK not in redacted(text), text
    assert name in redacted(text)


@given(SECRETS, NAMES, st.sampled_from(LINE_SHAPES))
def test_a_secret_in_a_line_of_its_own_never_comes_out(secret, name, shape):
    text = shape(name, secret)
    assert CHUNK not in redacted(text), text
    assert name in redacted(text)


@given(QUOTABLE | SECRETS, st.sampled_from(OPTION_SHAPES))
def test_a_secret_on_a_command_line_never_comes_out(secret, shape):
    assert CHUNK not in redacted(shape(secret)), shape(secret)


@given(st.text("ab:/@,;=&?!+*()%.-_", max_size=8), st.sampled_from(URL_SHAPES[:-2]))
def test_a_password_in_an_address_never_comes_out(middle, shape):
    text = shape.format(f"{CHUNK}{middle}{CHUNK}")
    assert CHUNK not in redacted(text), text


@given(QUOTABLE | SECRETS, NAMES, st.sampled_from(QUOTED_SHAPES + LINE_SHAPES))
def test_what_is_redacted_stays_as_it_is(secret, name, shape):
    once = redacted(shape(name, secret))
    assert redacted(once) == once


@pytest.mark.parametrize(
    "text",
    [
        '{"password": "ab,Zq7"}',
        '{"password": "Zq7 cut off',
        "secret_key: 'a Zq7'",
        "password: 'it''s Zq7' # a remark",
        "admin_password = correct horse Zq7",
        "OS_PASSWORD=Zq7",
        "set password to Zq7",
        "Set password of user nova to 'a Zq7'",
        "the password is Zq7",
        "tried with password Zq7 on node-1",
        "password: |\n  Zq7\n  Zq7\nuser: nova",
        "ALTER USER nova IDENTIFIED BY 'a Zq7'",
        "SET PASSWORD FOR nova = PASSWORD('Zq7')",
        "rabbit://u:p@Zq7/w0rd@host:5672/",
        "[database] connection=mysql+pymysql://nova:pa:Zq7@h/nova",
        "git clone https://Zq7ghp0123456789abcdefghij@git.example.org/x",
        "curl -u admin:Zq7 http://127.0.0.1",
        "ipmitool -I lanplus -H 10.0.0.1 -U admin -P Zq7 chassis status",
        "sshpass -p Zq7 ssh node-1",
        "X-Auth-Token: Zq7",
        "Authorization: Basic Zq7==",
        "Authorization: Bearer Zq7.b.c",
        "headers={'Authorization': 'Bearer Zq7', 'Accept': '*/*'}",
        "sent Bearer Zq7abcdefgh0 to keystone",
        "Cookie: session=Zq7; theme=dark",
        "Set-Cookie: sessionid=Zq7; Path=/; HttpOnly",
        "eyJhbGciOiJIUzI1NiJ9.Zq7payload.signature",
        "Could not find token: gAAAAABZq7defghijklmnopqrstuvwxyz",
        "GET /v3/OS-FEDERATION/gAAAAABZq7defghijklmnopqrstuvwxyz== 200",
        "password = 'ab' Zq7",
        "root:$6$Zq7salt$Zq7hashedpassword:19000:0:99999:7:::",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIZq7\nZq7==\n-----END RSA PRIVATE KEY-----\nnext",
        "-----BEGIN PRIVATE KEY-----\nMIIZq7\nZq7 cut off",
        '{"key": "-----BEGIN EC PRIVATE KEY-----\\nZq7\\n-----END EC PRIVATE KEY-----\\n"}',
    ],
)
def test_forms_that_were_seen(text):
    assert "Zq7" not in redacted(text)
    assert MASK in redacted(text)


def test_what_stands_behind_a_list_of_secrets_stays():
    text = redacted('{"passwords": ["ab", "Zq7"], "port": 5}')
    assert "Zq7" not in text
    assert text.endswith('"port": 5}')


@pytest.mark.parametrize(
    "text",
    [
        "Access denied for user 'nova'@'localhost' (using password: YES)",
        "password: None",
        "ValueError: unexpected token: foo",
        "The password is required; the token has expired",
        "Invalid token: the token has expired",
        "keystone.exception.Unauthorized: The request you have made requires authentication.",
        "keystonemiddleware.auth_token [-] Identity response: 401",
        "Authorization failed for token",
        "max_token_size = 512",
        "token_expiration = 3600",
        "TASK [keystone : Write the secret]",
        "https://example.org:8080/foo@bar",
        "pip install git+https://opendev.org:443/openstack/nova@stable/2026.1",
        "GET http://127.0.0.1:8774/v2.1/servers HTTP/1.1",
        "mail to admin@example.org: node-3 is down",
        '"token": {"methods": ["password"], "expires_at": "2026-11-30"}',
        '  File "/x/nova/api.py", line 12, in handle\n    token = self._token(request)\nKeyError: 1',
        "Basic authentication is switched off",
        "node-3: no space left on device; PWD=/opt/stack",
        "nova-compute: 12 servers, 3 secrets and 4 tokens",
        "a bearer of bad news",
        "the password was changed",
        "alembic.util.exc.CommandError: Can't locate revision identified by 'a1b2c3d4e5f6'",
    ],
)
def test_ordinary_text_stays(text):
    assert redacted(text) == text
