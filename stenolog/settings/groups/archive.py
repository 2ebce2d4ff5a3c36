"""The archive, which outlives Redis."""

from typing import Annotated, Literal

from stenolog.settings.groups.metadata import number, text
from stenolog.settings.groups.projections import Projections


class Archive(Projections, frozen=True, kw_only=True):
    """The archive, which outlives Redis."""

    archive_url: Annotated[str, text(
        "Archive", "Place where the sink `archive` keeps sessions, and replays find them: the path of a "
        "directory, `file:///…`, or `s3://bucket/prefix` in `aws_region`. Unset: no archive.",
        pattern=r"^(|s3://[a-z0-9][a-z0-9.-]+(/.*)?|file:///.+|(?!\w+:).+)$",
        allowed="a path, file:///path or s3://bucket/prefix")] = ""
    archive_part_s: Annotated[int, number(
        "Archive", "s", "Audio in one file of the archive. Until a part is full, it is in Redis alone; a reader keeps "
        "one in memory. 5 minutes of 16 kHz speech are some 4 MB. Each session keeps the length that it began with.",
        least=10, most=3600)] = 300
    archive_encryption: Annotated[Literal["AES256", "aws:kms", "bucket"], text(
        "Archive", "Encryption of objects in S3, requested with each. `bucket`: the bucket's own default, which a key "
        "of your own needs.")] = "AES256"
