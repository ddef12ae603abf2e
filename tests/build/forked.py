"""Runs code in processes forked from this one, which has imported torch and numpy and nothing of the package.

Every line of standard input is a request in JSON; a line of standard output answers it. An interpreter of its own for
each would spend its time importing torch.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import traceback
from typing import IO, Any

import numpy  # noqa: F401  forked processes have it
import torch  # noqa: F401


def execute(request: dict[str, Any]) -> int:
    """What ``python -c`` does with the code; its exit code."""
    sys.path[0] = request["path"]  # in the place of this file's folder
    os.chdir(request["cwd"])
    os.environ.update(request["variables"])
    try:
        exec(compile(request["code"], "<string>", "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        if not isinstance(end.code, str):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def answer(request: dict[str, Any], out: IO[str], err: IO[str]) -> dict[str, Any]:
    process = os.fork()
    if process == 0:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        signal.setitimer(signal.ITIMER_REAL, request["timeout"])  # whose signal ends the process
        code = execute(request)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    texts = [file.seek(0) or file.read() for file in (out, err)]
    return {"returncode": code, "stdout": texts[0], "stderr": texts[1]}


def main() -> None:
    for line in sys.stdin:
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            print(json.dumps(answer(json.loads(line), out, err)), flush=True)


if __name__ == "__main__":
    main()
