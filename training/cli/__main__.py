"""`python -m training.cli` is the same as `chexanatomy`."""

import sys

from training.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
