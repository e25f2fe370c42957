"""The worker's Celery application; start it with `worker.launch`.

The message is only a wake-up: which job to run, and whether it may run, is decided in Postgres.
"""

from typing import Final

from worker.celery_settings import make_celery_app
from worker.process_signals import settings

celery_app: Final = make_celery_app(settings)
