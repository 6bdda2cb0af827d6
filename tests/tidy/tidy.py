#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Rules of the house that a program can check: tests/tidy/tidy.py CHECK, in the root of the checkout.

Each check is a function of the root that yields one line per offence. Status 0: none; 1: some, printed; 77: not run.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys

SOURCE = {".c", ".cc", ".cpp", ".h", ".hpp"}
SCRIPT = {".py", ".sh", ".cmake", ".in", ".toml", ".service", ".socket", ".yml"}
SKIPPED_FOLDERS = {"build", ".git", ".cache", "__pycache__", "shared"}


class NotRun(Exception):
    pass


def files(root):
    for folder, names, found in os.walk(root):
        names[:] = sorted(name for name in names if name not in SKIPPED_FOLDERS)
        for name in sorted(found):
            path = pathlib.Path(folder, name)
            if not path.is_symlink():
                yield path.relative_to(root)


def lines(root, path):
    return (root / path).read_text(errors="replace").splitlines()


def is_script(root, path):
    return path.name in ("CMakeLists.txt", "Dockerfile", "Makefile") or path.suffix in SCRIPT or (
        path.suffix == "" and (root / path).read_bytes()[:2] == b"#!")


# From which folder which include is not allowed, and why. proto <- client, proto <- daemon, and nothing else.
FORBIDDEN_INCLUDES = (
    ("proto/", r"(client|daemon|bench|tests)/|holdfast/", "proto depends on nobody"),
    ("proto/shm/", r"proto/control/|boost/|nlohmann/|spdlog/|sqlite|openssl/|CLI/|iostream|fstream|thread>|mutex>|"
                   r"condition_variable>|memory>|string>|vector>|map>|functional>|stdexcept>",
     "proto/shm links nothing, allocates nothing and throws nothing"),
    ("client/", r"daemon/", "client never sees the daemon"),
    ("daemon/", r"client/|holdfast/", "the daemon never sees the client"),
    ("daemon/broker/", r"boost/|spdlog/|sqlite|sys/|unistd|chrono>|thread>|mutex>", "the state machine has no system below it"),
    ("examples/", r"(client|daemon|proto|bench|tests)/", "examples see what is installed"),
)


def include_arrow(root):
    for path in files(root):
        if path.suffix not in SOURCE:
            continue
        for number, line in enumerate(lines(root, path), 1):
            include = re.match(r'\s*#\s*include\s*[<"]([^>"]+[>"])', line)
            if not include:
                continue
            for folder, pattern, reason in FORBIDDEN_INCLUDES:
                if path.as_posix().startswith(folder) and re.match(pattern, include.group(1)):
                    yield f"{path}:{number}: includes {include.group(1)[:-1]}: {reason}"


BANNED_FILE_NAMES = {"common", "core", "base", "misc", "helper", "helpers", "util", "utils"}
BANNED_TYPE = re.compile(r"\b(?:class|struct|enum(?: class)?)\s+(?:\[\[\w+\]\]\s*)?([A-Z]\w*(?:Manager|Handler|Helper|Impl|Info))\b")
# Another word for something that has one, or a note instead of the work.
BANNED_WORDS = {
    r"\b(?:TODO|FIXME|XXX|HACK)\b": "do it, or leave it out",
    r"\bholdfast server\b|\bserver process\b": "broker",
    r"\bconsumer group\b": "queue",
    r"\bshared buffer\b|\bshm buffer\b": "chunk",
    r"\brefcount(?:s|ed)?\b|\bref count\b": "pin",
}


def banned_words(root):
    for path in files(root):
        if path.parts[:2] == ("tests", "tidy"):
            continue
        if path.stem in BANNED_FILE_NAMES or BANNED_FILE_NAMES & set(path.parts[:-1]):
            yield f"{path}: the name says nothing: name what it does"
        if path.suffix not in SOURCE | {".md", ".py"} and not is_script(root, path):
            continue
        for number, line in enumerate(lines(root, path), 1):
            found = BANNED_TYPE.search(line) if path.suffix in SOURCE else None
            if found:
                yield f"{path}:{number}: {found.group(1)}: name what it does"
            for pattern, instead in BANNED_WORDS.items():
                found = re.search(pattern, line)
                if found:
                    yield f"{path}:{number}: '{found.group()}': {instead}"


