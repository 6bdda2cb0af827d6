#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every command, every flag and every exit status of `holdfast`."""
import collections
import fcntl
import hashlib
import json
import os
import pathlib
import pty
import random
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest

from brokers import CliTest, FakeBrokerSocket, HOLDFAST, INSTRUMENTED, SHM, SOON, clean_environment, until

COMMANDS = ("ls", "info", "pub", "sub", "top", "holders", "ping", "stats", "doctor", "gc")
# What each needs besides its name.
ARGUMENTS = {"info": ["t"], "pub": ["t"], "sub": ["t"]}
DOCUMENT = pathlib.Path(__file__).parents[2] / "docs" / "cli.md"


def payload(count, seed=1):
    return random.Random(seed).randbytes(count)


class Documents(CliTest):
    def test_each_flag_is_in_the_document_and_no_other(self):
        sections = re.split(r"^## holdfast ", DOCUMENT.read_text(), flags=re.M)
        documented = {section.split()[0]: section for section in sections[1:]}
        self.assertEqual(sorted(documented), sorted(COMMANDS))
        for command, section in documented.items():
            tables = "".join(line.split("|")[1] for line in section.splitlines() if line.startswith("| `-"))
            flags = set(re.findall(r"--[a-z-]+", tables))
            helped = self.run_cli(command, "--help").stdout.decode()
            own, everywhere = (set(re.findall(r"^  (?:-h,)?(--[a-z-]+)", part, flags=re.M))
                               for part in helped.split("Global options:"))
            self.assertEqual(flags, own - {"--help"}, command)
            self.assertEqual(everywhere, {"--instance", "--socket", "--json"}, command)

    def test_exit_statuses_in_the_document_are_those_of_the_code(self):
        rows = {int(row) for row in re.findall(r"^\| (\d+) \|", DOCUMENT.read_text(), flags=re.M)}
        code = (DOCUMENT.parents[1] / "client" / "cli" / "outcome.hpp").read_text()
        self.assertEqual(rows, {int(value) for value in re.findall(r"  k\w+ = (\d+),", code)})

    def test_help_fits_a_terminal(self):
        for command in ([], *([command] for command in COMMANDS)):
            helped = self.run_cli(*command, "--help").stdout.decode()
            self.assertIn("Usage: " + " ".join(["holdfast", *command]), helped)
            for line in helped.splitlines():
                self.assertLessEqual(len(line), 80, line)

    def test_version(self):
        self.assertRegex(self.run_cli("--version").stdout, rb"^holdfast \d+\.\d+\.\d+\n$")
        version, = self.lines("--version")
        self.assertEqual(version["version"], version["library"])


