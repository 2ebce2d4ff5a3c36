"""Prints the page of all settings: `python -m stenolog.settings > docs/settings.md`."""

import sys

from stenolog.settings.page import render

sys.stdout.write(render())
