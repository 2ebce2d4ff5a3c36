"""What outlives Redis: the archive."""

from typing import Annotated, Literal

from stenolog.settings.groups.describing import number, text
from stenolog.settings.groups.projections import Projections


class Archive(Projections, frozen=True, kw_only=True):
    """What outlives Redis: the archive."""

    archive_url: Annotated[str, text(
        "Archive", "Where the projection `archive` keeps sessions, and replays find them: the path of a directory, "
        "`file:///…`, or `s3://bucket/prefix` in `aws_region`. Unset: there is none.", pattern=
        r"^(|s3://[a-z0-9][a-z0-9.-]+(/.*)?|file:///.+|(?!\w+:).+)$",
        allowed="a path, file:///path or s3://bucket/prefix")] = ""
    archive_part_s: Annotated[int, number(
        "Archive", "s", "Audio in one file of the archive. Until a part is full, it is in Redis alone; a reader keeps "
        "one in memory. 5 minutes of 16 kHz speech are some 4 MB. Each session keeps what it began with.", least=10,
        most=3600)] = 300
    archive_encryption: Annotated[Literal["AES256", "aws:kms", "bucket"], text(
        "Archive", "How objects in S3 are encrypted, asked for with each. `bucket`: as the bucket's own default has "
        "it, which a key of your own needs.")] = "AES256"
