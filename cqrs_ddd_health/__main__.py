"""`python -m cqrs_ddd_health`: the command line, where scripts are not installed."""

import sys

from .cli.parser import main

if __name__ == "__main__":
    sys.exit(main())
