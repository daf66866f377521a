"""Settings, read once from the environment and checked before anything starts.

A bad value is one clear line on stderr and exit status 2 (`load_or_exit`); a process never
starts with a setting it does not understand.
"""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from headway.contract.data_dir import gid_of, protect, readable_by_jobs
from headway.contract.files import FilesUrl, parse_files_url
from headway.contract.layout import MAX_PARTITIONS
from headway.contract.server_url import ServerUrl

Positive = Annotated[int, Field(gt=0)]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Seconds = Annotated[float, Field(gt=0, le=31_536_000, allow_inf_nan=False)]
Patience = Annotated[float, Field(ge=0.1, le=3600, allow_inf_nan=False)]
HeadBytes = Annotated[int, Field(ge=4096, le=1 << 20)]
"""Browsers and proxies send 1 to 2 kB of their own, and a ticket or a JWT comes on top."""


_HOST = re.compile(r"([a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_JWT_FAMILIES = (
    ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("ES256", "ES384", "ES512"),
    ("EdDSA",),
    ("HS256", "HS384", "HS512"),
)
"""A key is for one family: with two, a public key could be taken for a shared secret."""
SHORTEST_TRUSTED = {4: 8, 6: 7}
"""Prefixes of the largest private networks: 10.0.0.0/8 and fc00::/7."""
_SECRET = ("redis_url", "celery_broker_url", "files_url", "jwt_jwks_url")
_BROKERS = ("redis", "rediss", "unix", "sentinel", "redis+sentinel", "rediss+sentinel", "amqp", "amqps")
_AMQP = {"heartbeat", "login_method"}


class ConfigError(ValueError):
    """The environment cannot be used; the message is one line and names the variable."""


