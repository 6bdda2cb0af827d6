#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every test that the threat model names is there: named_tests_test.py SOURCE. A star stands for any."""
import pathlib
import re
import sys


def tests_of(source):
    """`Suite.Name` of every GoogleTest in the sources, and the names that CMake gives."""
    names = set()
    for path in (source / "tests").rglob("*.cpp"):
        for suite, name in re.findall(r"^TEST(?:_F|_P)?\((\w+),\s*(\w+)\)", path.read_text(), re.M):
            names.add(f"{suite}.{name}")
    for path in (source / "tests").rglob("CMakeLists.txt"):
        text = path.read_text()
        names.update(re.findall(r"NAME ([\w.]+)", text))
        names.update(f"Packaging.{name}" for name in re.findall(r"holdfast_packaging_test\((\w+) ", text))
    return names


def main():
    source = pathlib.Path(sys.argv[1])
    known = tests_of(source)
    text = (source / "docs" / "threat-model.md").read_text()
    # `Prefix/Suite.Name`: the prefix belongs to the values that the test runs with.
    named = re.findall(r"`(?:\w+/)?([A-Z]\w+\.(?:[A-Z]\w+|\*))`", text)
    missing = [name for name in named if not any(re.fullmatch(name.replace(".", r"\.").replace("*", ".*"), k) for k in known)]
    print("\n".join(f"FAILED: docs/threat-model.md names {name}, which is not there" for name in missing) or
          f"{len(named)} names, all there")
    return 1 if missing or not named else 0


if __name__ == "__main__":
    sys.exit(main())
