"""Ends processes of the tests with the tests, even after kill -9."""

import subprocess


class Watcher:
    """Ends another process when this one dies, kill -9 included: the watcher's standard input closes then."""

    def __init__(self, pid: int, signal_name: str = "KILL") -> None:
        """Prepare to send `pid` this signal."""
        # A session of its own: Ctrl-C goes to pytest, which then stops everything in order.
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", 'read -r _; kill -"$1" "$0"', str(pid), signal_name], stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )

    def stop(self) -> None:
        """Stop watching; call it before the process ends, as another process may get its id."""
        self._shell.kill()
        self._shell.communicate()