class Settings(BaseModel):
    """What the environment says, with the defaults of the README's table.

    `redis_url` has no default: the Procfile's processes need one, and `make run` provides its own.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    auth: str = "none"
    jwt_key_file: Path | None = None
    jwt_jwks_url: str = Field(default="", repr=False)
    jwt_issuer: str = ""
    jwt_audience: str = ""
    jwt_algorithms: str = "RS256"
    host: str = "127.0.0.1"
    port: Annotated[int, Field(gt=0, le=65535)] = 8000
    allowed_hosts: frozenset[str] = frozenset()
    cors_origins: frozenset[str] = frozenset()
    trusted_proxies: frozenset[Network] = frozenset(map(ipaddress.ip_network, ("127.0.0.0/8", "::1")))
    web_concurrency: Annotated[int, Field(gt=0, le=256)] = 1
    redis_url: str = Field(repr=False)
    celery_broker_url: str = Field(default="", repr=False)
    redis_ca_file: Path | None = None
    redis_tls_verify: bool = True
    worker_concurrency: Annotated[int, Field(gt=0, le=1024)] = Field(
        default_factory=lambda: os.cpu_count() or 1
    )
    data_dir: Path = Path("var")
    data_group: str = ""
    files_url: str = Field(default="", repr=False)
    files_redirect: bool = True
    secret_file: Path | None = None
    max_upload_bytes: Positive = 10 * 1024**3
    upload_ttl_s: Seconds = 86_400
    upload_quota_bytes: Annotated[int, Field(ge=0)] = 50 * 1024**3
    min_free_bytes: Annotated[int, Field(ge=0)] = 256 * 1024**2
    max_attempts: Annotated[int, Field(gt=0, le=100)] = 3
    job_timeout_s: Seconds = 86_400
    submit_rate: Annotated[float, Field(ge=0, le=1_000_000)] = 100
    max_live_jobs: Annotated[int, Field(ge=0)] = 10_000
    create_replicas: Annotated[int, Field(ge=0, le=100)] = 0
    lease_s: Annotated[float, Field(ge=1, le=3600)] = 12
    heartbeat_s: Annotated[float, Field(ge=0.1, le=3600)] = 15
    events_per_job: Annotated[int, Field(ge=10, le=1_000_000)] = 2000
    keep_progress: bool = False
    retention_s: Seconds = 7 * 86_400
    drain_s: Annotated[float, Field(ge=0, le=3600)] = 4
    drain_jobs_s: Annotated[float, Field(ge=0, le=604_800, allow_inf_nan=False)] = 0
    webhook_allow: frozenset[Network] = frozenset()
    max_request_line_bytes: HeadBytes = 40_960
    max_request_header_bytes: HeadBytes = 24_576
    head_timeout_s: Patience = 10
    body_timeout_s: Patience = 10
    max_streams: Annotated[int, Field(ge=0)] = 20_000
    max_connections_per_caller: Annotated[int, Field(ge=0)] = 1000
    max_streams_per_caller: Annotated[int, Field(ge=0)] = 1000
    max_streams_per_owner: Annotated[int, Field(ge=0)] = 10_000
    headway_tasks: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    recycle_jobs: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    recycle_mib: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    type_ttl_s: Seconds = 7 * 86_400
    sandbox: Literal["auto", "require", "off"] = "auto"
    max_memory_bytes: Annotated[int, Field(ge=256 * 1024**2)] = 4 * 1024**3
    max_output_bytes: Positive = 20 * 1024**3
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["text", "json"] = "text"
    key_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9:_-]{0,64}$")] = "headway:"
    partitions: Annotated[int, Field(gt=0, le=MAX_PARTITIONS)] | None = None

    @field_validator("redis_url")
    @classmethod
    def _is_a_redis_url(cls, value: str) -> str:
        ServerUrl.of(value)
        return value

    @field_validator("celery_broker_url")
    @classmethod
    def _is_a_broker_url(cls, value: str) -> str:
        scheme = value.partition("://")[0]
        if value and scheme not in _BROKERS:
            *others, last = (f"{scheme}://" for scheme in _BROKERS)
            raise ValueError(f"is not a {', '.join(others)} or {last} URL")
        if scheme in ("amqp", "amqps"):
            unknown = {name for name, _ in parse_qsl(urlsplit(_server_url(value, _BROKERS)).query)} - _AMQP
            if unknown:
                raise ValueError(f"has the parameter {min(unknown)!r}; it takes {', '.join(sorted(_AMQP))}")
            return value
        if value:
            _broker_in_redis(value)
        return value

    @field_validator("files_url")
    @classmethod
    def _names_files(cls, value: str) -> str:
        parse_files_url(value, Path())
        return value

    @field_validator("redis_ca_file")
    @classmethod
    def _is_a_file(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            raise ValueError("is not a file")
        return value

    @field_validator("data_group")
    @classmethod
    def _is_a_group(cls, value: str) -> str:
        try:
            if value:
                gid_of(value)
        except KeyError:
            raise ValueError("is not a group of this machine") from None
        return value

    @field_validator("headway_tasks", "queues", "types", mode="before")
    @classmethod
    def _each_name_once(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))

    @field_validator("headway_tasks")
    @classmethod
    def _are_modules(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not all(part.isidentifier() for part in name.split(".")):
                raise ValueError(f"{name!r} is not the name of a module, such as myapp.jobs")
        return value

    @field_validator("queues", "types")
    @classmethod
    def _are_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if len(name) > 128 or not name.isprintable() or " " in name:
                raise ValueError(f"{name!r} is not a name; it takes names separated by commas")
        return value

    @field_validator("allowed_hosts", "cors_origins", mode="before")
    @classmethod
    def _separated_by_commas(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return frozenset(part.strip().lower() for part in value.split(",") if part.strip())

    @field_validator("trusted_proxies", "webhook_allow", mode="before")
    @classmethod
    def _are_networks(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            parts = [part.strip() for part in value.split(",") if part.strip()]
            return frozenset(map(ipaddress.ip_network, parts))
        except ValueError as error:
            raise ValueError(f"{error}; it takes addresses and networks such as 10.1.0.0/16") from None

    @field_validator("trusted_proxies")
    @classmethod
    def _are_not_everybody(cls, value: frozenset[Network]) -> frozenset[Network]:
        for version, shortest in SHORTEST_TRUSTED.items():
            # Together, or two halves of the world would be two networks of reasonable size.
            together: Any = ipaddress.collapse_addresses(n for n in value if n.version == version)
            if any(network.prefixlen < shortest for network in together):
                raise ValueError(
                    f"trusts more than a /{shortest} of IPv{version}, and each client there could claim "
                    "any address; name your proxies"
                )
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _are_hosts(cls, value: frozenset[str]) -> frozenset[str]:
        for host in value:
            if not _HOST.fullmatch(host):
                raise ValueError(f"{host!r} is not a host name, such as jobs.example.org or 10.0.0.7:8000")
        return value

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: frozenset[str]) -> frozenset[str]:
        for origin in value:
            scheme, _, host = origin.partition("://")
            if scheme not in ("http", "https") or not _HOST.fullmatch(host):
                raise ValueError(f"{origin!r} is not an origin, such as https://app.example.org")
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _any_case(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("auth")
    @classmethod
    def _is_a_mode(cls, value: str) -> str:
        modes = ",".join(part.strip() for part in value.split(","))
        if modes not in ("none", "keys", "jwt", "keys,jwt", "jwt,keys"):
            raise ValueError("is none, keys, jwt or keys,jwt")
        return modes

    @field_validator("jwt_jwks_url")
    @classmethod
    def _is_safe_to_fetch(cls, value: str) -> str:
        parts = urlsplit(_server_url(value, ("http", "https")))
        loopback = parts.hostname in ("127.0.0.1", "::1", "localhost")
        if not parts.hostname or not (parts.scheme == "https" or loopback) or not value.isascii():
            raise ValueError("is not an https:// address (or http:// on loopback) in ASCII")
        if "@" in parts.netloc or " " in value or not value.isprintable():
            raise ValueError("has a user, a password or a space; none of them would be sent")
        return value

    @field_validator("jwt_algorithms")
    @classmethod
    def _are_of_one_family(cls, value: str) -> str:
        names = [name.strip() for name in value.split(",")]
        families = {next((f for f in _JWT_FAMILIES if name in f), None) for name in names}
        if None in families or len(families) > 1:
            raise ValueError(
                "is not one family of algorithms: " + "; ".join(",".join(f) for f in _JWT_FAMILIES)
            )
        return ",".join(names)

    @model_validator(mode="after")
    def _has_all_that_jwt_needs(self) -> Settings:
        if "jwt" in self.auth:
            if not self.jwt_issuer or not self.jwt_audience:
                raise ValueError("AUTH=jwt needs JWT_ISSUER and JWT_AUDIENCE")
            if (self.jwt_key_file is None) == (not self.jwt_jwks_url):
                raise ValueError("AUTH=jwt needs one of JWT_KEY_FILE and JWT_JWKS_URL")
            if self.jwt_jwks_url and self.jwt_algorithms.startswith("HS"):
                raise ValueError("JWT_ALGORITHMS=HS… needs JWT_KEY_FILE: a secret is not to be fetched")
        return self

    @model_validator(mode="after")
    def _keeps_no_secret_where_jobs_read(self) -> Settings:
        root = self.data_dir.resolve()
        kept = {
            "SECRET_FILE": self.secret_file,
            "JWT_KEY_FILE": self.jwt_key_file,
            "FILES_URL": self.files.directory,
        }
        for name, path in kept.items():
            where = root if path is None else path.resolve()
            if root in where.parents and readable_by_jobs(where.relative_to(root)):
                raise ValueError(
                    f"{name} leads below DATA_DIR, where jobs can read it by file:; put it elsewhere, or "
                    f"give it a name that begins with a dot"
                )
        return self

    @field_validator("host")
    @classmethod
    def _only_loopback_without_authentication(cls, value: str, info: ValidationInfo) -> str:
        if value == "localhost" or info.data.get("auth") != "none":
            return value
        try:
            loopback = ipaddress.ip_address(value).is_loopback
        except ValueError:
            loopback = False
        if not loopback:
            raise ValueError(
                "is not a loopback address, and without authentication the service binds no other; "
                "set AUTH=keys, and make a key with `headway keys create`"
            )
        return value

    @property
    def signing_secrets(self) -> Path:
        """The file of SECRET_FILE, by default in DATA_DIR."""
        return self.secret_file or self.data_dir / "secret"

    @property
    def files(self) -> FilesUrl:
        """Where FILES_URL has the files: by default in DATA_DIR."""
        return parse_files_url(self.files_url, self.data_dir)

    @property
    def broker_url(self) -> str:
        """Where Celery's messages go: `CELERY_BROKER_URL`, else `REDIS_URL`."""
        return self.celery_broker_url or self.redis_url

    @property
    def broker(self) -> ServerUrl | None:
        """Where Celery's messages go if that is Redis, behind Sentinels or not; None for RabbitMQ."""
        return None if self.broker_url.startswith("amqp") else _broker_in_redis(self.broker_url)

    @property
    def kombu_url(self) -> str:
        """`broker_url` as kombu spells it."""
        return self.broker_url if self.broker is None else self.broker.kombu

    @property
    def tls(self) -> dict[str, Any]:
        """How the certificate of a rediss:// server is checked, as redis-py and kombu both spell it: by
        REDIS_CA_FILE or the system's authorities, and by name, unless REDIS_TLS_VERIFY is 0."""
        if not self.redis_tls_verify:
            return {"ssl_cert_reqs": ssl.CERT_NONE, "ssl_check_hostname": False}
        tls: dict[str, Any] = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True}
        if self.redis_ca_file is not None:
            tls["ssl_ca_certs"] = str(self.redis_ca_file)
        return tls

    @property
    def kombu_tls(self) -> dict[str, Any] | None:
        """The same for Celery's broker_use_ssl; None for a broker without TLS."""
        if self.broker is not None:
            return self.tls if self.broker.tls else None
        if not self.broker_url.startswith("amqps:"):
            return None
        if not self.redis_tls_verify:
            return {"cert_reqs": ssl.CERT_NONE}
        context: dict[str, Any] = {"check_hostname": True}
        if self.redis_ca_file is not None:
            context["cafile"] = str(self.redis_ca_file)
        return {"context": context, "server_hostname": urlsplit(self.broker_url).hostname}

    @property
    def base_url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