class ExitStatus(CliTest):
    def test_usage_is_2(self):
        self.run_cli(status=2)
        for arguments in (["nonsense"], ["ls", "--nonsense"], ["info"], ["pub"], ["pub", "t", "--repeat", "0"],
                          ["sub", "t", "--start", "never"], ["sub", "t", "--raw", "--hex"], ["top", "--interval", "0"],
                          ["ls", "--sessions", "--segments"], ["pub", "t", "--attribute", "novalue"],
                          ["pub", "t", "--attribute", "n:int=one"], ["pub", "t", "--attribute", "n:number=1"],
                          ["pub", "t", "--attribute", "=1"], ["pub", "t", "--attribute", "k" * 256 + "=1"],
                          ["pub", "t", "--attribute", "b:bytes=abc"], ["pub", "t", "--attribute", "k=" + "v" * 65536]):
            self.failure(*arguments, status=2)

    def test_numbers_out_of_range_are_usage(self):
        for flag, arguments in (("--rate", ["pub", "t"]), ("--timeout", ["pub", "t"]), ("--linger", ["pub", "t"]),
                                ("--repeat", ["pub", "t"]), ("--wait-subscribers", ["pub", "t"]), ("--timeout", ["sub", "t"]),
                                ("--count", ["sub", "t"]), ("--interval", ["top", "--once"]), ("--count", ["ping"])):
            for value in ("nan", "-nan", "NAN", "inf", "-inf", "1e400", "-2", "x", ""):
                sentence = self.failure(*arguments, f"{flag}={value}", status=2)
                self.assertIn(flag, sentence)
                if value:
                    self.assertRegex(sentence, rf"'{value}' is no (whole )?number from -?[0-9.]+ to [0-9]+\. ")
        for flag in ("--tag", "--ring", "--depth", "--bytes-max"):
            self.assertIn(flag, self.failure("pub", "t", flag, "nan", status=2))

    def test_attributes_out_of_range_are_usage(self):
        for given, kind in (("q=1e400", "float"), ("q=-1e400", "float"), ("q=1e-400", "float"), ("q:float=1e400", "float"),
                            ("q=9223372036854775808", "int"), ("q:int=-9223372036854775809", "int"),
                            ("q:timestamp=9223372036854775808", "timestamp")):
            self.assertIn(f"is out of the range of {kind}", self.failure("pub", "t", "--attribute", given, status=2))

    def test_names_and_options_that_the_broker_refuses_are_usage(self):
        self.use_broker()
        for arguments in (["pub", "a//b"], ["sub", "$own"], ["pub", "t", "--ring", "7"], ["pub", "t", "--depth", "64"]):
            self.failure(*arguments, status=2)

    def test_no_broker_is_3_and_every_path_is_named(self):
        self.environment = clean_environment(XDG_RUNTIME_DIR=str(self.directory))
        name = "nobody-has-this"
        for command in COMMANDS:
            if command in ("gc", "doctor"):
                continue
            sentence = self.failure(command, *ARGUMENTS.get(command, []), "--instance", name, status=3)
            self.assertIn(f"{self.directory}/holdfast/{name}.sock", sentence)
            self.assertIn(f"/run/holdfast/{name}.sock", sentence)
        self.assertIn(b"FAIL  broker", self.run_cli("doctor", "--instance", name, status=3).stdout)
        failed = json.loads(self.run_cli("ls", "--json", "--socket", self.directory / "x", status=3).stderr)
        self.assertEqual((failed["schema"], failed["error"], failed["exit"]), (1, "no_broker", 3))

    def test_a_bad_instance_is_usage(self):
        for name in ("a/b", "a.b", "x" * 33):
            self.assertIn("must be 1 to 32 of A-Z", self.failure("ls", "--instance", name, status=2))
        self.environment = clean_environment(HOLDFAST_INSTANCE="../x")
        self.assertIn('"../x"', self.failure("ping", status=2))

    def test_flags_go_before_the_environment(self):
        broker = self.use_broker()
        self.environment = clean_environment(HOLDFAST_SOCKET="/nowhere", HOLDFAST_INSTANCE="nobody")
        self.run_cli("ls", "--socket", broker.socket)
        self.run_cli("--socket", broker.socket, "pub", "t", given=b"x")
        self.environment = clean_environment(HOLDFAST_SOCKET=str(broker.socket), XDG_RUNTIME_DIR=str(self.directory))
        for command in ("ls", "ping"):
            self.assertIn("/run/holdfast/nobody.sock", self.failure(command, "--instance", "nobody", status=3))

    def test_denied_is_4(self):
        if os.getuid() != 0:
            self.skipTest("needs root, to become somebody else")
        # Where nobody may execute what lies in the build folder, a copy of it runs.
        programs = pathlib.Path(tempfile.mkdtemp(prefix="holdfast-cli-"))
        self.addCleanup(shutil.rmtree, programs)
        programs.chmod(0o755)
        linked = subprocess.run(["ldd", HOLDFAST], stdout=subprocess.PIPE, text=True, check=True).stdout
        for path in (HOLDFAST, *re.findall(r"=> (\S*libholdfast\S*)", linked)):
            shutil.copy(path, programs)
        broker = self.use_broker()
        broker.directory.chmod(0o700)
        environment = self.environment | {"LD_LIBRARY_PATH": str(programs)}
        for command in COMMANDS:
            run = subprocess.run([programs / pathlib.Path(HOLDFAST).name, command, *ARGUMENTS.get(command, [])],
                                 env=environment, user=65534, group=65534, extra_groups=[], cwd="/",
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=SOON)
            self.assertEqual(run.returncode, 4, (command, run.stdout, run.stderr))

    def test_timed_out_is_5(self):
        self.use_broker()
        self.assertIn("no sample within 0.05 s; look", self.failure("sub", "t", "--timeout", "0.05", status=5))
        self.run_cli("pub", "t", "--linger", "-1", given=b"x")
        late = ["sub", "t", "--start", "oldest", "--timeout", "0.05"]
        self.assertIn("no sample within 0.05 s after the last of 1 sample; look", self.failure(*late, status=5))
        self.assertIn("no sample within 0.05 s, 1 of 3 have come; look", self.failure(*late, "--count", "3", status=5))
        self.assertIn("0 of 2 subscribers",
                      self.failure("pub", "t", "--wait-subscribers", "2", "--timeout", "0.05", status=5))

    def test_not_found_is_6(self):
        self.use_broker()
        self.assertIn("topic t is not there", self.failure("info", "t", status=6))
        self.assertIn("topic t is not there", self.failure("holders", "t", status=6))
        self.assertIn("/nowhere", self.failure("pub", "t", "--file", "/nowhere", status=6))

    def test_failures_are_1(self):
        self.use_broker()
        first = self.start_cli("pub", "t", "--exclusive", stdin=subprocess.PIPE)
        until(lambda: self.topic("t"), "the topic is there")
        sentence = self.failure("pub", "t", status=1)
        self.assertIn("holdfast pub", sentence)  # it names the holder
        failed = json.loads(self.run_cli("--json", "pub", "t", "--ring", "128", status=1).stderr)
        self.assertIn(failed["error"], ("exists", "mismatch"))
        first.stdin.close()
        first.stdin = None
        self.finish(first)
        self.assertIn("bytes_max", self.failure("pub", "small", "--bytes-max", "64kb", given=bytes(1 << 20), status=1))

    def test_a_full_disk_is_said(self):
        self.use_broker()
        with open("/dev/full", "wb") as full:
            run = subprocess.run([HOLDFAST, "stats"], env=self.environment, stdout=full, stderr=subprocess.PIPE)
        self.assertEqual(run.returncode, 1)
        self.assertIn(b"standard output cannot be written", run.stderr)

    def test_closed_standard_descriptors_stay_what_they_are(self):
        self.use_broker()

        def start(redirections, *arguments):
            return self.start_cli(*arguments, prepend=["sh", "-c", f'exec "$0" "$@" {redirections}'])
        subscriber = self.start_cli("sub", "t", "--lossless", "--count", "2")
        self.wait_for_subscriber("t")
        # Closed input is empty: one empty sample, and no line.
        self.finish(start("<&-", "pub", "t"))
        result, = self.parse(self.finish(start("<&-", "--json", "pub", "t", "--lines"))[0])
        self.assertEqual(result["samples"], 0)
        self.run_cli("pub", "t", given=b"then this")
        self.assertEqual(self.finish(subscriber)[0], b"then this")
        self.run_cli("pub", "u", "--linger", "-1", given=b"x")
        for arguments in (["ls", "--json"], ["stats"], ["doctor"], ["pub", "--help"], ["--version"],
                          ["sub", "u", "--start", "oldest", "--count", "1"]):
            _, err = self.finish(start(">&-", *arguments), 1)
            self.assertIn(b"standard output cannot be written", err, arguments)
            self.assertIn(b"it is closed", err, arguments)
        out, _ = self.finish(start("2>&-", "stats"))
        self.assertIn(b"instance", out)
        self.finish(start("<&- >&- 2>&-", "stats"), 1)
        self.finish(start("<&- >&- 2>&-", "pub", "t"))
        waiting = start("<&- >&- 2>&-", "sub", "t")
        self.wait_for_subscriber("t")
        for fd in range(3):
            self.assertEqual(os.readlink(f"/proc/{waiting.pid}/fd/{fd}"), "/dev/null")
        waiting.send_signal(signal.SIGINT)
        self.finish(waiting, 130)


