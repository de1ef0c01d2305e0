"""`python -m alexnet_jax COMMAND ...`"""

import os
import signal
import sys

from alexnet_jax.memory import restart_with_settings


def run() -> int:
    """The exit status of the command; that of a closed pipe, or of Ctrl-C, where there was one."""
    from alexnet_jax.cli import main

    try:
        try:
            return main(sys.argv[1:])
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # whoever read has seen enough, such as `... --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:  # the second Ctrl-C of a run that was to be saved
        return 130


if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Ctrl-C ends it without a traceback, in the middle of imports, too; a run saves first.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    restart_with_settings()  # before anything slow is imported
    sys.exit(run())
