"""What systemd runs: play VM XML ROUNDS REPORT | rescue VM REPORT [UNIT]"""

import argparse
import sys

from vfio_hooks.rehearse.rescue import rescue
from vfio_hooks.rehearse.service import conduct


def main() -> int:
    parser = argparse.ArgumentParser(prog="rehearse", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    play = verbs.add_parser("play", help="start and end the clone, and compare the host")
    play.add_argument("vm")
    play.add_argument("xml", help="a file with the clone's XML")
    play.add_argument("rounds", type=int)
    play.add_argument("report")
    undo = verbs.add_parser("rescue", help="undo what a service that died has left")
    undo.add_argument("vm")
    undo.add_argument("report")
    undo.add_argument("unit", nargs="?", help="the display manager, where it ran before")
    arguments = parser.parse_args()
    if arguments.verb == "play":
        return conduct(arguments.vm, arguments.xml, arguments.rounds, arguments.report)
    return rescue(arguments.vm, arguments.report, arguments.unit)


sys.exit(main())
