#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Each check of tidy.py, on a small tree made for it: finds what is wrong, and is silent where nothing is."""
import pathlib
import tempfile
import unittest

import tidy

SPDX = "// SPDX-License-Identifier: MIT\n"


class TidyTest(unittest.TestCase):
    def offences(self, check, tree):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for name, text in tree.items():
                path = root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            return list(check(root))

    def test_arrow_is_one_way(self):
        self.assertEqual(len(self.offences(tidy.include_arrow, {
            "client/src/a.cpp": '#include "daemon/registry.hpp"\n',
            "daemon/b.cpp": '#include "client/src/session.hpp"\n#include <holdfast/holdfast.h>\n',
            "proto/shm/c.hpp": "#include <vector>\n",
            "daemon/broker/d.cpp": "#include <unistd.h>\n",
            "examples/e.cpp": '#include "proto/shm/lane_layout.hpp"\n',
        })), 6)
        self.assertEqual(self.offences(tidy.include_arrow, {
            "client/src/a.cpp": '#include "proto/shm/lane_layout.hpp"\n#include <vector>\n',
            "daemon/b.cpp": '#include "daemon/limits.hpp"\n#include <boost/asio.hpp>\n',
            "examples/e.cpp": "#include <holdfast/holdfast.hpp>\n",
        }), [])

    def test_words(self):
        self.assertEqual(len(self.offences(tidy.banned_words, {
            "client/src/utils.cpp": SPDX, "daemon/a.cpp": "class SessionManager {};\n", "docs/b.md": "TODO later\n",
        })), 3)
        self.assertEqual(self.offences(tidy.banned_words, {"daemon/reaper.cpp": "class Reaper {};\n"}), [])

    def test_spdx(self):
        self.assertEqual(len(self.offences(tidy.spdx_lines, {"a.cpp": "int a;\n", "run": "#!/bin/sh\n"})), 2)
        self.assertEqual(self.offences(tidy.spdx_lines, {"a.cpp": SPDX, "notes.txt": "words\n"}), [])

    def test_next_sources(self):
        cmake = {"cmake/next.cmake": "${PROJECT_SOURCE_DIR}/daemon/a.cpp\n${PROJECT_SOURCE_DIR}/daemon/b.cpp\n"}
        include = '#include "proto/control/versions.hpp"\n'
        self.assertEqual(len(self.offences(tidy.next_sources, {
            **cmake, "daemon/a.cpp": include, "daemon/b.cpp": "", "client/src/c.cpp": "#if HOLDFAST_NEXT\n",
            "daemon/d.hpp": include,
        })), 3)
        self.assertEqual(self.offences(tidy.next_sources, {
            **cmake, "daemon/a.cpp": include, "daemon/b.cpp": "#if HOLDFAST_NEXT\n", "daemon/e.cpp": "",
            "proto/control/versions.hpp": "#ifndef HOLDFAST_NEXT\n", "tests/f.cpp": include,
        }), [])

    def test_documents(self):
        self.assertEqual(len(self.offences(tidy.documents_reachable, {
            "README.md": "[a](docs/a.md) [gone](docs/gone.md)", "docs/a.md": "", "docs/lonely.md": "",
        })), 2)
        self.assertEqual(self.offences(tidy.documents_reachable, {
            "README.md": "[a](docs/a.md#x) [all](docs/adr/)", "docs/a.md": "[b](b.md)", "docs/b.md": "", "docs/adr/1.md": "",
        }), [])

    def test_format(self):
        style = {".clang-format": "BasedOnStyle: Google\n"}
        try:
            self.assertTrue(self.offences(tidy.clang_format, {**style, "a.cpp": "int  main( ){return 0 ;}\n"}))
            self.assertEqual(self.offences(tidy.clang_format, {**style, "a.cpp": "int main() { return 0; }\n"}), [])
        except tidy.NotRun as reason:
            self.skipTest(str(reason))


if __name__ == "__main__":
    unittest.main()
