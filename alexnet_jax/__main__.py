"""`python -m alexnet_jax COMMAND ...`"""

import os
import sys

from alexnet_jax.memory import restart_with_settings


def run() -> int:
    """The exit status of the command; that of a closed pipe where nobody reads on."""
    from alexnet_jax.cli import main

    try:
        try:
            return main(sys.argv[1:])
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # whoever read has seen enough, such as `... --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


if __name__ == "__main__":
    restart_with_settings()  # before anything slow is imported
    sys.exit(run())
