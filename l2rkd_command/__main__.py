"""`python -m l2rkd_command` does what `l2rkd` does."""

import sys

from l2rkd_command.main import main

sys.exit(main())