class FakeBroker(CliTest):
    def use_fake(self, answer):
        fake = FakeBrokerSocket(answer)
        self.addCleanup(fake.close)
        self.environment = clean_environment(HOLDFAST_SOCKET=str(fake.socket))

    def error(self, code, name):
        def answer(request):
            reply = {"jsonrpc": "2.0", "id": request["id"],
                     "error": {"code": code, "message": "the thing, the limit, what to do", "data": {"error": name}}}
            return json.dumps(reply).encode() + b"\n"
        return answer

    def test_errors_of_the_broker_become_statuses(self):
        for code, name, status in ((-32001, "denied", 4), (-32002, "not_found", 6), (-32602, "invalid", 2),
                                   (-32007, "busy", 1), (-32010, "draining", 3), (-32011, "system", 1)):
            self.use_fake(self.error(code, name))
            for command in ("ls", "stats", "holders", "top", "ping"):
                self.assertIn("the thing, the limit", self.failure(command, status=status))
            failed = json.loads(self.run_cli("--json", "stats", status=status).stderr)
            self.assertEqual((failed["error"], failed["exit"]), (name, status))

    def test_a_broker_that_goes_away_is_3(self):
        self.use_fake(lambda request: None)
        self.assertIn("it closed the connection", self.failure("ls", status=3))

    def test_answers_that_make_no_sense_are_3(self):
        for reply in (b"nonsense\n", b"[]\n", b'{"id":1}\n', b'{"id":7,"result":{}}\n', b"x" * 70000 + b"\n",
                      b"[" * 100 + b"]" * 100 + b"\n"):
            self.use_fake(lambda request, reply=reply: reply)
            self.failure("ls", status=3)

    def test_lists_are_read_page_by_page(self):
        names = [f"t/{number:04}" for number in range(1234)]

        def answer(request):
            after = request["params"].get("after", "")
            rest = [name for name in names if name > after]
            page = rest[:100]
            return {"topics": [{"name": name, "lanes": [], "subscriptions": []} for name in page],
                    "next": page[-1] if len(rest) > len(page) else None}
        self.use_fake(answer)
        self.assertEqual([topic["name"] for topic in self.lines("ls")], names)
        self.assertEqual(len(self.run_cli("ls").stdout.splitlines()), len(names) + 1)

    def test_objects_without_their_members_do_no_harm(self):
        self.use_fake(lambda request: {"topics": [{}, {"lanes": [{}], "subscriptions": [{"lanes": [{}]}]}, 7],
                                       "sessions": [{}, None], "segments": [{}, "x"], "next": None})
        for arguments in (["ls"], ["ls", "--sessions"], ["ls", "--segments"], ["info", "t"], ["holders"], ["stats"],
                          ["top", "--once", "--interval", "0.05"]):
            self.run_cli(*arguments)

    def test_names_cannot_steer_a_terminal(self):
        evil = "\x1b[31m\x07\x9bevil\r\n"
        topic = {"name": evil, "type": {"name": evil}, "lanes": [{"process": evil, "state": evil}],
                 "subscriptions": [{"process": evil, "delivery": evil, "lanes": [{"pins": 1}]}]}
        session = {"name": evil, "process": evil, "kind": evil, "topic": evil}
        self.use_fake(lambda request: {"topics": [topic], "sessions": [session], "segments": [session], "next": None,
                                       "instance": evil, "version": evil})
        for arguments in (["ls"], ["ls", "--sessions"], ["ls", "--segments"], ["info", "t"], ["holders"], ["stats"],
                          ["doctor"], ["top", "--once", "--interval", "0.05"]):
            shown = self.run_cli(*arguments, status=1 if arguments == ["doctor"] else 0).stdout.decode()
            self.assertIn("?[31m??evil??", shown)
            self.assertNotRegex(shown, "[\x00-\x09\x0b-\x1f\x7f-\x9f]")

    def test_ctrl_c_ends_a_wait_for_an_answer(self):
        asked = []
        self.use_fake(lambda request: asked.append(request) or b"")
        for command in ("ls", "stats", "doctor", "gc", "ping"):
            asked.clear()
            process = self.start_cli(command)
            until(lambda: asked, "the request arrived")
            process.send_signal(signal.SIGINT)
            self.finish(process, 130)


class Lists(CliTest):
    def setUp(self):
        super().setUp()
        self.broker = self.use_broker()

    def test_ls_and_info(self):
        sub = self.start_cli("sub", "a/b")
        pub = self.start_cli("pub", "a/b", "--wait-subscribers", "1", "--lines", stdin=subprocess.PIPE)
        pub.stdin.write(b"one\ntwo\n")
        pub.stdin.flush()
        topic = until(lambda: (self.topic("a/b") or {"lanes": []})["lanes"] and self.topic("a/b"), "a lane")
        until(lambda: self.topic("a/b")["lanes"][0]["head"] == 2, "two samples")
        self.assertEqual((topic["publishers"], topic["subscribers"]), (1, 1))
        self.assertEqual(self.lines("info", "a/b")[0]["name"], "a/b")
        listed = self.run_cli("ls").stdout.decode().splitlines()
        self.assertRegex(listed[0], r"^TOPIC +TYPE +PUB +SUB +SAMPLES +MISSED +MEMORY$")
        self.assertRegex(listed[1], r"^a/b +- +1 +1 +2 +0 +8\.0 KiB$")
        info = self.run_cli("info", "a/b").stdout.decode()
        for expected in (r"^topic +a/b$", r"^publishers +1$", r"^LANE +STATE", rf"open +{pub.pid} +holdfast pub +2 ",
                         rf"(?m)^ *{sub.pid} +holdfast sub +drop_oldest "):
            self.assertRegex(info, re.compile(expected, re.M))
        sessions = {session["pid"]: session for session in self.lines("ls", "--sessions")}
        self.assertEqual(set(sessions), {pub.pid, sub.pid})
        self.assertEqual(sessions[pub.pid]["publishers"], 1)
        self.assertIn("holdfast sub", self.run_cli("ls", "--sessions").stdout.decode())
        kinds = collections.Counter(segment["kind"] for segment in self.lines("ls", "--segments"))
        self.assertEqual(kinds, {"roster": 1, "session": 2, "bells": 2, "lane": 1})
        self.assertEqual(len(self.run_cli("ls", "--segments").stdout.splitlines()), 7)
        pub.stdin.close()
        pub.stdin = None
        self.finish(pub)

    def test_ls_is_quick(self):
        if INSTRUMENTED:
            self.skipTest("times mean nothing with sanitizers or coverage")

        def once():
            began = time.perf_counter()
            self.run_cli("ls")
            return time.perf_counter() - began
        self.assertLess(min(once() for _ in range(20)), 0.020)

    def test_stats(self):
        stats, = self.lines("stats")
        self.assertEqual((stats["instance"], stats["pid"]), (self.broker.instance, self.broker.process.pid))
        shown = self.run_cli("stats").stdout.decode()
        self.assertRegex(shown, rf"(?m)^instance +{self.broker.instance}$")
        self.assertRegex(shown, r"(?m)^limits\.sessions +\d+$")

    def test_holders_name_who_holds_pins(self):
        # Nobody reads its standard output: it is stopped in the middle of a sample, which it holds.
        sub = self.start_cli("sub", "big")
        pub = self.start_cli("pub", "big", "--wait-subscribers", "1", "--lines", "--linger", "-1", stdin=subprocess.PIPE)
        pub.stdin.write(payload(1 << 20).replace(b"\n", b"x") + b"\n")
        pub.stdin.flush()

        def pins():
            return [each for each in self.lines("holders") if each["what"] == "pins"]
        pin, = until(pins, "a pin")
        self.assertEqual((pin["pid"], pin["process"], pin["topic"], pin["bytes"], pin["pins"]),
                         (sub.pid, "holdfast sub", "big", 1 << 20, 1))
        lane, = [each for each in self.lines("holders", "big") if each["what"] == "lane"]
        self.assertEqual((lane["pid"], lane["segment"]), (pub.pid, pin["segment"]))
        shown = self.run_cli("holders").stdout.decode().splitlines()
        # The lane is the largest; its pins stand right below it.
        self.assertRegex(shown[1], rf"^ *{pub.pid} +holdfast pub +lane ")
        self.assertRegex(shown[2], rf"^ *{sub.pid} +holdfast sub +1 pin +1\.0 MiB ")
        top = [each for each in self.lines("top", "--once", "--interval", "0.05") if each["topic"] == "big"]
        self.assertGreaterEqual(top[0]["oldest_pin_ms"], 0)
        sub.kill()
        until(lambda: not pins(), "the pin goes with its process")

    def test_doctor(self):
        checks = {check["check"]: check for check in self.lines("doctor")}
        self.assertEqual(checks["broker"]["status"], "pass")
        self.assertEqual(checks["versions"]["status"], "pass")
        self.assertEqual(checks["socket"]["status"], "pass")
        for check in checks.values():
            self.assertEqual(check["fix"] is None, check["status"] == "pass", check)
        self.assertRegex(self.run_cli("doctor").stdout.decode(), r"\d+ checks: 0 failures, \d+ warnings?\n$")

    def test_doctor_finds_what_is_wrong(self):
        self.broker.socket.chmod(0o666)
        socket, = [check for check in self.lines("doctor") if check["check"] == "socket"]
        self.assertEqual(socket["status"], "warn")
        self.broker.directory.chmod(0o777)
        socket, = [check for check in self.lines("doctor", status=1) if check["check"] == "socket"]
        self.assertEqual(socket["status"], "fail")
        self.broker.directory.chmod(0o755)
        instance, = [check for check in self.lines("doctor", "--socket", self.broker.socket, "--instance", "other")
                     if check["check"] == "instance"]
        self.assertEqual(instance["status"], "warn")
        limited = subprocess.run(["sh", "-c", 'ulimit -n 256; exec "$0" --json doctor', HOLDFAST], env=self.environment,
                                 stdout=subprocess.PIPE, timeout=SOON)
        files, = [check for check in self.parse(limited.stdout) if check["check"] == "open files"]
        self.assertEqual((limited.returncode, files["status"]), (0, "warn"))

    def test_ping(self):
        broker = self.run_cli("ping", "--count", "20").stdout.decode().splitlines()
        self.assertIn(self.broker.instance, broker[0])
        self.assertEqual([line.split()[0] for line in broker], ["broker", "socket", "control", "data"])
        for arguments in ([], ["--bytes", "0"], ["--bytes", "100000"], ["--spin"]):
            control, data = self.lines("ping", "--count", "20", *arguments)
            self.assertEqual((control["path"], data["path"]), ("control", "data"))
            for each in (control, data):
                self.assertEqual(each["round_trips"], 20)
                self.assertLessEqual(each["p50_ns"], each["p90_ns"])
                self.assertGreater(each["p50_ns"], 0)
        until(lambda: not self.lines("ls"), "the topics of ping are gone")
        self.assertEqual(self.lines("ls", "--sessions"), [])


