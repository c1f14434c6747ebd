"""Carry out a plan of Rally tasks: hammer.py --plan PLAN --config RALLY_CONF --database SQLITE_FILE.

Reads the plan that perfci/runs/jobs/rally_plan.py makes, whose paths are the controller's; where this is
another machine, the options say what is where. Writes tasks.json and rally/SLUG.json into the output folder,
Rally's log and a copy of the progress lines into logs/ there.
Exit codes: 0 all tasks were tried, 2 bad plan, 3 the cloud can't be reached, 143 stopped by SIGTERM.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hammer_loop import Hammer, placed
from hammer_rally import RallyEngine
from rally_turns import take_turns
from turns import Turns

if TYPE_CHECKING:
    from types import FrameType


def _stop(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plan", type=Path, required=True)
    parser.add_argument("--config", type=Path, required=True, help="rally.conf")
    parser.add_argument("--database", type=Path, required=True, help="made anew; holds the cloud's password")
    parser.add_argument("--output", help="folder for the results")
    parser.add_argument("--clouds-file", help="clouds.yaml with an administrator's access")
    parser.add_argument(
        "--turns", type=Path, metavar="SOCKET", help="run in lock-step: where the arbiter gives turns"
    )
    parser.add_argument("--side", help="which side of the arbiter's two this one is")
    parser.add_argument("--image-file", help="what the image tasks upload")
    return parser.parse_args()


def main() -> int:
    """Return the exit code."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, _stop)
    plan = placed(
        json.loads(arguments.plan.read_text(encoding="utf-8")),
        output=arguments.output,
        clouds_file=arguments.clouds_file,
        image_file=arguments.image_file,
    )
    logs = Path(plan["output"]) / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    with (logs / "rally-progress.log").open("a", encoding="utf-8", buffering=1) as log:

        def say(text: str) -> None:
            print(text, end="", flush=True)
            log.write(text)
            log.flush()

        engine = RallyEngine(
            plan["cloud"], config=arguments.config, database=arguments.database, log=logs / "rally.log"
        )
        turns = None
        if arguments.turns:
            turns = Turns(arguments.turns, arguments.side)
            take_turns(turns)
        hammer = Hammer(plan, engine, say=say, turns=turns)
        code = hammer.run()
    if hammer.lost:
        print(f"the cloud can't be reached: {hammer.lost}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
