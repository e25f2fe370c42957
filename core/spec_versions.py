"""Which job specs this release can read.

A worker claims no job with a newer version, so that one of an earlier release leaves it to others
instead of failing it. A spec gets a new version when an earlier worker would do something else
than was asked for, or could not read it at all.
"""

from typing import Final

FOLLOW_UP_VERSION: Final = 2
NEWEST_VERSION: Final = FOLLOW_UP_VERSION
