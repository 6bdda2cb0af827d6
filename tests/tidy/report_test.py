#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""scripts/test_report counts what did not run as skipped, with its reason, and what is missing as failed."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

REPORT = pathlib.Path(__file__).parents[2] / "scripts" / "test_report"
SUITE = '<?xml version="1.0"?>\n<testsuite>{}</testsuite>\n'
PASSED = '<testcase name="Lane.Good" status="run"><system-out>fine</system-out></testcase>'
FAILED = '<testcase name="Lane.Bad" status="fail"><failure message=""/><system-out>no</system-out></testcase>'
SKIPPED = ('<testcase name="Lane.Skipped" status="notrun"><skipped message="SKIP_REGULAR_EXPRESSION_MATCHED"/>'
           "<system-out>lane_test.cpp:7: Skipped\none CPU only\n[  SKIPPED ] Lane.Skipped</system-out></testcase>")
NOT_RUN = ('<testcase name="Containers" status="notrun"><skipped message="SKIP_RETURN_CODE=77"/>'
           "<system-out>not_run: no podman</system-out></testcase>")
MISSING = '<testcase name="Gone" status="notrun"><skipped message="Unable to find executable"/></testcase>'


class ReportTest(unittest.TestCase):
    def report(self, cases, steps="", log=""):
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, "release.log").write_text(log)
            pathlib.Path(folder, "release.xml").write_text(SUITE.format("".join(cases)))
            pathlib.Path(folder, "steps.tsv").write_text(steps)
            run = subprocess.run([sys.executable, REPORT, folder], stdout=subprocess.PIPE, text=True)
            return run.returncode, run.stdout.splitlines()

    def test_all_passed(self):
        self.assertEqual(self.report([PASSED, PASSED], "passed\tbuild\t\n"), (0, ["3 passed, 0 failed"]))

    def test_reasons_come_before_the_count(self):
        self.assertEqual(self.report([PASSED, SKIPPED, NOT_RUN]), (0, [
            "not_run  release: Lane.Skipped: one CPU only", "not_run  release: Containers: no podman",
            "1 passed, 0 failed, 2 skipped"]))

    def test_missing_programs_and_failed_steps_are_failures(self):
        status, lines = self.report([PASSED, FAILED, MISSING], "failed\tdev: build\tstatus 1\n")
        self.assertEqual((status, lines[-1]), (1, "1 passed, 3 failed"))
        self.assertIn("FAILED  release: Gone: Unable to find executable", lines)

    def test_a_second_try_is_named(self):
        log = ("1/1 Test #7: Lane.Good ........***Failed    0.10 sec\n"
               "    Test #7: Lane.Good ........   Passed    0.10 sec\n")
        self.assertEqual(self.report([PASSED], log=log), (0, [
            "RETRIED  release: Lane.Good: passed only when it was run again", "1 passed, 0 failed"]))

    def test_nothing_passed_is_no_success(self):
        self.assertEqual(self.report([])[0], 1)


if __name__ == "__main__":
    unittest.main()
