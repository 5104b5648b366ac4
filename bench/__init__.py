"""Measurements of this machine, on top of glue: python -m bench."""

import glue as glue  # puts images/trainer on the path
