#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Does a library have the SONAME and export exactly the symbols of libholdfast.so.1.symbols? exported_symbols.py LIBRARY

A new function gets a line in that list. A line never goes and never changes while the SONAME is libholdfast.so.1: programs
were linked against it. Status 0: yes; 1: no, and what differs; 77: not run.
"""
import pathlib
import re
import shutil
import subprocess
import sys

LIST = pathlib.Path(__file__).with_name("libholdfast.so.1.symbols")


def output(*command):
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


def exported(library):
    symbols = set()
    for line in output("nm", "-D", "--defined-only", library).splitlines():
        kind, name = line.split()[-2:]
        if kind != "A":  # the version itself
            symbols.add(name)
    return symbols


def main():
    if not shutil.which("nm") or not shutil.which("readelf"):
        print("not_run: nm and readelf (binutils) are not installed")
        return 77
    library = sys.argv[1]
    soname = re.search(r"\(SONAME\).*\[(.*)\]", output("readelf", "-dW", library))
    wrong = [] if soname and soname.group(1) == LIST.stem else [f"the SONAME is not {LIST.stem}"]
    listed, found = set(LIST.read_text().split()), exported(library)
    wrong += [f"{name} is gone: programs that use it do not start any more" for name in sorted(listed - found)]
    wrong += [f"{name} is new: add it to {LIST.name}" for name in sorted(found - listed)]
    print("\n".join(wrong) if wrong else f"{len(found)} symbols, as listed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
