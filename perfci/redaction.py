"""Takes secrets out of log excerpts before people outside the lab see them.

What looks like a secret is replaced where it is in doubt: a line that says too little is better than one
that says too much. What stays is ordinary text, and the names of the secrets.
"""

from __future__ import annotations

import re

MASK = "********"

_NAME = (
    r"(?:\w[\w.-]*)?(?:passwords?|passwd|passphrase|passcode|secrets?|token|api[_-]?key"
    r"|(?:secret|private|access|auth|encryption|signing|account)[_-]?keys?"
    r"|(?<=[_-])pass|(?<=[_-])pwd|adminpass|userpass|rootpass|authorization|cookie)"
)
"""How the name of a secret ends: `memcache_secret_key`, `X-Auth-Token`, `MYSQL_PWD`, nova's `adminPass`."""
_QUOTE = r"\\{0,9}[\"']"
_ASSIGNED = re.compile(
    rf"(?P<open>{_QUOTE})?(?P<dashes>(?<![\w-])--)?(?:(?<![\w.-])|(?<=--))(?P<name>{_NAME})(?![\w-])"
    rf"(?P<close>{_QUOTE})?(?P<separator>\s*(?:=>|==?|:(?!//|:))\s*|(?(dashes)(?:\s+|,\s*)|(?!)))",
    re.IGNORECASE,
)
_PREFIX = r"[bBuUrRfF]{0,2}"
_QUOTED = (
    # In a text within a text: \"secret\". It ends at the same number of backslashes with that quote.
    re.compile(rf"{_PREFIX}(?P<quote>\\+[\"'])(?P<value>(?:(?!(?<!\\)(?P=quote)).)*)(?:(?P=quote)|$)"),
    re.compile(rf'{_PREFIX}(?P<quote>")(?P<value>(?:\\.|[^"])*)(?:"|$)'),
    # YAML and SQL write a quote in quotes twice.
    re.compile(rf"{_PREFIX}(?P<quote>')(?P<value>(?:''(?=[^\s,;)}}\]])|\\.|[^'])*)(?:'|$)"),
)
_SCHEME = re.compile(r"(?:Basic|Bearer|Digest|Token|Negotiate|AWS4-HMAC-SHA256)(?:[ \t]+|$)", re.IGNORECASE)
_NO_SECRET = frozenset({"", "none", "null", "nil", "true", "false", "yes", "no", "<sanitized>", "|", ">"})
_PROSE = re.compile(
    r"(?:a|an|and|are|at|can|can't|cannot|could|did|does|expired|for|from|had|has|in|incorrect|invalid|is|it"
    r"|malformed|missing|must|no|none|not|of|on|or|required|should|the|this|to|too|unknown|was|will|with"
    r"|wrong|you|your)\b",
    re.IGNORECASE,
)
_BARE = frozenset({"password", "passphrase", "secret", "token", "authorization", "cookie"})
_SENTENCE = re.compile(r"[A-Za-z)]\s+$")
_SYNTAX = re.compile(r"(?:unexpected|unknown|next|any|illegal)\s+$", re.IGNORECASE)
_SOURCE = re.compile(r"\bFile \"[^\"]+\", line \d+, in ")
_WORD = r"(?:\\*\"(?:\\.|[^\"])*\"|\\*'(?:\\.|[^'])*'|[^\s\"']\S*)"

