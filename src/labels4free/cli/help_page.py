"""Prints the help of the command and of every verb: ``python -m labels4free.cli.help_page > docs/cli-help.txt``."""

from __future__ import annotations

import os
import shlex
from contextlib import redirect_stdout
from io import StringIO

from labels4free.cli import VERBS, main

SUBVERBS = {"models": ("list", "fetch", "path")}
PAGES = [
    [],
    *([verb] for verb in VERBS),
    *([verb, subverb] for verb, subverbs in SUBVERBS.items() for subverb in subverbs),
]


def help_page(width: int = 100) -> str:
    """Return the help of the command, every verb and every sub-verb, each under the command line that shows it.

    Args:
        width: Columns of the page, whatever those of the terminal.
    """
    os.environ |= {"COLUMNS": str(width), "LINES": "40"}
    return "\n".join(f"$ {shlex.join(['labels4free', *page, '--help'])}\n{_help([*page, '--help'])}" for page in PAGES)


def _help(arguments: list[str]) -> str:
    with redirect_stdout(StringIO()) as out:
        try:
            main(arguments)
        except SystemExit as end:
            if end.code:
                raise
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().strip().splitlines())


if __name__ == "__main__":
    print(help_page(), end="")
