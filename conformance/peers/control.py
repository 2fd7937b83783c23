"""How the tests speak with the peers in Python.

The script listens on loopback for control connections and prints "ready PORT VERSION". Each control connection is a session of its
own: a line "command?name=value&..", URL-encoded, gets a line "ok?.." or "error?message=..". The script ends with its standard
input, so with the tests, however these end.
"""

import hashlib
import urllib.parse

# How long anything may take.
TIME = 60.0


def decode(line):
    """The command of a line and its fields."""
    command, _, query = line.decode().rstrip("\n").partition("?")
    return command, dict(urllib.parse.parse_qsl(query, keep_blank_values=True))


def answer(fields):
    """The line that says that a command was done."""
    return ("ok?" + urllib.parse.urlencode(fields or {}) + "\n").encode()


def failure(error):
    """The line that says why it was not."""
    message = f"{type(error).__name__}: {error}"
    return ("error?" + urllib.parse.urlencode({"message": message}) + "\n").encode()


def names(field):
    """The members of a list: one to a line."""
    return field.split("\n") if field else []


def sha256(data):
    """The hash that the other side compares."""
    return hashlib.sha256(data).hexdigest()


def output(stdout, stderr, sent, **fields):
    """What a command left behind. Long output is told by its hash only."""
    return {
        "stdout": stdout[:1000].decode("latin-1"),
        "stdout_len": len(stdout),
        "stdout_sha256": sha256(stdout),
        "stderr": stderr[:1000].decode("latin-1"),
        "stderr_len": len(stderr),
        "sent_sha256": sha256(sent),
        **fields,
    }