def _broker_in_redis(url: str) -> ServerUrl:
    """Parse the URL of a broker in Redis. `sentinel://` is what Celery's users call `redis+sentinel://`.
    Raises ValueError."""
    return ServerUrl.of(f"redis+{url}" if url.startswith("sentinel:") else url)


def _server_url(value: str, schemes: tuple[str, ...]) -> str:
    """Return the URL. Raises ValueError unless it is one with one of the schemes."""
    try:
        parts = urlsplit(value)
        parts.port  # noqa: B018
    except ValueError:
        # Its message would quote a part of the password.
        raise ValueError(
            "has no host and port that can be read; percent-encode special characters of a password"
        ) from None
    spelled = value.startswith(tuple(f"{scheme}://" for scheme in schemes))
    if value and not (spelled and (parts.netloc or parts.path)):
        *others, last = (f"{scheme}://" for scheme in schemes)
        raise ValueError(f"is not a {', '.join(others)} or {last} URL")
    if any(name.startswith("ssl_") for name, _ in parse_qsl(parts.query)):
        raise ValueError(
            "has an ssl_… parameter; REDIS_CA_FILE and REDIS_TLS_VERIFY say how TLS is verified"
        )
    return value


def server_of(url: str) -> str:
    """Return where the URL of a server leads, for messages: without user, password and parameters."""
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2] or parts.path


