"""The job as Celery and Huey want it; imported by their workers and by queue_client.py, in their own environment."""

from celery import Celery
from first_line import SOCKET, first_line
from huey import RedisHuey

app = Celery("bench", broker="redis+socket://" + SOCKET, backend="redis+socket://" + SOCKET)
app.conf.update(worker_hijack_root_logger=False, broker_connection_retry_on_startup=True)
celery_job = app.task(first_line)
huey = RedisHuey("bench", url="unix://" + SOCKET, store_none=True, notify_result=True)
huey_job = huey.task()(first_line)
