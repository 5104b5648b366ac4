"""The demonstration, on top of glue: python -m rehearsal."""

import glue as glue  # puts images/trainer on the path
