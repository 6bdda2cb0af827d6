# SPDX-License-Identifier: MIT
"""A broker of the test's own, real or pretended, and the command `holdfast` run against it.

Nobody sleeps for a time: every wait is for an event, with a deadline after which the test fails.
"""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

HOLDFAST = os.environ["HOLDFAST_BIN"]
HOLDFASTD = os.environ["HOLDFASTD_BIN"]
# Sanitizers and coverage make everything slower: then nothing is said about times.
INSTRUMENTED = os.environ.get("HOLDFAST_INSTRUMENTED", "") not in ("", "OFF")
SOON = 60
SHM = pathlib.Path("/dev/shm")


def clean_environment(**more):
    kept = {key: value for key, value in os.environ.items()
            if not key.startswith(("HOLDFAST", "LISTEN_")) and key not in ("XDG_RUNTIME_DIR", "COLUMNS", "LINES")}
    return kept | more


def until(condition, what, seconds=SOON):
    """Asks until the condition gives something true, and gives that."""
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"within {seconds} s: {what}")
        threading.Event().wait(0.01)


class Broker:
    """holdfastd with an instance name that nobody else uses."""
    count = 0

    def __init__(self):
        Broker.count += 1
        self.instance = f"cli-{os.getpid()}-{Broker.count}"
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="holdfast-cli-"))
        self.directory.chmod(0o755)
        self.socket = self.directory / f"{self.instance}.sock"
        self.process = None
        self.start()

    def start(self):
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = self.directory / "notify"
        path.unlink(missing_ok=True)
        notify.bind(str(path))
        notify.settimeout(SOON)
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(
                [HOLDFASTD, "--instance", self.instance, "--runtime-dir", self.directory], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, env=clean_environment(NOTIFY_SOCKET=str(path)), start_new_session=True)
        with notify:
            while b"READY=1" not in notify.recv(4096):
                pass

    def kill(self):
        self.process.kill()
        self.process.wait()

    def environment(self):
        return clean_environment(HOLDFAST_SOCKET=str(self.socket), HOLDFAST_INSTANCE=self.instance)

    def files(self):
        return sorted(path.name for path in SHM.glob(f"holdfast.{self.instance}.*"))

    def close(self):
        """Ends the broker as systemd would; gives what is wrong afterwards."""
        if self.process.poll() is not None:
            self.start()  # it sweeps what the killed one left
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(SOON)
        left = self.files()
        log = (self.directory / "log").read_text()
        for name in left:
            (SHM / name).unlink()
        shutil.rmtree(self.directory)
        return f"status {status}, left {left}:\n{log}" if status != 0 or left else ""


class FakeBrokerSocket:
    """Answers each request line with what `answer(request)` gives: bytes as they are, else a result. None: hangs up."""

    def __init__(self, answer):
        self.answer = answer
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="holdfast-cli-"))
        self.socket = self.directory / "fake.sock"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.socket))
        self.listener.listen()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as lines:
                with contextlib.suppress(OSError):  # the other side has gone
                    self.converse(connection, lines)

    def converse(self, connection, lines):
        for line in lines:
            request = json.loads(line)
            reply = self.answer(request)
            if reply is None:
                return
            if not isinstance(reply, bytes):
                reply = json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": reply}).encode() + b"\n"
            connection.sendall(reply)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(SOON)
        shutil.rmtree(self.directory)


class CliTest(unittest.TestCase):
    """Commands of a test end with it, its broker after them."""

    def setUp(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="holdfast-cli-"))
        self.addCleanup(shutil.rmtree, self.directory)
        self.environment = clean_environment()

    def use_broker(self):
        broker = Broker()
        self.environment = broker.environment()
        self.addCleanup(lambda: self.assertEqual(broker.close(), ""))
        return broker

    def run_cli(self, *arguments, status=0, given=b"", **options):
        """Runs to the end; checks the status; gives the result with text in stdout and stderr."""
        options.setdefault("env", self.environment)
        run = subprocess.run([HOLDFAST, *map(str, arguments)], input=given, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, timeout=SOON, **options)
        self.assertEqual(run.returncode, status, f"{arguments}: {run.stdout[-2000:]} {run.stderr[-2000:]}")
        return run

    def lines(self, *arguments, **options):
        """The objects that a command with --json prints."""
        return self.parse(self.run_cli("--json", *arguments, **options).stdout)

    def parse(self, output):
        objects = [json.loads(line) for line in output.splitlines()]
        for each in objects:
            self.assertEqual(each["schema"], 1)
        return objects

    def failure(self, *arguments, status, **options):
        """The sentence of a command that fails."""
        run = self.run_cli(*arguments, status=status, **options)
        text = run.stderr.decode()
        self.assertTrue(text.startswith("holdfast: "), text)
        self.assertEqual(text.count("\n"), 1, text)
        return text

    def start_cli(self, *arguments, prepend=(), **options):
        """`prepend`: a command that becomes the one behind it."""
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        options.setdefault("env", self.environment)
        process = subprocess.Popen([*prepend, HOLDFAST, *map(str, arguments)], **options)

        def end():
            if process.poll() is None:
                process.kill()
            if process.stdin and process.stdin.closed:
                process.stdin = None
            process.communicate()

        self.addCleanup(end)
        return process

    def finish(self, process, status=0):
        """Standard output and error of a command that ends by itself."""
        out, err = process.communicate(timeout=SOON)
        self.assertEqual(process.returncode, status, (out and out[-2000:], err and err[-2000:]))
        return out, err

    def topic(self, name):
        found = [topic for topic in self.lines("ls") if topic["name"] == name]
        return found[0] if found else None

    def wait_for_subscriber(self, name, count=1):
        until(lambda: (self.topic(name) or {}).get("subscribers") == count, f"topic {name} has {count} subscribers")

    def file(self, name, content):
        path = self.directory / name
        path.write_bytes(content)
        return path
