#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The demonstration behind scripts/demo: real data from one process to several others, past the death of any of them.

It starts a private broker, three subscribers that compute SHA-256 of what they are given where it lies, a fourth that is
there to be killed, and publishers; kills what it says it kills; and checks each line of the summary at the end. Status 0:
every line is true. 1: one is not. 130: interrupted.

Who may be interrupted when: signals only set a flag, which every wait looks at. All processes are children with sessions
of their own (the terminal's Ctrl-C reaches this program only) and die with it; whatever happens, close() ends them by
their pids, then removes what is left of this instance in /dev/shm, and the private runtime directory.
"""
import os
import signal

# Until there is something to put away, Ctrl-C just ends us.
signal.signal(signal.SIGINT, lambda number, frame: os._exit(130))

import argparse
import collections
import ctypes
import hashlib
import json
import selectors
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time

MIB = 1 << 20
TOTAL_BYTES = 1 << 30          # how much is published, at most
AFTER_DEATH_BYTES = 64 * MIB   # how much more flows without a broker
FILE_BYTES_MAX = 96 * MIB      # a larger file is left out: the range is "0 bytes to tens of MiB"
PINS_GONE_MS = 100
TREES = ("/usr/lib", "/usr/share")
SHM = "/dev/shm"
TOPIC = "demo/files"
PR_SET_PDEATHSIG = 1


class Interrupted(Exception):
    pass


class Broken(Exception):
    """Something went so wrong that the rest makes no sense."""


def die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Child:
    """A process of ours. Its output comes through Demo.wait_for(), split at NUL (stdout) and at line ends (stderr)."""

    def __init__(self, name, command, environment, stdin=subprocess.DEVNULL):
        self.name = name
        self.process = subprocess.Popen(
            command, env=environment, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True, preexec_fn=die_with_parent)
        self.pid = self.process.pid
        self.pieces = {self.process.stdout: b"", self.process.stderr: b""}
        self.to_write = b""
        self.close_when_written = False
        self.expected_to_end = False
        self.said = []  # lines of stderr

    def end(self, number):
        if self.process.poll() is None:
            self.process.send_signal(number)


class Publisher(Child):
    """publish_files: is fed paths on stdin, says `loan open` when it was asked to keep one."""

    def __init__(self, name, program, environment, subscribers, keep_loan=False):
        arguments = [program, TOPIC, str(subscribers)] + (["keep-a-loan"] if keep_loan else [])
        super().__init__(name, arguments, environment, subprocess.PIPE)
        self.given = []

    def give(self, files, close):
        self.given += files
        self.to_write += b"".join(os.fsencode(file.path) + b"\0" for file in files)
        self.close_when_written = close


class Subscriber(Child):
    """sha256_files: says `digest  path` for every sample and `aborted: …` or `finished: …` for every ended publisher."""

    def __init__(self, name, program, environment):
        super().__init__(name, [program, TOPIC], environment)
        self.digests = []  # (path, digest), in the order of arrival
        self.bytes = 0


File = collections.namedtuple("File", "path bytes")


def choose_files(bytes_max, look_up):
    """Every regular file of the trees, in an order that is the same at each run and mixes both, while the total allows.
    Calls look_up() now and then."""
    found, larger, unreadable = [], 0, 0
    for tree in TREES:
        for folder, _, names in os.walk(tree):
            look_up()
            for name in names:
                path = os.path.join(folder, name)
                try:
                    status = os.lstat(path)
                except OSError:
                    continue
                if not stat.S_ISREG(status.st_mode):
                    continue
                if not os.access(path, os.R_OK):
                    unreadable += 1
                elif status.st_size > bytes_max:
                    larger += 1
                else:
                    found.append(File(path, status.st_size))
    found.sort(key=lambda file: hashlib.blake2b(os.fsencode(file.path), digest_size=8).digest())
    chosen, total = [], 0
    for file in found:
        if total + file.bytes <= TOTAL_BYTES:
            chosen.append(file)
            total += file.bytes
    return chosen, len(found) - len(chosen), larger, unreadable


def split_in_half(files):
    """At the file where half of the bytes are reached."""
    half, sum_bytes = sum(file.bytes for file in files) // 2, 0
    for index, file in enumerate(files):
        sum_bytes += file.bytes
        if sum_bytes >= half:
            return files[:index + 1], files[index + 1:]
    return files, []


def readable(count):
    return f"{count / MIB:,.1f} MiB"


class Demo:
    def __init__(self, build):
        self.bin = {name: os.path.join(build, path) for name, path in
                    (("holdfastd", "daemon/holdfastd"), ("publish", "examples/publish_files"),
                     ("subscribe", "examples/sha256_files"), ("hold", "examples/hold_views"))}
        for program in self.bin.values():
            if not os.access(program, os.X_OK):
                raise Broken(f"{program} is not there: build the preset release first (scripts/demo does)")
        self.stop = False
        self.selector = selectors.DefaultSelector()
        self.wake_read, self.wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)
        self.selector.register(self.wake_read, selectors.EVENT_READ, None)
        self.children = []
        self.results = []
        self.control = None
        self.runtime = None
        self.instance = f"demo-{os.getpid()}-{os.urandom(3).hex()}"
        self.size_of = {}
        self.table_lines = 0
        self.drawn_at = 0.0
        self.drawn_bytes = {}
        self.live = sys.stdout.isatty()
        self.seen_topic = None
        self.subscribers = []

    # ---- processes and their output

    def start(self, child):
        self.children.append(child)
        for pipe in child.pieces:
            os.set_blocking(pipe.fileno(), False)
            self.selector.register(pipe, selectors.EVENT_READ, child)
        if child.process.stdin:
            os.set_blocking(child.process.stdin.fileno(), False)
        return child

    def feed(self, child):
        """Gives a publisher more of what it is to read. A pipe that is full is tried again."""
        pipe = child.process.stdin
        if not pipe or pipe.closed:
            return
        try:
            while child.to_write:
                child.to_write = child.to_write[os.write(pipe.fileno(), child.to_write[:1 << 16]):]
        except BlockingIOError:
            return
        except BrokenPipeError:
            child.to_write = b""
        if child.close_when_written:
            pipe.close()

    def receive(self, child, pipe):
        try:
            data = os.read(pipe.fileno(), 1 << 18)
        except BlockingIOError:
            return
        separator = b"\0" if pipe is child.process.stdout else b"\n"
        whole, _, child.pieces[pipe] = (child.pieces[pipe] + data).rpartition(separator)
        for line in whole.split(separator) if whole else []:
            if pipe is child.process.stderr:
                child.said.append(line.decode(errors="replace"))
            elif isinstance(child, Subscriber):
                path = os.fsdecode(line[66:])
                child.digests.append((path, line[:64].decode()))
                child.bytes += self.size_of.get(path, 0)
        if not data:
            self.selector.unregister(pipe)
            pipe.close()

    def look_up(self):
        if self.stop:
            raise Interrupted

    def wait_for(self, what, done, seconds=60.0):
        """Handles output until done() or the deadline; draws the table on the way."""
        deadline = time.monotonic() + seconds
        while True:
            self.look_up()
            if done():
                return
            for child in self.children:
                self.feed(child)
                if child.process.poll() is not None and not child.expected_to_end:
                    raise Broken(f"{child.name} (pid {child.pid}) ended by itself, status {child.process.returncode}, "
                                 f"while waiting for {what}: {' / '.join(child.said[-3:])}")
            if time.monotonic() > deadline:
                raise Broken(f"waited {seconds:g} s for {what}")
            for key, _ in self.selector.select(0.02):
                if key.fileobj == self.wake_read:
                    os.read(self.wake_read, 64)
                else:
                    self.receive(key.data, key.fileobj)
            if time.monotonic() - self.drawn_at > (0.2 if self.live else 2.0):
                self.draw()

    def kill(self, child):
        child.expected_to_end = True
        child.end(signal.SIGKILL)

    def wait_for_end(self, child, seconds=20.0):
        child.expected_to_end = True
        self.wait_for(f"the end of {child.name}", lambda: child.process.poll() is not None and
                      all(pipe.closed for pipe in child.pieces), seconds)
        return child.process.returncode

    # ---- the broker

    def environment(self):
        return dict(os.environ, HOLDFAST_SOCKET=self.socket_path(), HOLDFAST_INSTANCE=self.instance)

    def socket_path(self):
        return os.path.join(self.runtime, self.instance + ".sock")

    def start_broker(self, name):
        broker = self.start(Child(name, [
            self.bin["holdfastd"], "--instance", self.instance, "--runtime-dir", self.runtime], self.environment()))
        self.wait_for(f"{name} to answer", lambda: self.request("ping") is not None)
        return broker

    def request(self, method, **parameters):
        """One control request; None when no broker answers."""
        try:
            if self.control is None:
                control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                control.settimeout(5)
                control.connect(self.socket_path())
                self.control = control
            message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
            self.control.sendall(json.dumps(message).encode() + b"\n")
            line = b""
            while not line.endswith(b"\n"):
                piece = self.control.recv(1 << 16)
                if not piece:
                    raise ConnectionError
                line += piece
        except OSError:
            if self.control:
                self.control.close()
            self.control = None
            return None
        reply = json.loads(line)
        if "error" in reply:
            raise Broken(f"{method}: {reply['error']['message']}")
        return reply["result"]

    def topic(self):
        found = self.request("topics", name=TOPIC)
        return found["topics"][0] if found and found["topics"] else None

    def subscriptions(self):
        """{pid: (lag, pins, missed, pinned bytes)} of everybody that the broker counts as attached."""
        self.seen_topic = self.topic()
        sums = {}
        for subscription in self.seen_topic["subscriptions"] if self.seen_topic else []:
            lanes = subscription["lanes"]
            sums[subscription["pid"]] = tuple(sum(lane[key] or 0 for lane in lanes)
                                              for key in ("lag", "pins", "missed", "pinned_bytes"))
        return sums

    def shm_files(self):
        return sorted(name for name in os.listdir(SHM) if name.startswith(f"holdfast.{self.instance}."))

    def segment_files(self):
        return [name for name in self.shm_files() if not name.startswith(f"holdfast.{self.instance}.lock.")]

    # ---- what is seen

    def say(self, text):
        self.erase()
        print(f"{time.monotonic() - self.began:6.1f} s  {text}", flush=True)

    def erase(self):
        if self.table_lines:
            sys.stdout.write(f"\x1b[{self.table_lines}A\x1b[J")
            self.table_lines = 0

    def draw(self):
        now = time.monotonic()
        passed = max(now - self.drawn_at, 1e-3)
        self.drawn_at = now
        sums = self.subscriptions() if self.subscribers and self.control else {}
        rows = []
        for child in self.subscribers:
            rate = (child.bytes - self.drawn_bytes.get(child.pid, child.bytes)) / passed
            self.drawn_bytes[child.pid] = child.bytes
            lag, pins, missed, pinned = sums.get(child.pid, ("-", "-", "-", 0))
            rows.append((child.name, child.pid, f"{len(child.digests):,}", f"{child.bytes / MIB:,.1f}",
                         f"{rate / MIB:,.0f}", lag, pins, f"{pinned / MIB:,.1f}", missed))
        if not rows:
            return
        if not self.live:
            print("          " + "; ".join(f"{r[0]}: {r[2]} files, {r[3]} MiB, {r[4]} MiB/s, lag {r[5]}" for r in rows),
                  flush=True)
            return
        self.erase()
        head = ("process", "pid", "files", "MiB", "MiB/s", "lag", "pins", "pinned MiB", "missed")
        form = "  {:<14}{:>8}{:>10}{:>11}{:>9}{:>7}{:>6}{:>12}{:>8}"
        lines = [form.format(*head)] + [form.format(*map(str, row)) for row in rows]
        lines.append(f"  /dev/shm: {len(self.shm_files())} files of this instance; broker "
                     f"{'alive' if self.control else 'dead'}")
        width = shutil.get_terminal_size().columns
        print("\n".join(line[:width - 1] for line in lines), flush=True)
        self.table_lines = len(lines)

    def check(self, good, text):
        self.results.append((bool(good), text))
        self.say(("ok     " if good else "WRONG  ") + text)

    # ---- the story

    def run(self):
        self.began = time.monotonic()
        free = os.statvfs(SHM)
        free_bytes = free.f_bavail * free.f_frsize
        bytes_max = min(FILE_BYTES_MAX, free_bytes // 16)
        if bytes_max < MIB:
            raise Broken(f"{SHM} has {readable(free_bytes)} free; the demonstration needs 16 MiB at the very least")
        files, over_total, larger, unreadable = choose_files(bytes_max, self.look_up)
        if not files:
            raise Broken(f"no readable file below {' and '.join(TREES)}")
        self.size_of = {file.path: file.bytes for file in files}
        total_bytes = sum(self.size_of.values())
        self.say(f"{len(files):,} regular files of {' and '.join(TREES)}, {readable(total_bytes)}, "
                 f"0 bytes to {readable(max(self.size_of.values()))}"
                 f" (beyond 1 GiB in total: {over_total:,} files; larger than {readable(bytes_max)}: {larger}; "
                 f"not readable: {unreadable})")
        first, second = split_in_half(files)

        self.runtime = tempfile.mkdtemp(prefix="holdfast-demo-", dir=os.environ.get("XDG_RUNTIME_DIR") or None)
        broker = self.start_broker("broker")
        self.say(f"private broker, instance {self.instance}, pid {broker.pid}")

        self.subscribers = [self.start(Subscriber(f"subscriber {n}", self.bin["subscribe"], self.environment()))
                            for n in (1, 2, 3)]
        victim = self.start(Child("holder", [self.bin["hold"], TOPIC], self.environment()))
        self.wait_for("four subscribers", lambda: len(self.subscriptions()) == 4)
        one = self.start(Publisher("publisher 1", self.bin["publish"], self.environment(), 4, keep_loan=True))
        one.give(first, close=True)
        self.say(f"publisher 1 (pid {one.pid}) publishes {len(first):,} files to three lossless subscribers and a fourth")

        self.kill_holder(victim, first)
        self.kill_publisher(one, first)

        two = self.start(Publisher("publisher 2", self.bin["publish"], self.environment(), 3))
        two.give(second, close=False)
        self.say(f"publisher 2 (pid {two.pid}) goes on with the other {len(second):,} files")
        self.wait_for("the rest of the files", lambda: all(len(s.digests) >= len(files) for s in self.subscribers), 300)
        self.check_pages(two)
        self.check_nothing_missed()
        self.kill_broker(broker, two, files)
        self.check_digests(files)
        self.check_sweep()

    def kill_holder(self, victim, first):
        self.wait_for("a quarter of the files and held views", lambda: min(
            len(s.digests) for s in self.subscribers) > len(first) // 2 and
            self.subscriptions().get(victim.pid, (0, 0))[1] > 0, 300)
        pins = self.subscriptions()[victim.pid][1]
        before = [len(s.digests) for s in self.subscribers]
        self.kill(victim)
        killed_at = time.monotonic()
        gone_ms = None
        while gone_ms is None and time.monotonic() - killed_at < 5:
            if victim.pid not in self.subscriptions():
                gone_ms = (time.monotonic() - killed_at) * 1000
        self.wait_for_end(victim)
        self.check(pins > 0 and gone_ms is not None and gone_ms <= PINS_GONE_MS,
                   f"a fourth subscriber was killed (SIGKILL) while it held {pins} views: its pins were gone after "
                   f"{'more than 5 000' if gone_ms is None else f'{gone_ms:.1f}'} ms (at most {PINS_GONE_MS})")
        self.wait_for("the others to go on", lambda: all(
            len(s.digests) > n or len(s.digests) >= len(first) for s, n in zip(self.subscribers, before)))

    def kill_publisher(self, one, first):
        self.wait_for("publisher 1 to hold a loan", lambda: "loan open" in one.said, 300)
        self.kill(one)
        self.wait_for_end(one)
        ends = "aborted: a publisher died after "
        self.wait_for("`aborted` at every subscriber",
                      lambda: all(any(line.startswith(ends) for line in s.said) for s in self.subscribers))
        expected = sorted(file.path for file in first)
        good = all(f"{ends}{len(first)} samples" in s.said and sorted(p for p, _ in s.digests) == expected
                   for s in self.subscribers)
        self.check(good, f"publisher 1 was killed (SIGKILL) with a loan open: each subscriber got all {len(first):,} files "
                         "that it had published, then `aborted`")

    def check_pages(self, publisher):
        """The lane's file, by inode, in the maps of all four: writable in one, read-only in three."""
        def lanes(pid):
            found = {}
            with open(f"/proc/{pid}/maps") as maps:
                for line in maps:
                    field = line.split(maxsplit=5)
                    if len(field) == 6 and f"/holdfast.{self.instance}.lane." in field[5]:
                        found.setdefault(field[4], set()).add(field[1])
            return found
        written = {inode for inode, modes in lanes(publisher.pid).items() if any("w" in mode for mode in modes)}
        good = len(written) == 1
        for subscriber in self.subscribers:
            modes = lanes(subscriber.pid)
            good = good and all(inode in modes and not any("w" in mode for mode in modes[inode]) for inode in written)
        self.check(good, "no copy: the file that publisher 2 writes is the one that all three subscribers map, read-only")

    def check_nothing_missed(self):
        sums = self.subscriptions()
        noticed = [line for s in self.subscribers for line in s.said if not line.startswith(("aborted:", "finished:"))]
        good = all(s.pid in sums and sums[s.pid][2] == 0 for s in self.subscribers) and not noticed
        self.check(good, "the other subscribers never noticed: none was turned or missed a sample" +
                   (f" – but: {noticed[0]}" if noticed else ""))

    def kill_broker(self, broker, two, files):
        more, more_bytes = [], 0
        for file in files:
            if more_bytes < AFTER_DEATH_BYTES and 0 < file.bytes <= MIB:
                more.append(file)
                more_bytes += file.bytes
        self.kill(broker)
        self.wait_for_end(broker)
        if self.control:
            self.control.close()
            self.control = None
        dead = self.request("ping") is None
        before = [len(s.digests) for s in self.subscribers]
        two.give(more, close=False)
        self.wait_for("64 MiB more without a broker", lambda: all(
            len(s.digests) >= n + len(more) for s, n in zip(self.subscribers, before)), 120)
        expected = [file.path for file in more]
        good = dead and more_bytes >= AFTER_DEATH_BYTES and all(
            [p for p, _ in s.digests[n:]] == expected for s, n in zip(self.subscribers, before))
        self.check(good, f"the broker was killed (SIGKILL): {readable(more_bytes)} more in {len(more):,} files still flowed "
                         "to all three subscribers")
        for child in [two] + self.subscribers:
            child.expected_to_end = True
        two.give([], close=True)
        states = [self.wait_for_end(child) for child in [two] + self.subscribers]
        finished = f"finished: a publisher ended after {len(two.given)} samples"
        self.check(states == [0] * 4 and all(finished in s.said for s in self.subscribers),
                   f"publisher 2 finished after {len(two.given):,} files, and everybody left with status 0")

    def check_digests(self, files):
        self.say("sha256sum of the files")
        sums = self.start(Child("sha256sum", ["xargs", "-0", "sha256sum", "-z", "--"], dict(os.environ), subprocess.PIPE))
        sums.to_write = b"".join(os.fsencode(file.path) + b"\0" for file in files)
        sums.close_when_written = True
        expected = {}
        receive = self.receive

        def collect(child, pipe):
            if child is sums and pipe is sums.process.stdout:
                data = os.read(pipe.fileno(), 1 << 18)
                whole, _, sums.pieces[pipe] = (sums.pieces[pipe] + data).rpartition(b"\0")
                for line in whole.split(b"\0") if whole else []:
                    expected[os.fsdecode(line[66:])] = line[:64].decode()
                if not data:
                    self.selector.unregister(pipe)
                    pipe.close()
            else:
                receive(child, pipe)

        self.receive = collect
        try:
            self.wait_for_end(sums, 300)
        finally:
            self.receive = receive
        for subscriber in self.subscribers:
            got = dict(subscriber.digests)
            equal = sum(expected.get(file.path) == got.get(file.path, "") for file in files)
            good = equal == len(files) == len(expected) and all(expected[p] == d for p, d in subscriber.digests)
            self.check(good, f"{subscriber.name}: {equal:,} of {len(files):,} files, {readable(subscriber.bytes)} in all, "
                             "equal to sha256sum")

    def check_sweep(self):
        left = len(self.segment_files())
        broker = self.start_broker("second broker")
        stats = self.request("stats")
        own = {segment["name"].lstrip("/") for segment in self.request("segments")["segments"] if segment["name"]}
        others = set(self.segment_files()) - own
        # Its roster stays as it is, and ended lanes linger for subscribers that come late.
        explained = stats["swept_segments"] + stats["lanes"] + 1
        self.check(stats["swept_segments"] > 0 and stats["sessions"] == 0 and explained == left and
                   stats["epoch"] == 2 and not others,
                   f"a new broker of the same instance (epoch {stats['epoch']}) took over the {left} segments that were "
                   f"left: {stats['swept_segments']} of processes that are gone are swept, {stats['lanes']} ended lanes "
                   "linger")
        self.control.close()
        self.control = None
        broker.end(signal.SIGTERM)
        status = self.wait_for_end(broker)
        self.check(status == 0 and not self.shm_files(), f"told to stop, it left with status {status} and "
                                                         f"{len(self.shm_files())} files in {SHM}")

    # ---- the end, whatever happened

    def close(self):
        """Ends what runs and removes what is left. True if the machine is as it was, by the broker's own work."""
        clients = [child for child in self.children if "broker" not in child.name]
        brokers = [child for child in self.children if "broker" in child.name]
        for child in clients:
            child.end(signal.SIGKILL)
        for child in clients:
            child.process.wait()
        for child in brokers:
            child.end(signal.SIGTERM)
        for child in brokers:
            try:
                child.process.wait(5)
            except subprocess.TimeoutExpired:
                child.end(signal.SIGKILL)
                child.process.wait()
        if self.control:
            self.control.close()
        left = self.shm_files()
        for name in left:
            os.unlink(os.path.join(SHM, name))
        if self.runtime:
            shutil.rmtree(self.runtime, ignore_errors=True)
        return not left and not self.shm_files() and not (self.runtime and os.path.exists(self.runtime))


def main():
    parser = argparse.ArgumentParser(description="The demonstration behind scripts/demo.")
    parser.add_argument("--build", required=True, help="the build directory of the preset release")
    demo = Demo(parser.parse_args().build)

    def interrupted(number, frame):
        demo.stop = True
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)

    status = 1
    failure = None
    try:
        demo.run()
    except Interrupted:
        status = 130
    except Broken as broken:
        failure = str(broken)
    finally:
        clean = demo.close()  # says nothing: the terminal may be gone
    demo.erase()
    if status == 130:
        print("interrupted: every process is ended, /dev/shm and the runtime directory are as they were", flush=True)
        return status
    if failure:
        demo.results.append((False, failure))
    demo.results.append((clean, f"{SHM} and the runtime directory are as they were"))
    print(f"\nSummary, after {time.monotonic() - demo.began:.1f} s:")
    for good, text in demo.results:
        print(("  ok     " if good else "  WRONG  ") + text)
    good = all(good for good, _ in demo.results)
    print("every line is true" if good else "NOT every line is true", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
