"""`python -m cqrs_ddd_health.cli`, where scripts are not installed."""

import sys

from .parser import main

if __name__ == "__main__":
    sys.exit(main())
