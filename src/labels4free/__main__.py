"""``python -m labels4free`` is the ``labels4free`` command."""

import sys

from labels4free.cli import main

sys.exit(main())
