#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every timed wait is on the monotonic clock, so that nobody who sets the time ends one or prolongs it.

timed_waits.py sources             in the root of the checkout: what C, C++ and Python files call
timed_waits.py binaries FILE...    what libraries and programs take from others (nm)

Prints each offence with file and line, then how many waits there are. Status 0: no offence; 1: some, or no wait was found
at all; 77: not run.
"""
import pathlib
import re
import shutil
import subprocess
import sys

import tidy

# Calls that are told by which clock they go, and with which argument; each must be a monotonic one, by its name.
CLOCK_ARGUMENT = {"sem_clockwait": 1, "clock_nanosleep": 0, "timerfd_create": 0, "timer_create": 0,
                  "pthread_cond_clockwait": 2, "pthread_mutex_clocklock": 1, "pthread_rwlock_clockrdlock": 1,
                  "pthread_rwlock_clockwrlock": 1, "pthread_condattr_setclock": 1}
MONOTONIC = {"CLOCK_MONOTONIC", "CLOCK_MONOTONIC_COARSE", "CLOCK_MONOTONIC_RAW", "CLOCK_BOOTTIME"}

# Waits for so long, by a clock that nobody sets: poll() and its kind, and what goes by std::chrono::steady_clock.
RELATIVE = re.compile(r"(?:\b(?:poll|ppoll|epoll_wait|epoll_pwait2?|nanosleep)\s*\("
                      r"|(?:\.|->|::)(?:wait_for|try_lock_for|sleep_for|expires_after)\s*\(|\bsteady_timer\s+\w+[({;])")

# Calls that wait by the wall clock, and readings of it. Where nothing reads it nothing can wait until it says something.
# std::chrono::high_resolution_clock is the wall clock here.
WALL_CLOCK = (
    (re.compile(r"\b(?:sem_timedwait|pthread_cond_timedwait|pthread_mutex_timedlock|pthread_rwlock_timed(?:rd|wr)lock"
                r"|mq_timed(?:send|receive)|thrd_sleep|cnd_timedwait|mtx_timedlock)\b"), "waits by the wall clock"),
    (re.compile(r"\bFUTEX_CLOCK_REALTIME\b"), "waits by the wall clock"),
    (re.compile(r"\b(?:system_clock|high_resolution_clock|utc_clock|tai_clock|system_timer|deadline_timer)\b"),
     "is the wall clock"),
    (re.compile(r"\bCLOCK_(?:REALTIME(?:_COARSE|_ALARM)?|TAI)\b"), "is the wall clock"),
    (re.compile(r"\b(?:gettimeofday|timespec_get|ftime)\s*\("), "reads the wall clock"),
    (re.compile(r"(?<![\w.>])(?:std::|::)?time\s*\(\s*(?:nullptr|NULL|0|&\s*\w+)\s*\)"), "reads the wall clock"),
)
PYTHON_WALL_CLOCK = re.compile(r"\btime\.time(?:_ns)?\s*\(|\bdatetime\.(?:datetime\.)?(?:now|utcnow|today)\s*\(")

# Where the wall clock is right, with the reason. A line that is not there any more is an offence, too.
ALLOWED = {
    ("tests/soak/wait_job.cpp", "CLOCK_REALTIME"): "sees whether the clock that it is given steps; waits for nothing by it",
}

# What a shared library or program must not take from another one.
FORBIDDEN_SYMBOLS = {"sem_timedwait", "pthread_cond_timedwait", "pthread_mutex_timedlock", "pthread_rwlock_timedrdlock",
                     "pthread_rwlock_timedwrlock", "mq_timedsend", "mq_timedreceive", "cnd_timedwait", "mtx_timedlock"}
# What waits, and may: of these the count is made.
WAITING_SYMBOLS = {"poll", "ppoll", "epoll_wait", "epoll_pwait", "timerfd_create", "sem_clockwait", "clock_nanosleep",
                   "nanosleep", "pthread_cond_clockwait", "pthread_mutex_clocklock"}


def without_comments(text):
    """The same lines, with comments and string literals blanked."""
    pattern = r"""//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])'"""
    return re.sub(pattern, lambda found: re.sub(r"[^\n]", " ", found.group()), text, flags=re.S)


