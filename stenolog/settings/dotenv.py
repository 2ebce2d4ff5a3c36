"""The file `.env` of the current directory."""

from pathlib import Path


def read_dotenv(path: Path | None = Path(".env")) -> dict[str, str]:
    """The variables in the file; none if it does not exist."""
    if path is None or not path.is_file():
        return {}
    # Imported here: most processes have no such file.
    from dotenv import dotenv_values  # noqa: PLC0415

    return {name: value or "" for name, value in dotenv_values(path, interpolate=False).items()}
