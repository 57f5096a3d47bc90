"""``python -m s2scli`` is ``s2s``; ``torchrun -m s2scli train`` needs it in this form."""

from __future__ import annotations

import sys

from s2scli.start import main

if __name__ == "__main__":
    sys.exit(main())
