"""The `request_buckets` table: how many requests each key has left."""

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from core.models.base import Base


class RequestBucket(Base):
    """A key's bucket of requests, which fills steadily until `full_at`.

    The table is unlogged and names no key by a foreign one: losing a row only fills a bucket.
    """

    __tablename__ = "request_buckets"
    __table_args__ = ({"prefixes": ["UNLOGGED"]},)

    key_id: Mapped[str] = mapped_column(primary_key=True)
    full_at: Mapped[datetime]
