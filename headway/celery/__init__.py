"""The tasks of an existing Celery project as jobs: `instrument(app)`, once, where the app is made.

See docs/celery.md. This package does not shadow the `celery` distribution: imports are absolute.
"""

try:
    from headway.celery.instrumentation import instrument, job_id
except ModuleNotFoundError as error:
    raise ImportError(f"headway.celery needs {error.name}: pip install 'headway[celery]'") from None

__all__ = ["instrument", "job_id"]