class Publishing(CliTest):
    def setUp(self):
        super().setUp()
        self.broker = self.use_broker()

    def published(self, *pub, given=b"", count):
        """Payloads that arrive, `count` of them."""
        dump = pathlib.Path(tempfile.mkdtemp(dir=self.directory))
        subscriber = self.start_cli("--json", "sub", "t", "--lossless", "--dump", dump, "--count", count)
        self.wait_for_subscriber("t")
        self.run_cli("pub", "t", *pub, given=given)
        out, _ = self.finish(subscriber)
        samples = [event for event in self.parse(out) if event["event"] == "sample"]
        return samples, [(dump / sample["file"]).read_bytes() for sample in samples]

    def test_standard_input_is_one_sample(self):
        for content in (b"", b"hello\n", payload(32), payload(33), payload(300_000)):
            self.assertEqual(self.published(given=content, count=1)[1], [content])

    def test_a_regular_file_as_standard_input(self):
        path = self.file("whole", payload(200_000))
        subscriber = self.start_cli("sub", "t", "--count", "1", "--lossless")
        self.wait_for_subscriber("t")
        with open(path, "rb") as file:
            file.seek(1000)
            publisher = self.start_cli("pub", "t", stdin=file)
        self.assertEqual(self.finish(subscriber)[0], path.read_bytes()[1000:])
        self.finish(publisher)

    def test_files_are_a_sample_each(self):
        contents = [payload(5_000_000), b"", b"small", payload(4096)]
        paths = [self.file(f"f{index}", content) for index, content in enumerate(contents)]
        samples, found = self.published("--file", *paths, count=4)
        self.assertEqual(found, contents)
        self.assertEqual([sample["position"] for sample in samples], [0, 1, 2, 3])
        self.assertEqual(self.published("--file", paths[2], "-", given=b"from stdin", count=2)[1],
                         [b"small", b"from stdin"])
        self.assertNotEqual(self.published("--file", "/proc/version", count=1)[1], [b""])
        self.failure("pub", "t", "--file", self.directory, status=1)
        self.failure("pub", "t", "--file", paths[0], "-", "--repeat", "2", status=2)

    def test_lines_and_repeat(self):
        self.assertEqual(self.published("--lines", given=b"one\n\ntwo\nlast", count=4)[1],
                         [b"one", b"", b"two", b"last"])
        self.assertEqual(self.published("--lines", "--repeat", "3", given=b"a\nb\n", count=6)[1], [b"a", b"b"] * 3)
        self.assertEqual(self.published("--repeat", "3", given=b"again", count=3)[1], [b"again"] * 3)
        path = self.file("lines", b"x\ny\n")
        self.assertEqual(self.published("--lines", "--file", path, path, "--repeat", "2", count=8)[1], [b"x", b"y"] * 4)
        long = payload(200_000).replace(b"\n", b"-")
        self.assertEqual(self.published("--lines", given=long + b"\n" + long, count=2)[1], [long, long])

    def test_a_line_is_published_when_it_is_there(self):
        subscriber = self.start_cli("sub", "t", "--lossless")
        publisher = self.start_cli("pub", "t", "--lines", "--wait-subscribers", "1", stdin=subprocess.PIPE)
        for line in (b"first", b"second"):
            publisher.stdin.write(line + b"\n")
            publisher.stdin.flush()
            self.assertEqual(os.read(subscriber.stdout.fileno(), 100), line)

    def test_attributes(self):
        given = ["n=1", "i:int=-9", "f=0.5", "g:float=2", "w:float=nan", "s=text", "e=", "q=a=b", "t=true", "u:bool=false",
                 "z:string=1", "x:bytes=00ff", "c:timestamp=1700000000000000000", "url=http://x", "nan=nan", "a:b:int=3"]
        samples, _ = self.published(*(word for each in given for word in ("--attribute", each)), "--tag", "7", given=b"x",
                                    count=1)
        found = {key: (value["type"], value["value"]) for key, value in samples[0]["attributes"].items()}
        self.assertEqual(found, {
            "n": ("int", 1), "i": ("int", -9), "f": ("float", 0.5), "g": ("float", 2.0), "w": ("float", "nan"),
            "s": ("string", "text"), "e": ("string", ""), "q": ("string", "a=b"), "t": ("bool", True),
            "u": ("bool", False), "z": ("string", "1"), "x": ("bytes", "00ff"),
            "c": ("timestamp", 1700000000000000000), "url": ("string", "http://x"), "nan": ("string", "nan"),
            "a:b": ("int", 3)})
        self.assertEqual(samples[0]["type"], 7)

    def test_rate(self):
        began = time.monotonic()
        result, = self.lines("pub", "t", "--lines", "--rate", "100", given=b"x\n" * 21)
        self.assertGreaterEqual(time.monotonic() - began, 0.2)
        self.assertEqual(result["samples"], 21)

    def test_options_of_the_topic(self):
        self.run_cli("pub", "t", "--ring", "128", "--depth", "5", "--linger", "-1", "--clock", "exact", "--backing", "sealed",
                     "--exclusive", "--bytes-max", "1mb", given=b"x")
        topic = self.topic("t")
        self.assertEqual([topic[key] for key in ("ring", "depth", "linger_ms", "clock", "exclusive")],
                         [128, 5, -1, "exact", True])
        self.assertEqual(topic["lanes"][0]["backing"], "sealed")
        sample, = self.lines("sub", "t", "--start", "oldest", "--count", "1")
        self.assertGreater(sample["time_ns"], 0)
        self.assertRegex(self.run_cli("info", "t").stdout.decode(), r"(?m)^linger +for ever$")
        self.run_cli("pub", "brief", "--linger", "0", given=b"x")
        until(lambda: not self.topic("brief"), "nothing of it lingers", seconds=10)

    def test_it_waits_for_lossless_subscribers(self):
        subscriber = self.start_cli("--json", "sub", "t", "--lossless", "--count", "2")
        self.wait_for_subscriber("t")
        subscriber.send_signal(signal.SIGSTOP)
        sentence = self.failure("pub", "t", "--timeout", "0.1", given=b"x", status=5)
        self.assertIn("have not taken everything", sentence)
        result, = self.lines("pub", "t", "--no-wait", given=b"y")
        self.assertEqual((result["samples"], result["drained"]), (1, False))
        publisher = self.start_cli("pub", "t", "--file", self.file("z", b"z"))
        # It says what it waits for, then goes on waiting.
        self.assertIn(b"waiting: ", publisher.stderr.readline())
        self.assertIsNone(publisher.poll())
        subscriber.send_signal(signal.SIGCONT)
        self.finish(publisher)
        self.finish(subscriber)

    def test_a_full_ring_is_waited_for(self):
        subscriber = self.start_cli("--json", "sub", "t", "--lossless", "--count", "30")
        self.wait_for_subscriber("t")
        subscriber.send_signal(signal.SIGSTOP)
        self.assertIn("ring is full", self.failure("pub", "t", "--ring", "8", "--lines", "--timeout", "0.1",
                                                   given=b"x\n" * 9, status=5))
        publisher = self.start_cli("pub", "t", "--lines", "--file", self.file("lines", b"y\n" * 22))
        self.assertIn(b"ring is full", publisher.stderr.readline())
        subscriber.send_signal(signal.SIGCONT)
        self.finish(publisher)
        self.finish(subscriber)

    def test_memory_that_is_not_there_is_an_error_with_numbers(self):
        path = self.directory / "sparse"
        free = os.statvfs("/dev/shm")
        size = min(free.f_bavail * free.f_frsize + (1 << 30), 1 << 42)
        with open(path, "wb") as file:
            file.truncate(size)
        failed = json.loads(self.run_cli("--json", "pub", "t", "--file", path, "--bytes-max", str(size + (1 << 30)),
                                         status=1).stderr)
        self.assertEqual(failed["error"], "no_memory")
        self.assertRegex(failed["message"], r"\d{6,}\D+\d{6,}")
        self.run_cli("pub", "t", given=b"the next one fits")

    def test_a_broker_that_is_slow_is_waited_for(self):
        publisher = self.start_cli("pub", "t", "--lines", stdin=subprocess.PIPE)
        until(lambda: self.topic("t"), "its topic")
        self.broker.process.send_signal(signal.SIGSTOP)
        publisher.stdin.write(b"x" * 1000 + b"\n")
        publisher.stdin.flush()
        time.sleep(1.5)  # longer than a loan that does not wait is given
        self.broker.process.send_signal(signal.SIGCONT)
        publisher.stdin.close()
        publisher.stdin = None
        self.finish(publisher)

    def test_a_dump_goes_on_behind_what_a_killed_one_left(self):
        dump = self.directory / "dump"
        dump.mkdir()
        (dump / "00000004.json.partial").write_text("{")
        subscriber = self.start_cli("sub", "t", "--count", "1", "--dump", dump)
        self.wait_for_subscriber("t")
        self.run_cli("pub", "t", given=b"x")
        self.finish(subscriber)
        self.assertEqual((dump / "00000005.bin").read_bytes(), b"x")

    def test_the_sum_at_the_end(self):
        result, = self.lines("pub", "t", "--lines", given=b"one\ntwo\n")
        self.assertEqual([result[key] for key in ("topic", "samples", "payload_bytes", "subscribers", "drained")],
                         ["t", 2, 6, 0, True])


