"""`python -m alexnet_jax COMMAND ...`"""

import sys

from alexnet_jax.memory import restart_with_settings

if __name__ == "__main__":
    restart_with_settings()  # before anything slow is imported

    from alexnet_jax.cli import main

    sys.exit(main(sys.argv[1:]))
