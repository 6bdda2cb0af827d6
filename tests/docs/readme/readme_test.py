#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs README.md: readme_test.py SOURCE BUILD

In a tree of its own, whose `build/release` is BUILD, with a HOME, a runtime directory and an instance of its own:

- every block ```sh is pasted, in order, into one shell that ends at the first failure. A block after a line `<!-- by hand: reason -->`
  is not; there each program that it names in scripts/ must exist.
- every block ```cpp or ```c is, word for word, in the file of examples/readme that its first comment names.
- a block ```text shows what the last program of the block before it prints; `...` stands for anything.
"""
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile

BLOCK = re.compile(r"(<!-- by hand: (?P<reason>.+?) -->\n+)?```(?P<kind>\w+)\n(?P<text>.*?)```", re.S)
MARK = "=== block"


def matches(shown, printed):
    """Are the lines of `shown` in `printed`, one after the other? `...` stands for anything."""
    pattern = "\n".join(re.escape(line.rstrip()) for line in shown.strip("\n").splitlines()).replace(r"\.\.\.", ".*?")
    return re.search(pattern, "\n".join(line.rstrip() for line in printed.splitlines()), re.S)


def tree_for(source, build, work):
    """A checkout made of links, with the build where scripts/demo puts it."""
    tree = work / "holdfast"
    (tree / "build").mkdir(parents=True)
    for entry in source.iterdir():
        if entry.name not in ("build", ".git"):
            (tree / entry.name).symlink_to(entry)
    (tree / "build" / "release").symlink_to(build)
    return tree


def listing_errors(source, blocks):
    for block in blocks:
        if block["kind"] not in ("cpp", "c"):
            continue
        lines = block["text"].splitlines()
        name = re.search(r"[\w/]+\.\w+", lines[0])
        if not name:
            yield f"a block of {block['kind']} does not name its file in its first line: {lines[0]}"
        elif "\n".join(lines[1:]).strip("\n") not in (source / name.group()).read_text():
            yield f"the listing of {name.group()} differs from the file"


def by_hand_errors(source, blocks):
    for block in blocks:
        if block["kind"] == "sh" and block["reason"]:
            for script in re.findall(r"\bscripts/\w+", block["text"]):
                if not os.access(source / script, os.X_OK):
                    yield f"{script} is not there"


def run_blocks(tree, work, blocks):
    """(status, {index of block: what it printed})"""
    script = ["set -eu", "trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT"]
    for index, block in enumerate(blocks):
        if block["kind"] == "sh" and not block["reason"]:
            script += [f"echo '{MARK} {index}'", block["text"]]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HOLDFAST_")}
    environment.update(HOME=str(work / "home"), XDG_RUNTIME_DIR=str(work / "run"),
                       HOLDFAST_INSTANCE=f"readme-{os.getpid()}")
    shell = subprocess.Popen(["bash", "-c", "\n".join(script)], cwd=tree, env=environment, text=True, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        output, _ = shell.communicate(timeout=100)
    except subprocess.TimeoutExpired:
        os.killpg(shell.pid, signal.SIGKILL)
        output, _ = shell.communicate()
        output += "\nthe time is over"
    print(output)
    pieces = re.split(rf"^{MARK} (\d+)$", output, flags=re.M)
    return shell.returncode, {int(pieces[i]): pieces[i + 1] for i in range(1, len(pieces), 2)}


def main():
    source, build = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
    blocks = [match.groupdict() for match in BLOCK.finditer((source / "README.md").read_text())]
    errors = list(listing_errors(source, blocks)) + list(by_hand_errors(source, blocks))
    work = pathlib.Path(tempfile.mkdtemp(prefix="holdfast-readme-"))
    try:
        for folder in ("home", "run"):
            (work / folder).mkdir(mode=0o700)
        status, printed = run_blocks(tree_for(source, build, work), work, blocks)
        if status != 0:
            errors.append(f"the commands end with status {status}")
        for index, block in enumerate(blocks):
            if block["kind"] == "text" and not matches(block["text"], printed.get(index - 1, "")):
                errors.append("not printed, but shown:\n" + block["text"])
        left = list(pathlib.Path("/dev/shm").glob(f"holdfast.readme-{os.getpid()}.*"))
        if left:
            errors.append(f"left in /dev/shm: {left}")
        for path in left:
            path.unlink()
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print("\n".join(f"FAILED: {error}" for error in errors) or "ok")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