class Subscribing(CliTest):
    def setUp(self):
        super().setUp()
        self.broker = self.use_broker()

    def test_raw_to_a_pipe(self):
        content = payload(20_000_000)
        path = self.file("f", content)
        subscriber = self.start_cli("sub", "t", "--lossless", "--count", "3")
        self.wait_for_subscriber("t")
        publisher = self.start_cli("pub", "t", "--file", path, "--repeat", "3")
        out, _ = self.finish(subscriber)
        self.finish(publisher)
        self.assertEqual(hashlib.sha256(out).digest(), hashlib.sha256(content * 3).digest())

    def test_start(self):
        publisher = self.start_cli("pub", "t", "--lines", stdin=subprocess.PIPE)
        publisher.stdin.write(b"a\nb\nc\n")
        publisher.stdin.flush()
        until(lambda: (self.topic("t") or {"lanes": [{"head": 0}]})["lanes"][0]["head"] == 3, "three samples")
        self.assertEqual(self.run_cli("sub", "t", "--start", "oldest", "--count", "3").stdout, b"abc")
        self.assertEqual(self.run_cli("sub", "t", "--start", "latest", "--count", "1").stdout, b"c")
        subscriber = self.start_cli("sub", "t", "--count", "1")
        self.wait_for_subscriber("t")
        publisher.stdin.write(b"d\n")
        publisher.stdin.flush()
        self.assertEqual(self.finish(subscriber)[0], b"d")

    def test_hex(self):
        self.run_cli("pub", "t", "--attribute", "key=a\x1bb", "--tag", "3", given=bytes(range(40)))
        shown = self.run_cli("sub", "t", "--hex", "--start", "oldest", "--count", "1").stdout.decode().splitlines()
        self.assertRegex(shown[0], r"^position 0  publisher \d+  40 bytes  tag 3$")
        self.assertEqual(shown[1], '  key = "a\\u001bb"  (string)')
        self.assertEqual(shown[4], "  00000020  20 21 22 23 24 25 26 27                           | !\"#$%&'|")
        self.run_cli("pub", "long", given=bytes(5000))
        shown = self.run_cli("sub", "long", "--hex", "--start", "oldest", "--count", "1").stdout.decode().splitlines()
        self.assertEqual(shown[-1], "  … 3976 bytes more; --raw gives them all")

    def test_dump(self):
        dump = self.directory / "a" / "b"
        for number, content in enumerate((b"one", payload(100_000)), 1):
            self.run_cli("pub", "t", "--attribute", f"n={number}", given=content)
            self.run_cli("sub", "t", "--dump", dump, "--start", "latest", "--count", "1", "--timeout", "10")
        self.assertEqual(sorted(os.listdir(dump)), ["00000001.bin", "00000001.json", "00000002.bin", "00000002.json"])
        # The second subscriber found both publishers' latest: its first is one of them.
        about = json.loads((dump / "00000001.json").read_text())
        self.assertEqual((about["schema"], about["file"], about["bytes"]), (1, "00000001.bin", 3))
        self.assertEqual(about["attributes"], {"n": {"type": "int", "value": 1}})
        self.assertEqual((dump / "00000001.bin").read_bytes(), b"one")
        self.failure("sub", "t", "--dump", self.file("plain", b""), "--count", "1", status=1)

    def test_missed_samples_are_told(self):
        for arguments in (["--json"], []):
            subscriber = self.start_cli(*arguments, "sub", "t", "--timeout", "1")
            self.wait_for_subscriber("t")
            subscriber.send_signal(signal.SIGSTOP)
            self.run_cli("pub", "t", "--lines", "--ring", "8", given=b"0123456789\n" * 1000)
            subscriber.send_signal(signal.SIGCONT)
            out, err = self.finish(subscriber, 5)
            if arguments:
                events = self.parse(out)
                kinds = collections.Counter(event["event"] for event in events)
                missed = sum(event.get("missed", 0) for event in events)
                self.assertGreater(missed, 0)
                self.assertEqual(missed + kinds["sample"], 1000)
                self.assertEqual(kinds["finished"], 1)
            else:
                missed = sum(map(int, re.findall(r"missed (\d+) sample", err.decode())))
                self.assertEqual(missed + out.count(b"0123456789"), 1000)

    def test_a_publisher_that_dies_is_told(self):
        for arguments in (["--json"], []):
            subscriber = self.start_cli(*arguments, "sub", "t", "--lossless", "--timeout", "5")
            self.wait_for_subscriber("t")
            publisher = self.start_cli("pub", "t", "--lines", stdin=subprocess.PIPE)
            publisher.stdin.write(b"last words\n")
            publisher.stdin.flush()
            if arguments:
                self.assertEqual(json.loads(subscriber.stdout.readline())["event"], "sample")
                publisher.kill()
                self.assertEqual(json.loads(subscriber.stdout.readline())["event"], "aborted")
            else:
                self.assertEqual(os.read(subscriber.stdout.fileno(), 100), b"last words")
                publisher.kill()
                self.assertIn(b"died", subscriber.stderr.readline())
            subscriber.kill()
            subscriber.wait()
            until(lambda: (self.topic("t") or {"subscribers": 0})["subscribers"] == 0, "the subscriber is gone")

    def test_it_goes_on_without_the_broker(self):
        subscriber = self.start_cli("sub", "t", "--lossless", "--count", "3")
        publisher = self.start_cli("pub", "t", "--lines", "--wait-subscribers", "1", stdin=subprocess.PIPE)
        for number, line in enumerate((b"one", b"two", b"three")):
            if number == 1:
                self.broker.kill()
            publisher.stdin.write(line + b"\n")
            publisher.stdin.flush()
            self.assertEqual(os.read(subscriber.stdout.fileno(), 100), line)
        self.finish(subscriber)
        publisher.stdin.close()
        publisher.stdin = None
        self.finish(publisher)

    def test_a_reader_that_goes_away_ends_it_quietly(self):
        subscriber = self.start_cli("sub", "t")
        self.wait_for_subscriber("t")
        # Nothing flows: it notices all the same.
        subscriber.stdout.close()
        subscriber.stdout = None
        self.assertEqual(self.finish(subscriber), (None, b""))
        # And in the middle of a sample.
        subscriber = self.start_cli("sub", "t")
        publisher = self.start_cli("pub", "t", "--wait-subscribers", "1", "--file", self.file("f", payload(5_000_000)))
        self.assertEqual(len(os.read(subscriber.stdout.fileno(), 10)), 10)
        subscriber.stdout.close()
        subscriber.stdout = None
        self.assertEqual(self.finish(subscriber), (None, b""))
        self.finish(publisher)
        for command in (["ls"], ["stats"], ["doctor"], ["top", "--interval", "0.05"]):
            read, write = os.pipe()
            os.close(read)
            process = self.start_cli(*command, stdout=write)
            os.close(write)
            self.assertEqual(self.finish(process), (None, b""), command)


