#!/usr/bin/env python3
"""Writes the dashboards, overview.json and its siblings, from source/. With --check it only says whether they are up to date."""

import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE / "source"))

import overview, pool, runtime, server  # noqa: E402, E401


def main():
    stale = []
    for module in (overview, pool, server, runtime):
        file = HERE / f"{module.__name__}.json"
        text = json.dumps(module.DASHBOARD, indent=2, ensure_ascii=False) + "\n"
        if not file.exists() or file.read_text() != text:
            stale.append(file.name)
            if "--check" not in sys.argv:
                file.write_text(text)
    if stale and "--check" in sys.argv:
        sys.exit(f"not what source/ says: {', '.join(stale)}; run dashboards/build.py")


main()
