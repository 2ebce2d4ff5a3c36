"""Processes of the tests that must not outlive them, however they end."""

import subprocess


class Watcher:
    """Ends another process when this one dies, kill -9 included: its standard input closes then."""

    def __init__(self, pid: int, signal_name: str = "KILL") -> None:
        """Will send `pid` this signal."""
        # A session of its own: Ctrl-C goes to pytest, which then stops everything in order.
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", 'read -r _; kill -"$1" "$0"', str(pid), signal_name], stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )

    def stop(self) -> None:
        """Let go; to be called before the process ends, whose number another may get."""
        self._shell.kill()
        self._shell.communicate()
