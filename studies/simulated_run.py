"""``study run`` with fake work: ``python -m studies.simulated_run STUDY --engine ray --address HOST:PORT``.

Every worker of the local engine imports this module anew, so it imports nothing before it is called.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Run a study with fake work, as ``study run`` would, and return its exit code."""
    from disentangle_ext.study.command_line import parse
    from disentangle_ext.study.engines.flags import engine_of
    from disentangle_ext.study.execute import execute, tasks_of
    from disentangle_ext.study.plan import Study
    from studies.simulated_study import noted_work

    request = parse(["run", *arguments], __doc__)
    study = Study(request.study)
    tasks = tasks_of(study, device="cpu", retry_failed=request.retry_failed)
    result = execute(study, engine_of(request), tasks, do=noted_work)
    print(f"{result.asked} asked, {result.finished} finished, {result.elsewhere} elsewhere", flush=True)
    for name, why in result.problems.items():
        print(f"{name}: {why}", file=sys.stderr)
    return result.code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