def arguments(text, begin):
    """What stands between the parenthesis before `begin` and its partner, split at the commas between them."""
    depth, parts, last = 1, [], begin
    for at in range(begin, len(text)):
        if text[at] in "([{":
            depth += 1
        elif text[at] in ")]}":
            depth -= 1
        if depth == 0 or (depth == 1 and text[at] == ","):
            parts.append(text[last:at].strip())
            last = at + 1
        if depth == 0:
            break
    return parts


def line_of(text, at):
    return text.count("\n", 0, at) + 1


def told_waits(text):
    """(line, call, its clock) of each call that is told by which clock it waits."""
    for name, place in CLOCK_ARGUMENT.items():
        for found in re.finditer(rf"\b{name}\s*\(", text):
            given = arguments(text, found.end())
            yield line_of(text, found.start()), name, given[place] if place < len(given) else ""


def in_source(path, text):
    """(offences, number of waits, allowances that were used) of one C or C++ file."""
    offences, waits, used = [], len(RELATIVE.findall(text)), set()
    for line, name, clock in told_waits(text):
        waits += 1
        if clock not in MONOTONIC:
            offences.append(f"{path}:{line}: {name}: '{clock}' is not monotonic by its name")
    for pattern, reason in WALL_CLOCK:
        for found in pattern.finditer(text):
            if (path.as_posix(), found.group()) in ALLOWED:
                used.add((path.as_posix(), found.group()))
            else:
                offences.append(f"{path}:{line_of(text, found.start())}: {found.group()}: {reason}")
    return offences, waits, used


def sources(root):
    """(offences, number of waits) of a tree."""
    offences, waits, used = [], 0, set()
    for path in tidy.files(root):
        if path.parts[:2] == ("tests", "tidy"):
            continue
        text = (root / path).read_text(errors="replace") if path.suffix in tidy.SOURCE | {".py"} else ""
        if path.suffix == ".py":
            offences += [f"{path}:{line_of(text, found.start())}: {found.group()}: reads the wall clock"
                         for found in PYTHON_WALL_CLOCK.finditer(text)]
        elif text:
            more, count, here = in_source(path, without_comments(text))
            offences += more
            waits += count
            used |= here
    offences += [f"{path}: {what} is allowed here, and is not here" for path, what in ALLOWED
                 if (path, what) not in used and (root / path).parent.is_dir()]
    return offences, waits


def undefined_symbols(path):
    program = shutil.which("nm")
    if not program:
        raise tidy.NotRun("nm is not installed")
    run = subprocess.run([program, "-D", "--undefined-only", path], check=True, text=True, stdout=subprocess.PIPE)
    return {line.split()[-1].split("@")[0] for line in run.stdout.splitlines()}


def in_binary(path, symbols):
    """(offences, number of calls that wait) of what one file takes from others."""
    offences = [f"{path}: takes {symbol}, which waits by the wall clock" for symbol in sorted(FORBIDDEN_SYMBOLS & symbols)]
    return offences, len(WAITING_SYMBOLS & symbols)


def binaries(paths):
    offences, waits = [], 0
    for path in paths:
        more, count = in_binary(path, undefined_symbols(path))
        offences += more
        waits += count
    return offences, waits


def main():
    if sys.argv[1:] != ["sources"] and (len(sys.argv) < 3 or sys.argv[1] != "binaries"):
        print("usage: timed_waits.py sources | binaries FILE...")
        return 2
    try:
        offences, waits = sources(pathlib.Path.cwd()) if sys.argv[1] == "sources" else binaries(sys.argv[2:])
    except tidy.NotRun as reason:
        print(f"not_run: {reason}")
        return 77
    print("\n".join(offences) if offences else "nothing found")
    print(f"{waits} timed waits")
    return 1 if offences or waits == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