def spdx_lines(root):
    for path in files(root):
        if path.suffix in SOURCE or is_script(root, path):
            head = lines(root, path)[:2]
            if not any("SPDX-License-Identifier: MIT" in line for line in head):
                yield f"{path}: no SPDX line among the first two"


def next_sources(root):
    """What depends on HOLDFAST_NEXT is what cmake/next.cmake compiles once more, and no header does."""
    listed = set(re.findall(r"\$\{PROJECT_SOURCE_DIR\}/(\S+\.cpp)", (root / "cmake/next.cmake").read_text()))
    for path in files(root):
        name = path.as_posix()
        if path.suffix not in SOURCE or not name.startswith(("proto/", "daemon/", "client/src/")):
            continue
        depends = re.search(r'#include "proto/control/versions\.hpp"|\bHOLDFAST_NEXT\b', (root / path).read_text())
        if depends and path.suffix == ".hpp" and name != "proto/control/versions.hpp":
            yield f"{path}: a header that depends on HOLDFAST_NEXT: everything that includes it would be compiled twice"
        elif depends and path.suffix == ".cpp" and name not in listed:
            yield f"{path}: depends on HOLDFAST_NEXT and is not in cmake/next.cmake"
        elif not depends and name in listed:
            yield f"{path}: is in cmake/next.cmake and does not depend on HOLDFAST_NEXT"


def links(text):
    """Targets of Markdown links that are files here, without their fragments."""
    text = re.sub(r"```.*?```", "", text, flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        target = target.split("#")[0]
        if target and not re.match(r"[a-z]+:", target):
            yield target


def documents_reachable(root):
    start = pathlib.Path("README.md")
    if not (root / start).is_file():
        yield "README.md: is not there"
        return
    reached, open_ = {start}, [start]
    while open_:
        path = open_.pop()
        for target in links((root / path).read_text()):
            found = pathlib.Path(os.path.normpath(path.parent / target))
            if not (root / found).exists():
                yield f"{path}: the link to {target} leads nowhere"
            elif (root / found).is_dir():
                for inside in sorted((root / found).glob("*.md")):
                    inside = inside.relative_to(root)
                    if inside not in reached:
                        reached.add(inside)
                        open_.append(inside)
            elif found.suffix == ".md" and found not in reached:
                reached.add(found)
                open_.append(found)
    for path in files(root):
        if path.suffix == ".md" and path not in reached:
            yield f"{path}: cannot be reached from README.md"


def clang_format(root):
    program = shutil.which("clang-format-19")
    if not program:
        raise NotRun("clang-format-19 is not installed (scripts/setup-debian test)")
    sources = [str(path) for path in files(root) if path.suffix in SOURCE]
    if sources:
        run = subprocess.run([program, "--dry-run", "-Werror", "--style=file", *sources], cwd=root, text=True,
                             stderr=subprocess.PIPE)
        yield from sorted({line for line in run.stderr.splitlines() if "error:" in line})


CHECKS = {check.__name__: check for check in (include_arrow, banned_words, spdx_lines, next_sources, documents_reachable,
                                           clang_format)}


def main():
    if len(sys.argv) != 2 or sys.argv[1] not in CHECKS:
        print(f"usage: tidy.py {'|'.join(CHECKS)}")
        return 2
    try:
        offences = list(CHECKS[sys.argv[1]](pathlib.Path.cwd()))
    except NotRun as reason:
        print(f"not_run: {reason}")
        return 77
    print("\n".join(offences) if offences else "nothing found")
    return 1 if offences else 0


if __name__ == "__main__":
    sys.exit(main())
