"""``python -m scripts.results``."""

import sys

from scripts.results import main

sys.exit(main())
