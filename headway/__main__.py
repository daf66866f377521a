"""`python -m headway` is the command `headway`."""

import sys

from headway.cli.main import main

sys.exit(main())
