__version__ = "0.1.0"  # before the import below, which needs it

from leadgateway.celery import app as celery_app

__all__ = ["celery_app"]
