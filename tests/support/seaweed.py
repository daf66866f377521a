"""SeaweedFS: an object storage of a test's own that speaks S3 and checks signatures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Self

import obstore
from obstore.store import S3Store

from tests.support.host import HERE, Host
from tests.support.stack import free_port
from tests.support.wait import until

BUCKET = "headway"
ACCESS = {"AWS_ACCESS_KEY_ID": "AKTESTS", "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-tests"}


class Seaweed:
    """Starts when the block is entered, with an empty bucket; `kill`, `pause` and `start` it in between."""

    def __init__(self, directory: Path, host: Host = HERE) -> None:
        self._host = host
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.endpoint = f"http://{host.address}:{self.port}"
        self._ports = {name: free_port() for name in ("master", "volume", "filer")}
        # Beside each port there is one for gRPC, by default 10,000 higher.
        self._grpc = {name: free_port() for name in ("master", "volume", "filer", "s3")}
        identity = {
            "name": "tests",
            "credentials": [
                {
                    "accessKey": ACCESS["AWS_ACCESS_KEY_ID"],
                    "secretKey": ACCESS["AWS_SECRET_ACCESS_KEY"],
                }
            ],
            "actions": ["Admin", "Read", "Write", "List"],
        }
        self._config = directory / "s3.json"
        self._config.write_text(json.dumps({"identities": [identity]}))

    def url(self, prefix: str, endpoint: str | None = None) -> str:
        """FILES_URL for the files of one service, by another address if one is given."""
        return f"s3://{BUCKET}/{prefix}?endpoint={endpoint or self.endpoint}"

    def store(self, prefix: str = "") -> S3Store:
        """What is below a prefix of the bucket, to look at."""
        return self._bucket(BUCKET, prefix)

    def _bucket(self, name: str, prefix: str = "") -> S3Store:
        return S3Store(
            name,
            prefix=prefix or None,
            endpoint=self.endpoint,
            region="us-east-1",
            access_key_id=ACCESS["AWS_ACCESS_KEY_ID"],
            secret_access_key=ACCESS["AWS_SECRET_ACCESS_KEY"],
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
        )

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """Also that of its process group."""
        return self.process.pid

    @property
    def log(self) -> str:
        return (self.directory / "out").read_text(errors="replace")

    def start(self) -> None:
        """Start it on what it has kept if it ran before, and wait until it takes files."""
        self.launch()
        bucket = obstore.sign(self._bucket(""), "PUT", BUCKET, timedelta(minutes=1))

        def ready() -> bool:
            assert self.process.poll() is None, self.log
            with suppress(OSError):
                # Again once it is there: 409.
                with suppress(urllib.error.HTTPError):
                    urllib.request.urlopen(urllib.request.Request(bucket, method="PUT"), timeout=5).close()
                with suppress(obstore.exceptions.BaseError):
                    self.store().put("started", b"1")
                    return True
            return False

        until(ready, 60, lambda: f"SeaweedFS:\n{self.log[-4000:]}")

    def launch(self) -> subprocess.Popen[bytes]:
        data = self.directory / "data"
        data.mkdir(exist_ok=True)
        ports = [
            f"-{name}.port{kind}={port}"
            for kind, of in (("", self._ports), (".grpc", self._grpc))
            for name, port in of.items()
        ]
        with (self.directory / "out").open("ab") as out:
            self.process = subprocess.Popen(
                [
                    *self._host.enter,
                    *(
                        str(Path(sys.executable).parent / "weed"),
                        "server",
                        f"-ip={self._host.address}",
                        f"-ip.bind={self._host.address}",
                        f"-dir={data}",
                    ),
                    *("-s3", f"-s3.port={self.port}", f"-s3.config={self._config}", *ports),
                    *("-master.volumeSizeLimitMB=64", "-volume.max=40", "-volume.minFreeSpace=0"),
                    *("-master.volumePreallocate=false", "-master.telemetry=false"),
                    # These have ports that all would share.
                    *("-s3.port.iceberg=0", "-s3.port.lance=0"),
                ],
                env={**os.environ, "HOME": str(self.directory)},
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self.process

    def kill(self) -> None:
        with suppress(ProcessLookupError, AttributeError):
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
