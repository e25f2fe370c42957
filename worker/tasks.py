"""The only Celery task: a wake-up. It carries nothing and may come twice or never."""

from celery import shared_task

from core.task_names import WAKE_WORKER
from worker import pool_child


@shared_task(name=WAKE_WORKER)
def wake_worker() -> None:
    """Run every job that can be claimed now."""
    pool_child.run_until_idle()
