"""What the service and the workers agree on. Imports no Flask, no gevent and no Celery."""
