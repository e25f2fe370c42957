"""The Celery settings, for the worker that receives and the relay that sends.

Every setting has its reason in `docs/decisions/0003-jobs-leases-and-wake-ups.md`. Deliberately not
set: `worker_max_tasks_per_child`, because the pool child keeps the warm trainer.
"""

from typing import Final

from celery import Celery

from core.redis_url import celery_broker_url
from core.settings import Settings
from core.task_names import QUEUE

_UNCONFIGURED_BROKER: Final = "redis://127.0.0.1:6379/0"


def make_celery_app(settings: Settings) -> Celery:
    """Build the application; the relay uses one too, to send."""
    app = Celery("tuneward", include=["worker.tasks", "worker.process_signals"])
    redis_url = settings.redis_url or _UNCONFIGURED_BROKER
    app.conf.update(
        broker_url=celery_broker_url(redis_url),
        result_backend=None,
        task_ignore_result=True,
        task_acks_late=False,
        worker_disable_prefetch=True,
        worker_prefetch_multiplier=1,
        worker_concurrency=1,
        worker_pool="prefork",
        worker_pool_start_method="spawn",
        worker_proc_alive_timeout=60,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_soft_shutdown_timeout=20,
        worker_send_task_events=False,
        task_serializer="json",
        result_serializer="json",
        accept_content=["json"],
        task_time_limit=None,
        task_soft_time_limit=None,
        task_default_queue=QUEUE,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "visibility_timeout": 3600,
            "socket_timeout": 5,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 25,
            "retry_on_timeout": False,
        },
        task_publish_retry_policy={
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0.1,
            "interval_max": 0.2,
        },
        worker_hijack_root_logger=False,
    )
    return app