def _shown(text: str) -> str:
    """Return text as a message may have it: what stands before an @ may be a user and a password."""
    _, at, rest = text.rpartition("@")
    return f"…{at}{rest}" if at else text


def load(environ: Mapping[str, str] = os.environ, *, broker: bool = True) -> Settings:
    """Read the settings, without `broker` for a program that sends no messages; raises ConfigError.

    An empty variable counts as one that is not set."""
    names = {name: name.upper() for name in Settings.model_fields}
    given = {name: environ[var] for name, var in names.items() if environ.get(var, "").strip()}
    if "redis_url" not in given:
        raise ConfigError(
            "REDIS_URL is not set: give the URL of a Redis 7+ or Valkey server, "
            "such as redis://127.0.0.1:6379/0 (`make run` starts one by itself)"
        )
    try:
        settings = Settings.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        reason = _shown(first["msg"].removeprefix("Value error, "))
        if not first["loc"]:
            raise ConfigError(reason) from None
        name = str(first["loc"][0])
        reason = reason[0].lower() + reason[1:]
        # An address may hold a password, and one that cannot be read holds it anywhere.
        value = "" if name in _SECRET else f"={_shown(given.get(name, ''))!r}"
        raise ConfigError(f"{names[name]}{value}: {reason}") from None
    if broker and ServerUrl.of(settings.redis_url).kind == "cluster" and not settings.celery_broker_url:
        raise ConfigError(
            "CELERY_BROKER_URL is not set, and Celery cannot have its queues in the cluster of REDIS_URL: "
            "give it a server of its own, such as redis://HOST:6379/0"
        )
    return settings


_CLIENT = (
    "redis_url",
    "redis_ca_file",
    "redis_tls_verify",
    "key_prefix",
    "partitions",
    "lease_s",
    "events_per_job",
    "keep_progress",
    "retention_s",
)


def load_client(environ: Mapping[str, str], redis_url: str | None = None) -> Settings:
    """Read the settings of a program that is not Headway's, but writes to its Redis; raises ConfigError.

    Only what says where and how to write is read, since the other variables may be the program's own.
    Each may have HEADWAY_ before its name, and is preferred then. A `redis_url` overrides both.
    """
    names = [name.upper() for name in _CLIENT]
    given = {name: environ.get(f"HEADWAY_{name}") or environ.get(name, "") for name in names}
    if redis_url is not None:
        given["REDIS_URL"] = redis_url
    if not given["REDIS_URL"].strip():
        raise ConfigError(
            "HEADWAY_REDIS_URL is not set: give the URL of Headway's Redis, such as redis://127.0.0.1:6379/0"
        )
    return load(given, broker=False)


def protect_data_dir_or_exit(settings: Settings) -> None:
    """Close DATA_DIR to others, for a process that uses it; one line and exit status 2 if it, or that of
    FILES_URL, is no directory, or DATA_GROUP not a group of this user's."""
    try:
        protect(settings.data_dir, settings.data_group, files=settings.files.directory)
    except OSError as error:
        to = f"given to DATA_GROUP {settings.data_group}" if settings.data_group else "used"
        path = error.filename or settings.data_dir
        print(
            f"headway: {path} cannot be {to}: {error.strerror}; "
            "set DATA_DIR or FILES_URL to another directory",
            file=sys.stderr,
        )
        raise SystemExit(2) from None


def load_or_exit(environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings, or one line on stderr and exit status 2."""
    try:
        return load(environ)
    except ConfigError as error:
        print(f"headway: {error}", file=sys.stderr)
        raise SystemExit(2) from None
