"""The process that runs a page's Python blocks, one after another, in one module.

Reads one JSON line for each block, `{"code": …, "file": …, "line": …}`, and answers with one,
`{"output": …, "error": …}`.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import traceback


def main() -> None:
    namespace = {"__name__": "__main__"}
    answers = sys.stdout
    sys.path.insert(0, "")
    for request in map(json.loads, sys.stdin):
        output, error = io.StringIO(), None
        try:
            # Empty lines before the code: so that a traceback tells the page's own line.
            code = compile("\n" * (request["line"] - 1) + request["code"], request["file"], "exec")
            with contextlib.redirect_stdout(output):
                exec(code, namespace)
        except BaseException:  # noqa: BLE001 - whatever a block raises is the answer
            error = traceback.format_exc()
        answers.write(json.dumps({"output": output.getvalue(), "error": error}) + "\n")
        answers.flush()


main()
