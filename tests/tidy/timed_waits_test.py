#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""timed_waits.py finds each wait by the wall clock that is planted, and none of those by the monotonic one."""
import pathlib
import tempfile
import unittest
from unittest import mock

import timed_waits

GOOD = {
    "client/src/a.cpp": "sem_clockwait(&bell.semaphore, CLOCK_MONOTONIC, &until);\n"
                        "::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr);\n"
                        "// sem_timedwait() goes by CLOCK_REALTIME\n"
                        'say("system_clock"); char quote = \'"\'; asio::steady_timer pause(io_);\n',
    "daemon/b.cpp": "int fd = ::timerfd_create(CLOCK_MONOTONIC,\n    TFD_CLOEXEC);\npoll(&one, 1, 10);\nx.time(0);\n",
    "tests/c.py": "import time\nbegan = time.monotonic()\n",
}
# What is planted at the end of client/src/a.cpp, which has four lines, and whether it hides from a search for words.
BAD = (
    "sem_timedwait(&semaphore, &until);",
    "sem_clockwait(&semaphore, CLOCK_REALTIME, &until);",
    "sem_clockwait(at(semaphores, 3), clock_, &until);",
    "pthread_cond_timedwait(&cond, &mutex, &until);",
    "pthread_mutex_timedlock(&mutex, &until);",
    "pthread_cond_clockwait(&cond, &mutex, clock, &until);",
    "::timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC);",
    "::clock_nanosleep(0, TIMER_ABSTIME, &until, nullptr);",
    "::syscall(SYS_futex, &word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 1, &until, nullptr, ~0u);",
    "changed.wait_until(lock, std::chrono::system_clock::now() + 1s);",
    "auto now = std::chrono::high_resolution_clock::now();",
    "const auto now = std::time(nullptr);",
    "long now = time(NULL);",
    "::gettimeofday(&now, nullptr);",
    "boost::asio::system_timer timer(io);",
    "::clock_gettime(CLOCK_REALTIME_COARSE, &now);",
)


class TimedWaitsTest(unittest.TestCase):
    def find(self, tree):
        with tempfile.TemporaryDirectory() as folder:
            for name, text in tree.items():
                path = pathlib.Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            return timed_waits.sources(pathlib.Path(folder))

    def test_monotonic_waits_are_counted(self):
        self.assertEqual(self.find(GOOD), ([], 5))

    def test_each_planted_wait_is_found(self):
        for planted in BAD:
            with self.subTest(planted):
                offences, _ = self.find({**GOOD, "client/src/a.cpp": GOOD["client/src/a.cpp"] + planted + "\n"})
                self.assertTrue(offences)
                self.assertTrue(all(offence.startswith("client/src/a.cpp:5: ") for offence in offences), offences)

    def test_python_is_read_too(self):
        offences, _ = self.find({"scripts/a.py": "import time\nuntil = time.time() + 3\n"})
        self.assertEqual(offences, ["scripts/a.py:2: time.time(: reads the wall clock"])

    def test_an_allowance_holds_for_its_file_and_must_be_needed(self):
        line = "clock_gettime(CLOCK_REALTIME, &now);\n"
        with mock.patch.object(timed_waits, "ALLOWED", {("client/a.cpp", "CLOCK_REALTIME"): "a reason"}):
            self.assertEqual(self.find({"client/a.cpp": line})[0], [])
            self.assertEqual(len(self.find({"client/a.cpp": "int a;\n", "client/b.cpp": line})[0]), 2)

    def test_symbols(self):
        self.assertEqual(timed_waits.in_binary("a.so", {"sem_clockwait", "poll", "malloc"}), ([], 2))
        self.assertEqual(timed_waits.in_binary("a.so", {"sem_timedwait", "poll"}),
                         (["a.so: takes sem_timedwait, which waits by the wall clock"], 1))


if __name__ == "__main__":
    unittest.main()