_BLOCKS = (
    # A private key, also one that is cut off, or stands in one line of JSON with \n between its lines.
    re.compile(
        r"(?P<keep>-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(?:(?=-----END [A-Z ]*PRIVATE KEY-----)|\Z)",
        re.DOTALL,
    ),
    # password: | and its indented lines
    re.compile(
        rf"(?P<keep>^(?P<indent>[ \t]*)(?:- )?[\"']?{_NAME}[\"']?:[ \t]*[|>][-+\d]*[ \t]*\n)"
        r"(?:(?P=indent)[ \t]+[^\n]*(?:\n|\Z))+",
        re.IGNORECASE | re.MULTILINE,
    ),
)
_ANYWHERE = (
    # mysql+pymysql://nova:secret@127.0.0.1/nova. The password may have : / and @ in it, and there may be
    # several hosts, so all up to the last @ goes. http://host:80/path@x is an address with a port.
    re.compile(
        r"(?P<keep>\b(?:(?!https?:|git\+https?:)[a-z][a-z0-9+.-]*://[^\s/:@\"']*"
        r"|(?:git\+)?https?://[^\s/:@\"']*(?!:\d{1,5}/)):)[^\s\"<>]+(?=@)",
        re.IGNORECASE,
    ),
    # A token instead of user and password: https://ghp_0123456789abcdefghij@git.example.org/
    re.compile(r"(?P<keep>\b[a-z][a-z0-9+.-]*://)[\w-]{20,}(?=@)", re.IGNORECASE),
    # curl -u user:secret, ipmitool -P secret, sshpass -p secret
    re.compile(rf"(?P<keep>(?<!\S)(?:-u|--user|--proxy-user)[ =]+[\"']?[^\s:\"'=]+:){_WORD}"),
    re.compile(rf"(?P<keep>\bipmitool\b[^\n]*?\s-P\s*){_WORD}"),
    re.compile(rf"(?P<keep>\bsshpass\s+-p\s*){_WORD}"),
    # set password of nova to secret; the password is secret; with password secret; IDENTIFIED BY 'secret'
    re.compile(
        r"(?P<keep>\b(?:password|passphrase|passwd|secret|token)\b(?:\s+(?:of|for)\s+(?:(?:the\s+)?user\s+)?\S+)?"
        rf"\s+(?:(?:was\s+|is\s+)?(?:now\s+|re)?(?:set\s+|changed\s+)?to|is|was|=>)\s+)(?!{_PROSE.pattern}|set\b"
        rf"|changed\b|be\b|use\b|stored\b|used\b|rotated\b|empty\b|weak\b|short\b|needed\b|valid\b|ok\b){_WORD}",
        re.IGNORECASE,
    ),
    re.compile(
        r"(?P<keep>\b(?:with|using|by)\s+(?:the\s+)?(?:password|passphrase|secret|token)\s+)"
        rf"(?!{_PROSE.pattern}|authentication\b|auth\b|file\b){_WORD}",
        re.IGNORECASE,
    ),
    re.compile(
        # Alembic's "Can't locate revision identified by '1a2b'" names what is missing, and no password.
        r"(?P<keep>\b(?:password|passphrase|passwd|(?<!revision )identified\s+by)(?:\s+|\s*\(\s*))"
        r"(?:\"[^\"\n]+\"|'(?:''|\\.|[^'\n])+')",
        re.IGNORECASE,
    ),
    # Bearer and Basic without their header's name
    re.compile(r"(?P<keep>\bBearer\s+)(?=\S*\d)[\w.~+/=-]{8,}", re.IGNORECASE),
    re.compile(r"(?P<keep>\bBasic\s+)(?=\S*[\d=])[A-Za-z0-9+/]{8,}={0,2}"),
    # What is a secret by its own form: a JSON web token, a Fernet token, a hashed password
    re.compile(r"(?P<keep>)\beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?"),
    re.compile(r"(?P<keep>)\bgAAAAA[\w-]{20,}={0,2}"),
    re.compile(r"(?P<keep>)\$(?:1|2[aby]|5|6|y)\$[^\s:\"']{8,}"),
)


def redacted(text: str) -> str:
    """Return the text with what looks like a password, key, token or cookie replaced by `********`."""
    for pattern in _BLOCKS:
        text = pattern.sub(
            lambda found: f"{found['keep']}{MASK}\n" if "\n" in found[0] else _masked(found), text
        )
    lines, source = [], False
    for line in text.splitlines(keepends=True):
        lines.append(_line(line.rstrip("\r\n"), source=source) + line[len(line.rstrip("\r\n")) :])
        source = bool(_SOURCE.search(line))
    text = "".join(lines)
    for pattern in _ANYWHERE:
        text = pattern.sub(_masked, text)
    return text


