"""How a suite says what it found: one line a check, and questions to whoever runs it.

Lines on standard output: `client NAME VERSION`, `ok CHECK`, `failed CHECK: WHY`, `ask QUESTION`. The answer to a question is one
line on standard input. The questions: `kill` and `start` (the first server), `sizes` (the number of keys of each server).
"""

import asyncio
import os
import sys
import time
import traceback

host, port = os.environ.get("OUTRIGGER_ADDRESS", "127.0.0.1:6379").rsplit(":", 1)
port = int(port)
servers = int(os.environ.get("OUTRIGGER_SERVERS", "1"))
# What takes longer hangs.
PATIENCE = 15

_failures = 0


def say(line):
    print(line, flush=True)


def ask(question):
    say(f"ask {question}")
    return sys.stdin.readline().strip()


def _finish(name, error=None):
    global _failures
    if error is None:
        say(f"ok {name}")
        return
    _failures += 1
    last = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in last if "site-packages" not in frame.filename] or last
    say(f"failed {name}: {type(error).__name__} {error} (line {own[-1].lineno})".replace("\n", " "))


def run(client, version, checks, *arguments):
    """Calls each check, which fails by raising; its name is what it shows. A coroutine has a limit of time of its own."""
    say(f"client {client} {version}")
    for check in checks:
        try:
            check(*arguments)
            _finish(check.__name__)
        except Exception as error:
            _finish(check.__name__, error)
    sys.exit(1 if _failures else 0)


async def run_async(client, version, checks, *arguments):
    say(f"client {client} {version}")
    for check in checks:
        try:
            await asyncio.wait_for(check(*arguments), 2 * PATIENCE)
            _finish(check.__name__)
        except Exception as error:
            _finish(check.__name__, error)
    return 1 if _failures else 0


def equal(got, expected):
    assert got == expected, f"got {got!r}, expected {expected!r}"


def raises(kind, text, action, *arguments, **named):
    try:
        got = action(*arguments, **named)
    except kind as error:
        assert text in str(error), f"{error!r} does not say {text!r}"
        return
    raise AssertionError(f"no {kind.__name__} but {got!r}")


def eventually(what, look):
    """Looks until there is something; an error of the library is nothing."""
    last = None
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            found = look()
            if found:
                return found
        except Exception as error:
            last = error
        time.sleep(0.02)
    raise AssertionError(f"waited in vain for {what}; the last error was {type(last).__name__} {last}")


async def eventually_async(what, look):
    last = None
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            found = await look()
            if found:
                return found
        except Exception as error:
            last = error
        await asyncio.sleep(0.02)
    raise AssertionError(f"waited in vain for {what}; the last error was {type(last).__name__} {last}")


def sizes_are_spread():
    sizes = [int(size) for size in ask("sizes").split()]
    assert len(sizes) == servers and min(sizes) > 0, f"keys of each server: {sizes}"
