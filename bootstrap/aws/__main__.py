"""The stack from a shell: show it, deploy it, remove it.

    python -m bootstrap.aws show | deploy | remove

Each says first what it would do and what the stack costs a month while nothing runs, and asks.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from rich.markup import escape

from bootstrap.aws.commands import Answers, deploy, remove, show
from bootstrap.aws.idle_costs import INSTANCE_HOURS
from fruits.errors import FruitsError
from fruits.settings import EU_REGIONS
from fruits.terminal import Terminal

COMMANDS = {"show": show, "deploy": deploy, "remove": remove}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0, 1 with what is wrong and the way out, or 2 if nobody confirmed."""
    options = _parser().parse_args(arguments)
    # Clients that are made elsewhere look there.
    os.environ["AWS_DEFAULT_REGION"] = os.environ["AWS_REGION"] = options.region
    terminal = Terminal()
    terminal.show_warnings()
    answers = Answers(terminal, yes=options.yes)
    try:
        return COMMANDS[options.command](options, terminal, answers)
    except NoCredentialsError as error:
        terminal.say(f"[bold red]{escape(str(error))}[/bold red]: of which account is not known.")
        terminal.say("aws configure sso, then export AWS_PROFILE=...; docs/aws.md, step 1.")
        return 1
    except (FruitsError, ClientError, BotoCoreError) as error:
        terminal.say(f"[bold red]{type(error).__name__}[/bold red] {escape(str(error))}")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bootstrap.aws",
        description=__doc__,
        epilog="Credentials are looked for where boto3 looks for them (AWS_PROFILE). docs/aws.md "
        "walks through it.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--name", default="fruits", help="begins the names of all resources")
    parser.add_argument("--region", default="eu-west-3", choices=sorted(EU_REGIONS))
    parser.add_argument("--mail", default="", help="address of the budget's alarm")
    parser.add_argument("--month-cap", default="", help="USD a month above which it mails")
    parser.add_argument("--retention-days", default="", help="how long what is deleted is kept")
    parser.add_argument("--endpoints", default="", choices=["", "kms", "all"])
    parser.add_argument(
        "--settings", help='those that differ: "FRUITS_WORKERS=4 FRUITS_MARKET=SPOT"; "": none'
    )
    parser.add_argument("--airflow", default="", choices=["", "yes", "no"], help="a machine for it")
    types = ["", *INSTANCE_HOURS]  # those with a price
    parser.add_argument("--airflow-type", default="", choices=types, help="its EC2 type")
    parser.add_argument(
        "--delete-images", action="store_true", help="remove: the photographs as well"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--environment", type=Path, default=Path("docker/aws.env"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
