"""How the tests speak with a program that acts with a peer: as a client, or as a server.

The program listens on loopback for control connections and prints "ready PORT VERSION". Each control connection is a session of its
own: a line "command?name=value&..", URL-encoded, gets a line "ok?.." or "error?message=..". Lists have one member to a line, and
lists of lists tabs within their lines. The program ends with its standard input, so with the tests, however these end.

A client: `connect` (port, pinned: the host keys to take, user; methods, and password, new_password, key, answers for them; kex, host_key, cipher,
mac, signature: the one algorithm to have), then `exec`, `direct`, `listen`, `cancel`, `rekey`, `negotiated`.

A server: `serve` (host_keys; none, keys, password, new_password, rounds and factors as OurServer's accounts have them; kex, ..), then
`rekey` and `negotiated` about its newest connection.
"""

import hashlib
import urllib.parse

# How long anything may take.
TIME = 60.0

USER = "tester"


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


def members(field):
    """The members of a list."""
    return field.split("\n") if field else []


def rows(field):
    """The members of a list of lists; a line may be empty, and then so is its list."""
    return [line.split("\t") if line else [] for line in field.split("\n")]


def sha256(data):
    """The hash that the other side compares."""
    return hashlib.sha256(data).hexdigest()


def output(stdout, stderr, sent, status, signal=""):
    """What a command left behind. What is long is told by its hash only."""
    return {
        "stdout": stdout[:1000].decode("latin-1"),
        "stdout_sha256": sha256(stdout),
        "stderr": stderr[:1000].decode("latin-1"),
        "stderr_len": len(stderr),
        "sent_sha256": sha256(sent),
        "status": status,
        "signal": signal,
    }


class Accounts:
    """Who may log in on a server, and how. Every user name is the same to it, and nobody has logged in yet."""

    def __init__(self, none="", keys="", password="", new_password="", rounds="", factors=""):
        self.none = none
        self.keys = members(keys)
        self.password = password
        self.new_password = new_password
        # Of each round: the name, the instruction, the prompts with whether they are shown, and the right answers.
        self.rounds = [
            (row[0], row[1], [(text, echo == "1") for text, echo in zip(row[2::3], row[3::3])], row[4::3])
            for row in (rows(rounds) if rounds else [])
        ]
        self.factors = members(factors)
        offered = {
            "none": none,
            "publickey": self.keys,
            "password": password,
            "keyboard-interactive": self.rounds,
        }
        self.methods = [method for method, has in offered.items() if has and method != "none"]
