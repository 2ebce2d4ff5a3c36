"""Every setting in one typed place: default, unit and reason, read from the environment and `.env`."""

from stenolog.settings.load import SettingsError, is_loopback, load
from stenolog.settings.model import Settings

__all__ = ["Settings", "SettingsError", "is_loopback", "load"]
