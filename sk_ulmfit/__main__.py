"""``python -m sk_ulmfit`` is ``sk-ulmfit``."""

import sys

from sk_ulmfit.cli.main import main

sys.exit(main())
