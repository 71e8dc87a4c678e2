"""Takes secrets out of text before it is kept or shown: a ledger, a page, a tag or a log outlives the secret's guard.

Secrets belong into the process's environment and nowhere else. They come into texts by way of errors that quote an
address, and of comments and commands that people write.
"""

from __future__ import annotations

import os
import re

HIDDEN = "***"
SHORTEST = 8  # of a secret in the environment; what is shorter would be taken out of words

_WORDS = r"pass(?:word|wd|phrase)|secret|token|credentials?|api[_-]?key|access[_-]?key|private[_-]?key"
_NAME = re.compile(rf"(?i)(?:^|[_-])(?:{_WORDS}|pass|key)(?:$|[_-])")
_USERINFO = re.compile(r"(://)[^/\s'\"]*@")
_QUERY = re.compile(rf"(?i)([?&](?:user|username|pass|{_WORDS})=)[^&\s'\"]*")
_SAID = re.compile(rf"(?i)\b([\w-]*(?:{_WORDS})\s*[=:]\s*['\"]?)[^\s'\"&,;]{{6,}}")
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}")
_AWS = re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b")


def is_secret(name: str) -> bool:
    """Whether a variable's name says that its value is one."""
    return _NAME.search(name) is not None


def redact(text: str) -> str:
    """The text without user names and passwords of addresses, without what it calls a secret, and without the values of
    this process's environment variables whose names say that they are secrets."""
    for value in _environment():
        text = text.replace(value, HIDDEN)
    text = _USERINFO.sub(rf"\1{HIDDEN}@", text)
    text = _QUERY.sub(rf"\1{HIDDEN}", text)
    text = _SAID.sub(rf"\1{HIDDEN}", text)
    text = _BEARER.sub(rf"\1 {HIDDEN}", text)
    return _AWS.sub(HIDDEN, text)


def _environment() -> list[str]:
    """Longest first: one secret may begin another one."""
    found = {value for name, value in os.environ.items() if len(value) >= SHORTEST and is_secret(name)}
    return sorted(found, key=len, reverse=True)