def _masked(found: re.Match[str]) -> str:
    return f"{found['keep']}{MASK}"


def _line(line: str, *, source: bool) -> str:
    """Return a line without the values of names that are those of secrets.

    `source`: a traceback shows it as a line of a program, where only what is quoted can be a secret.
    """
    done, place = [], 0
    while found := _ASSIGNED.search(line, place):
        start = found.end()
        begin, end = _value(line, found, source=source)
        done.append(line[place:start])
        if begin < end and line[begin:end].strip(" \t,;)}]\"'\\").lower().strip("*") not in _NO_SECRET:
            done += [line[start:begin], MASK]
        else:
            done.append(line[start:end])
        place = end
    return "".join(done) + line[place:]


def _value(line: str, found: re.Match[str], *, source: bool) -> tuple[int, int]:
    """Return where the value of a name begins and ends; both are the same where it has none to hide."""
    start = found.end()
    if quoted := next((match for form in _QUOTED if (match := form.match(line, start))), None):
        tail = line[quoted.end() :].lstrip()
        whole = found["close"] or found["dashes"] or not _leads(line, found)
        if whole or not tail or tail[0] in ",;)}]#&|\\\"'":
            return _behind_scheme(line, quoted.start("value"), _end_in_shell(line, quoted))
        return start, len(line)
    if source:
        return start, start
    if found["dashes"]:
        return start, start if line.startswith("--", start) else _end_of(r"\S*", line, start)
    if found["close"]:
        return start, _end_in_json(line, start)
    return _unquoted(line, found)


def _unquoted(line: str, found: re.Match[str]) -> tuple[int, int]:
    """Return the place of a value without quotes: a word behind `name=`, else the rest of the line."""
    start, separator, leads = found.end(), found["separator"], _leads(line, found)
    if found["open"] and (closing := line.find(found["open"], start)) > 0:
        return _behind_scheme(line, start, closing)
    if not leads and separator == "=":
        return start, _end_of(r"\S*", line, start)
    if ":" in separator and not leads and found["name"].lower() in _BARE:
        before = line[: found.start()]
        if _SYNTAX.search(before) or (_SENTENCE.search(before) and _PROSE.match(line, start)):
            return start, start
    if re.match(r"\s*(?:yes|no)\b\W*$", line[start:], re.IGNORECASE):
        return start, start  # MySQL's "(using password: YES)"
    return _behind_scheme(line, start, len(line))


def _leads(line: str, found: re.Match[str]) -> bool:
    """Tell whether the name is the first thing in its line, as in a file of settings."""
    return line[: found.start()].strip(" \t-") in {"", "export"}


def _end_in_shell(line: str, quoted: re.Match[str]) -> int:
    """Return where a quoted value ends; a shell writes a quote within one as '"'"'."""
    end = quoted.end()
    while line.startswith("\"'\"'", end):
        closing = line.find("'", end + 4)
        end = closing + 1 if closing > 0 else len(line)
    return quoted.end("value") if end == quoted.end() else end


def _end_in_json(line: str, start: int) -> int:
    """Return where a value ends that is no text; an object's content has names of its own."""
    if line.startswith("{", start):
        return start
    if line.startswith("[", start):
        closing = line.find("]", start)
        return closing if closing > 0 else len(line)
    return _end_of(r"[^,}\]\s]*", line, start)


def _behind_scheme(line: str, begin: int, end: int) -> tuple[int, int]:
    """Return the place of a value without the word before it that says what kind it is: `Basic`."""
    scheme = _SCHEME.match(line, begin, end)
    return (min(scheme.end(), end), end) if scheme else (begin, end)


def _end_of(pattern: str, line: str, start: int) -> int:
    found = re.compile(pattern).match(line, start)
    return found.end() if found else start
