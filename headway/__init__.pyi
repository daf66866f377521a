from headway.client import Client as Client
from headway.client import ClientError as ClientError
from headway.sdk.job import Job as Job
from headway.sdk.job_type import Params as Params
from headway.sdk.job_type import job as job
from headway.sdk.retry import Retry as Retry
from headway.sdk.stopping import InvalidInput as InvalidInput
from headway.sdk.stopping import JobStopped as JobStopped

__version__: str
