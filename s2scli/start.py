"""Where the program begins: from here on Ctrl-C ends it with a word, and no traceback."""

from __future__ import annotations

import sys

from s2scli.loading import INTERRUPTED, loading


def main() -> int:
    """Run the command line and give its exit code."""
    try:
        with loading():
            from s2scli.cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        return INTERRUPTED
    return run()