class Interrupts(CliTest):
    def setUp(self):
        super().setUp()
        self.broker = self.use_broker()

    def interrupt(self, process, number=signal.SIGINT):
        process.send_signal(number)
        out, err = self.finish(process, 128 + number)
        self.assertEqual(err, b"")
        until(lambda: not self.lines("ls", "--sessions"), "no session is left")
        return out

    def test_waiting_commands_end_at_once_and_leave_nothing(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            subscriber = self.start_cli("sub", "t")
            self.wait_for_subscriber("t")
            self.interrupt(subscriber, number)
        publisher = self.start_cli("pub", "t", stdin=subprocess.PIPE)
        until(lambda: self.topic("t"), "the topic")
        self.interrupt(publisher)
        publisher = self.start_cli("pub", "t", "--wait-subscribers", "1")
        until(lambda: self.lines("ls", "--sessions"), "a session")
        self.interrupt(publisher)

    def test_a_publisher_that_waits_for_a_stopped_subscriber(self):
        subscriber = self.start_cli("sub", "t", "--lossless")
        self.wait_for_subscriber("t")
        subscriber.send_signal(signal.SIGSTOP)
        publisher = self.start_cli("pub", "t", "--lines", "--ring", "8", stdin=subprocess.PIPE)
        publisher.stdin.write(b"x\n" * 20)
        publisher.stdin.flush()
        until(lambda: any(lane["head"] == 8 for lane in self.topic("t")["lanes"]), "a full ring")
        publisher.send_signal(signal.SIGINT)
        self.finish(publisher, 130)
        subscriber.send_signal(signal.SIGCONT)

    def test_top_and_ping(self):
        top = self.start_cli("top", "--json")
        until(lambda: self.lines("stats")[0]["requests"] > 3, "it asked")
        self.interrupt(top)
        ping = self.start_cli("ping", "--count", "10000000")
        until(lambda: self.lines("stats")[0]["requests"] > 1000, "it pings")
        self.interrupt(ping)

    def test_top_goes_on_with_the_next_broker(self):
        self.run_cli("pub", "t", "--linger", "-1", given=b"x")
        top = self.start_cli("top", "--json", "--interval", "0.05")
        self.assertEqual(json.loads(top.stdout.readline())["topic"], "t")
        self.broker.kill()
        self.assertIn(b"the broker is away", top.stderr.readline())
        self.broker.start()
        self.run_cli("pub", "u", "--linger", "-1", given=b"x")
        until(lambda: json.loads(top.stdout.readline())["topic"] == "u", "what only the next broker knows")
        self.interrupt(top)

    def test_ping_in_the_middle_of_its_data_path(self):
        ping = self.start_cli("ping", "--count", "500", "--bytes", "20000000")
        until(lambda: any(topic["name"].startswith("holdfast-ping/") for topic in self.lines("ls")), "its topics")
        self.interrupt(ping)
        until(lambda: not self.lines("ls"), "its topics are gone")

    def test_no_partial_file_is_left(self):
        dump = self.directory / "dump"
        path = self.file("f", payload(30_000_000))
        subscriber = self.start_cli("sub", "t", "--lossless", "--dump", dump)
        self.wait_for_subscriber("t")
        publisher = self.start_cli("pub", "t", "--file", path, "--repeat", "1000")
        until(lambda: dump.exists() and any(name.endswith(".bin.partial") for name in os.listdir(dump)), "it writes")
        subscriber.send_signal(signal.SIGINT)
        self.finish(subscriber, 130)
        publisher.send_signal(signal.SIGINT)
        publisher.communicate(timeout=SOON)
        names = os.listdir(dump)
        self.assertEqual([name for name in names if name.endswith(".partial")], [])
        self.assertEqual({name[:-4] for name in names if name.endswith(".bin")},
                         {name[:-5] for name in names if name.endswith(".json")})
        for name in names:
            if name.endswith(".bin"):
                self.assertEqual((dump / name).stat().st_size, 30_000_000)

    def test_what_is_ignored_stays_ignored(self):
        subscriber = self.start_cli("sub", "t", "--count", "1", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        self.wait_for_subscriber("t")
        subscriber.send_signal(signal.SIGHUP)
        self.run_cli("pub", "t", given=b"alive")
        self.assertEqual(self.finish(subscriber)[0], b"alive")


class Traffic(CliTest):
    def setUp(self):
        super().setUp()
        self.broker = self.use_broker()

    def test_rates_come_from_counters(self):
        publisher = self.start_cli("pub", "t", "--lines", "--rate", "500", stdin=subprocess.PIPE)
        publisher.stdin.write(b"0123456789\n" * 5000)
        publisher.stdin.flush()
        subscriber = self.start_cli("sub", "t", stdout=subprocess.DEVNULL)
        self.wait_for_subscriber("t")
        before = self.lines("stats")[0]
        topic, = self.lines("top", "--once", "--interval", "0.5")
        after = self.lines("stats")[0]
        self.assertEqual((topic["topic"], topic["publishers"], topic["subscribers"]), ("t", 1, 1))
        self.assertGreater(topic["samples_per_second"], 50)
        self.assertLess(topic["samples_per_second"], 800)
        self.assertAlmostEqual(topic["bytes_per_second"] / topic["samples_per_second"], 10, delta=0.5)
        self.assertGreaterEqual(topic["interval_ms"], 500)
        # It opened no session and no handle.
        self.assertEqual([after[key] for key in ("sessions", "publishers", "subscribers")],
                         [before[key] for key in ("sessions", "publishers", "subscribers")])
        self.assertIsNone(subscriber.poll())

    def test_lag_and_missed(self):
        subscriber = self.start_cli("sub", "t", stdout=subprocess.DEVNULL)
        self.wait_for_subscriber("t")
        publisher = self.start_cli("pub", "t", "--lines", stdin=subprocess.PIPE)
        publisher.stdin.write(b"first\n")
        publisher.stdin.flush()
        until(lambda: any(lane["taken"] for each in (self.topic("t") or {"subscriptions": []})["subscriptions"]
                          for lane in each["lanes"]), "the first is taken")
        subscriber.send_signal(signal.SIGSTOP)
        publisher.stdin.write(b"x\n" * 200)
        publisher.stdin.flush()

        def top():
            return self.lines("top", "--once", "--interval", "0.05")[0]
        until(lambda: top()["lag"] == 200, "the lag is 200")
        subscriber.send_signal(signal.SIGCONT)
        until(lambda: top()["lag"] == 0, "it caught up")
        self.assertGreater(top()["missed"], 0)

    def test_tables_into_a_pipe(self):
        self.run_cli("pub", "t", given=b"x")
        once = self.run_cli("top", "--once", "--interval", "0.05").stdout.decode().splitlines()
        self.assertRegex(once[0], r"^holdfast top  \S+: 1 topic, 0 sessions, .* shared, .* free$")
        self.assertRegex(once[1], r"^TOPIC +PUB +SUB +RATE/s +BYTES/s +LAG +MISSED/s +MEMORY +OLDEST PIN$")
        self.assertEqual(len(once), 3)
        live = self.start_cli("top", "--interval", "0.05")
        seen = b""
        while seen.count(b"holdfast top") < 3:
            seen += os.read(live.stdout.fileno(), 4096)
        self.assertNotIn(b"\x1b", seen)
        live.send_signal(signal.SIGINT)
        self.finish(live, 130)


class Gc(CliTest):
    def setUp(self):
        super().setUp()
        self.broker = self.use_broker()

    def fates(self, *arguments, **options):
        *files, whole = self.lines("gc", *arguments, **options)
        return {pathlib.Path(each["file"]).name: each["fate"] for each in files}, whole

    def test_a_running_broker_is_left_alone(self):
        before = self.broker.files()
        whole, = self.lines("gc", "--yes")
        self.assertEqual((whole["broker"], whole["removed"]), ("running", 0))
        self.assertIn(b"cleans up by itself", self.run_cli("gc").stdout)
        self.assertEqual(self.broker.files(), before)

    def test_what_nobody_uses_goes(self):
        dead = self.start_cli("pub", "t", stdin=subprocess.PIPE)
        until(lambda: self.topic("t"), "the topic")
        self.broker.kill()
        dead.kill()
        dead.wait()
        files = self.broker.files()
        self.assertEqual(len(files), 5)  # session, bells, lane, roster, lock
        other = SHM / f"holdfast.{self.broker.instance}x.lane.0123456789abcdef"
        odd = SHM / f"holdfast.{self.broker.instance}.notes.txt"
        for path in (other, odd):
            path.write_bytes(b"")
            self.addCleanup(path.unlink, missing_ok=True)
        fates, whole = self.fates()
        self.assertEqual(fates, {name: "would go" for name in files})
        self.assertEqual((whole["removed"], whole["unused"]), (0, 5))
        self.assertGreaterEqual(whole["unused_bytes"], 4 * 4096)
        self.assertEqual(set(self.broker.files()) - {odd.name}, set(files))
        self.assertIn(b"holdfast gc --yes", self.run_cli("gc").stdout)
        fates, whole = self.fates("--yes")
        self.assertEqual(fates, {name: "removed" for name in files})
        self.assertEqual(self.broker.files(), [odd.name])
        self.assertTrue(other.exists())
        self.assertIn(b"nothing to remove", self.run_cli("gc", "--yes").stdout)
        odd.unlink()

    def test_what_a_living_process_holds_stays(self):
        living = self.start_cli("sub", "t", "--lossless", "--count", "2")
        self.wait_for_subscriber("t")
        publisher = self.start_cli("pub", "t", "--lines", "--wait-subscribers", "1", stdin=subprocess.PIPE)
        publisher.stdin.write(b"one\n")
        publisher.stdin.flush()
        self.assertEqual(os.read(living.stdout.fileno(), 10), b"one")
        dead = self.start_cli("sub", "t")
        self.wait_for_subscriber("t", 2)
        sessions = {session["pid"]: session["session"] for session in self.lines("ls", "--sessions")}
        dead_files = {segment["name"][1:] for segment in self.lines("ls", "--segments")
                      if segment["session"] == sessions[dead.pid] and segment["kind"] == "session"}
        self.broker.kill()
        dead.kill()
        dead.wait()
        fates, _ = self.fates("--yes")
        gone = {name for name, fate in fates.items() if fate == "removed"}
        # The publisher still maps the records and bells of its dead subscriber: those stay until it ends.
        self.assertLessEqual(gone, dead_files | {name for name in fates if ".bells." in name or ".lock." in name})
        kinds = collections.Counter(name.split(".")[2] for name, fate in fates.items() if fate == "kept")
        self.assertGreaterEqual(kinds["session"], 2)
        self.assertEqual((kinds["lane"], kinds["roster"]), (1, 1))
        # Nobody noticed.
        publisher.stdin.write(b"two\n")
        publisher.stdin.flush()
        self.assertEqual(self.finish(living)[0], b"two")
        publisher.stdin.close()
        publisher.stdin = None
        publisher.wait(SOON)
        self.fates("--yes")
        self.assertEqual(self.broker.files(), [])

    def test_a_lock_that_is_held_is_respected(self):
        self.broker.kill()
        files = self.broker.files()
        with open(self.broker.directory / f"{self.broker.instance}.lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.assertIn("does not answer", self.failure("gc", "--yes", status=1))
        self.assertEqual(self.broker.files(), files)
        self.fates("--yes")
        self.assertEqual(self.broker.files(), [])

    def test_a_broker_elsewhere_is_left_alone(self):
        # The lock beside its socket is not where gc looks, but the one in /dev/shm is.
        self.environment = clean_environment(XDG_RUNTIME_DIR=str(self.directory))
        before = self.broker.files()
        sentence = self.failure("gc", "--yes", "--instance", self.broker.instance, status=1)
        self.assertIn(f"pid {self.broker.process.pid}, holds /dev/shm/", sentence)
        self.assertEqual(self.broker.files(), before)
        self.broker.kill()
        fates, _ = self.fates("--yes", "--instance", self.broker.instance)
        self.assertEqual(set(fates.values()), {"removed"})
        self.assertEqual(self.broker.files(), [])

    def test_doctor_points_to_it(self):
        self.run_cli("pub", "t", "--linger", "-1", given=b"x")
        self.broker.kill()
        found, = [check for check in self.lines("doctor", status=3) if check["check"] == "leftover files"]
        if self.broker.instance in found["found"]:  # another test's broker may have been killed just now, too
            self.assertEqual(found["status"], "warn")
            self.assertIn("holdfast gc", found["fix"])
        else:
            self.assertIn("instance ", found["found"])


class Screen(CliTest):
    """What people see: a terminal of 80 columns and 24 lines."""

    def setUp(self):
        super().setUp()
        self.broker = self.use_broker()

    def on_terminal(self, *arguments, columns=80, rows=24, rest=()):
        main, side = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

        def own_terminal():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        before = termios.tcgetattr(side)
        process = self.start_cli(*arguments, stdin=side, stdout=side, stderr=side, preexec_fn=own_terminal)
        self.addCleanup(os.close, main)
        self.addCleanup(os.close, side)
        return process, main, side, before

    def read_until(self, main, pattern):
        seen = b""
        end = time.monotonic() + SOON
        while not re.search(pattern, seen):
            ready, _, _ = select.select([main], [], [], max(0, end - time.monotonic()))
            self.assertTrue(ready, f"{pattern} does not appear in {seen[-2000:]}")
            seen += os.read(main, 65536)
        return seen

    def shown(self, *arguments, status=0, **options):
        """The lines of a command that ends."""
        process, main, _, _ = self.on_terminal(*arguments, **options)
        seen = b""
        while process.poll() is None or select.select([main], [], [], 0)[0]:
            if select.select([main], [], [], 0.05)[0]:
                seen += os.read(main, 65536)
        self.assertEqual(process.returncode, status, seen)
        return seen.decode().replace("\r\n", "\n").splitlines()

    def test_tables_fit_80_columns(self):
        name = "a-rather-long/topic-name/that-goes/on-and-on/" + "x" * 120
        publisher = self.start_cli("pub", name, "--lines", stdin=subprocess.PIPE)
        subscriber = self.start_cli("sub", name, stdout=subprocess.DEVNULL)
        self.wait_for_subscriber(name)
        publisher.stdin.write(b"x\n" * 1000)
        publisher.stdin.flush()
        for arguments in (["ls"], ["ls", "--sessions"], ["ls", "--segments"], ["holders"], ["doctor"],
                          ["info", name], ["top", "--once", "--interval", "0.05"]):
            for line in self.shown(*arguments):
                line = re.sub("\x1b\\[[0-9;]*m", "", line)
                if name in line or ("/" in line and " " not in line.strip()):
                    continue  # asked for, or one long path
                self.assertLessEqual(len(line), 80, arguments)
        self.assertIn("…", "".join(self.shown("ls")))
        for line in self.shown("ping", "--count", "20") + self.shown("info", "no/" + name, status=6):
            self.assertLessEqual(len(line), max(80, len(name) + 10))
        self.assertIsNone(subscriber.poll())

    def test_a_sample_on_a_terminal_is_hex(self):
        self.run_cli("pub", "t", given=b"hello\x1b[31m")
        shown = self.shown("sub", "t", "--start", "oldest", "--count", "1")
        self.assertRegex(shown[-1], r"^  00000000  68 65 6c 6c 6f 1b 5b 33  31 6d .*\|hello\.\[31m\|$")

    def test_top_has_a_screen_of_its_own(self):
        for index in range(30):
            self.run_cli("pub", f"t/{index:02}", "--linger", "-1", given=b"x")
        for how, status in ((b"q", 0), (b"\x03", 130)):
            process, main, side, before = self.on_terminal("top", "--interval", "0.05")
            seen = self.read_until(main, rb"\x1b\[\?1049h(?s:.*)TOPIC(?s:.*)\x1b\[J")
            self.assertIn("… 10 more".encode(), seen)
            self.assertIn(b"30 topics, 0 sessions", seen)
            self.assertNotEqual(termios.tcgetattr(side), before)
            os.write(main, how)
            self.assertEqual(process.wait(SOON), status)
            self.read_until(main, rb"\x1b\[\?25h\x1b\[\?1049l")
            self.assertEqual(termios.tcgetattr(side), before)


if __name__ == "__main__":
    sys.exit(unittest.main())
