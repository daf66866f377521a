"""Settings: the defaults, and every bad value as one clear line and exit status 2."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from headway.broker import connect, options
from headway.contract.server_url import ServerUrl
from headway.contract.settings import ConfigError, Settings, load, load_or_exit, server_of
from tests.support.checkout import ROOT

REDIS = {"REDIS_URL": "redis://127.0.0.1:6379/0"}

BAD = {
    "AUTH": ["token", "keys,none", "KEYS"],
    "JWT_JWKS_URL": ["http://idp.example/jwks", "file:///etc/passwd", "data:,x", "ftp://a", "https://"],
    "JWT_ALGORITHMS": ["none", "HS256,RS256", "RS1", "rs256", "RS256,"],
    "HOST": ["0.0.0.0", "::", "192.168.1.1", "example.org", "127.0.0.1:80"],
    "PORT": ["0", "65536", "-1", "http", "80.5"],
    "ALLOWED_HOSTS": ["*", "http://a", ".example", "a/b", "a:x", "a b"],
    "CORS_ORIGINS": ["*", "null", "app.example", "https://app.example/", "https://*.example", "ftp://a"],
    "TRUSTED_PROXIES": [
        "nginx",
        "10.0.0.1/8",
        "*",
        "0.0.0.0/0",
        "10.0.0.1,::/0",
        "10.0.0.1;10.0.0.2",
        "0.0.0.0/1,128.0.0.0/1",
        "8000::/1,::/1",
        "64.0.0.0/2",
        "2000::/3",
    ],
    "WEB_CONCURRENCY": ["0", "-2", "many", "257"],
    "REDIS_URL": [
        *("127.0.0.1:6379", "http://127.0.0.1", "redis:", "redis://"),
        *("redis://a:1,b:2", "redis://a/0?cluster=true", "sentinel://a", "redis+sentinel://a,b"),
        *("redis+sentinel://a,b/name/x", "redis+sentinel://a,,b/name", "redis+sentinel://a:x/name"),
        *("redis+cluster://", "redis+cluster://a/1", "unix+cluster://a", "redis+cluster://a,b:99999"),
        *("redis://a/b", "redis://a/1/2", "redis://a/-1", "redis://a?db=b", "redis://a#b", "unix://a/b"),
        *("redis://a?health_check_interval=b", "redis+cluster://a?db=1", "redis+sentinel://a/name?db=1"),
        *("redis+sentinel://u:p@a,u:p@b/name", "redis+sentinel://a;b/name", "redis+sentinel://a/name/²"),
    ],
    "CELERY_BROKER_URL": [
        "localhost",
        "http://h",
        "amqp://",
        "amqp://u:p/w@h",
        "amqp://h?frame_max=1",
        "sentinel://",
        "sentinel://h1,h2",
        "sentinel://h1,h2/",
        "sentinel://h1,,h2/name",
        "sentinel://h1;sentinel://h2/name",
        "sentinel://h/name/x",
        "sentinel://h:x/name/0",
        "redis://h/x",
        "redis://h?db=x",
        "redis+cluster://h",
    ],
    "WORKER_CONCURRENCY": ["0", "1025", "all"],
    "MAX_UPLOAD_BYTES": ["0", "-1", "10GB", "1.5"],
    "UPLOAD_QUOTA_BYTES": ["-1", "1.5", "x"],
    "UPLOAD_TTL_S": ["0", "-1", "inf", "1d"],
    "MIN_FREE_BYTES": ["-1", "1GB", "0.5"],
    "MAX_ATTEMPTS": ["0", "101", "x"],
    "JOB_TIMEOUT_S": ["0", "-1", "inf", "a day"],
    "SUBMIT_RATE": ["-1", "inf", "x"],
    "MAX_LIVE_JOBS": ["-1", "1.5", "x"],
    "CREATE_REPLICAS": ["-1", "101", "x"],
    "LEASE_S": ["0.5", "3601", "nan", "inf", "12s"],
    "HEARTBEAT_S": ["0", "-15", "nan", "soon"],
    "EVENTS_PER_JOB": ["9", "1000001", "x"],
    "RETENTION_S": ["0", "-1", "inf", "nan", "7d"],
    "DRAIN_S": ["-1", "nan", "inf", "x"],
    "DRAIN_JOBS_S": ["-1", "nan", "inf", "an hour", "604801"],
    "WEBHOOK_ALLOW": ["localhost", "10.0.0.1/8", "*", "10.0.0.0/33"],
    "MAX_REQUEST_LINE_BYTES": ["0", "4095", "1048577", "40k"],
    "MAX_REQUEST_HEADER_BYTES": ["0", "4095", "1048577", "24k"],
    "HEAD_TIMEOUT_S": ["0", "-1", "inf", "nan", "3601", "10s"],
    "BODY_TIMEOUT_S": ["0", "-1", "inf", "nan", "3601", "10s"],
    "MAX_STREAMS": ["-1", "1.5", "x"],
    "MAX_CONNECTIONS_PER_CALLER": ["-1", "x"],
    "MAX_STREAMS_PER_CALLER": ["-1", "x"],
    "MAX_STREAMS_PER_OWNER": ["-1", "x"],
    "DATA_GROUP": ["no-such-group"],
    "FILES_URL": [
        *("var", "file:var", "file://host/var", "s3:", "s3://", "http://bucket", "s3://b/../x"),
        *("s3://b?endpoint=minio:9000", "s3://b?secret=x", "s3://b?region=a&region=b", "s3://b:1/x"),
    ],
    "KEEP_PROGRESS": ["maybe", "2"],
    "FILES_REDIRECT": ["maybe", "2"],
    "REDIS_CA_FILE": ["/nowhere/ca.pem", "/tmp"],
    "REDIS_TLS_VERIFY": ["maybe", "2"],
    "HEADWAY_TASKS": ["my-jobs", "a..b"],
    "QUEUES": ["two words", "a,\tb c"],
    "TYPES": ["two words", "x" * 129],
    "RECYCLE_JOBS": ["-1", "1.5", "x"],
    "RECYCLE_MIB": ["-1", "1G", "x"],
    "TYPE_TTL_S": ["0", "-1", "inf", "7d"],
    "SANDBOX": ["yes", "AUTO", "1"],
    "MAX_MEMORY_BYTES": ["0", "1000000", "4G"],
    "MAX_OUTPUT_BYTES": ["0", "-1", "20GB"],
    "LOG_LEVEL": ["LOUD", "3"],
    "LOG_FORMAT": ["xml", "TEXT,JSON"],
    "KEY_PREFIX": ["a b", "{x}", "x" * 65, "ä"],
    "PARTITIONS": ["0", "4097", "x"],
}
ANYTHING_GOES = {"data_dir", "secret_file", "jwt_key_file", "jwt_issuer", "jwt_audience"}
HOLDS_A_PASSWORD = {"REDIS_URL", "CELERY_BROKER_URL", "FILES_URL", "JWT_JWKS_URL"}


@pytest.mark.parametrize("host", BAD["HOST"][:3])
def test_with_authentication_any_address_may_be_bound(host: str) -> None:
    assert load({**REDIS, "AUTH": "keys", "HOST": host}).host == host
    with pytest.raises(ConfigError, match="AUTH=keys"):
        load({**REDIS, "HOST": host})


def test_every_setting_has_its_bad_values_here() -> None:
    assert {name.upper() for name in Settings.model_fields if name not in ANYTHING_GOES} == set(BAD)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in BAD for value in BAD[name]])
def test_a_bad_value_is_one_line_that_names_it_and_exit_2(
    name: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exited:
        load_or_exit({**REDIS, name: value})
    assert exited.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    given = f"headway: {name}: " if name in HOLDS_A_PASSWORD else f"headway: {name}={value!r}: "
    assert said.startswith(given)
    assert len(said) > len(f"{given}\n")


@pytest.mark.parametrize(
    "url",
    [
        "redis//u:s3cret@h",
        "u:s3cret@h",
        "redis:u:s3cret@h",
        "redis://:s3cret",
        "redis://u:s3cret/more@h",
        "redis://u:s3cret#more@h",
        "redis://u:s3cret[@h",
        "http://u:s3cret@h/0",
        "https://:s3cret@h/0",
        "rediss://u:s3cret@h/0?ssl_cert_reqs=none",
    ],
)
@pytest.mark.parametrize("name", sorted(HOLDS_A_PASSWORD))
def test_an_address_that_is_refused_is_not_shown_as_it_may_hold_a_password(name: str, url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load({**REDIS, name: url})
    assert "s3cret" not in str(refused.value)
    assert refused.value.__suppress_context__


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALLOWED_HOSTS", "a,u:s3cret@h"),
        ("CORS_ORIGINS", "https://a,https://u:s3cret@h"),
        ("CORS_ORIGINS", "https://u:s3c@s3cret@h,https://b"),
        ("TRUSTED_PROXIES", "10.0.0.1,u:s3cret@10.0.0.2"),
        ("WEBHOOK_ALLOW", "u:s3cret@10.0.0.2"),
        ("QUEUES", "amqp://u:s3cret @h"),
        ("HEADWAY_TASKS", "u:s3cret@h"),
        ("HOST", "u:s3cret@127.0.0.1"),
        ("PORT", "u:s3cret@8000"),
        ("FILES_URL", "s3://b?endpoint=https://:s3cret@h"),
        ("JWT_JWKS_URL", "https://idp/keys of?token=s3cret"),
        ("JWT_JWKS_URL", "https://idp:s3cret/keys"),
    ],
)
def test_a_password_where_none_belongs_is_not_shown(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}") as refused:
        load({**REDIS, name: value})
    assert "s3c" not in str(refused.value)


def _jwt(path: Path) -> dict[str, str]:
    return {"AUTH": "jwt", "JWT_ISSUER": "i", "JWT_AUDIENCE": "a", "JWT_KEY_FILE": str(path)}


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("SECRET_FILE", lambda path: {"SECRET_FILE": str(path)}),
        ("JWT_KEY_FILE", _jwt),
        ("FILES_URL", lambda path: {"FILES_URL": f"file://{path}"}),
    ],
)
def test_nothing_private_is_kept_where_jobs_read_files(
    tmp_path: Path, name: str, given: Callable[[Path], dict[str, str]]
) -> None:
    data = tmp_path / "data"
    (tmp_path / "link").symlink_to(data)
    for path in (data / "here", data / "in" / "there", tmp_path / "link" / "here"):
        with pytest.raises(ConfigError, match=f"^{name} leads below DATA_DIR, where jobs can read it"):
            load({**REDIS, "DATA_DIR": str(data), **given(path)})
    for path in (data / "secret", data / ".here", tmp_path / "here", data.with_name("data2")):
        load({**REDIS, "DATA_DIR": str(data), **given(path)})


def test_settings_do_not_show_addresses() -> None:
    given = {"REDIS_URL": "redis://u:s3cret@h", "CELERY_BROKER_URL": "redis://u:s3cret@b"}
    assert "s3cret" not in repr(load(given))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://u:s3cret@h:1/0", "h:1"),
        ("rediss://:s3%40cret@h", "h"),
        ("redis://h:6379/0?password=s3cret", "h:6379"),
        ("unix:///run/valkey.sock?password=s3cret", "/run/valkey.sock"),
    ],
)
def test_a_message_says_where_an_address_leads_without_its_password(url: str, shown: str) -> None:
    assert server_of(url) == shown


def test_the_certificate_of_the_store_and_of_the_broker_is_checked_unless_one_says_otherwise(
    tmp_path: Path,
) -> None:
    authority = tmp_path / "ca.pem"
    authority.touch()
    tls = {"REDIS_URL": "rediss://h"}
    checked = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True}
    assert load(tls).tls == load(tls).kombu_tls == checked
    assert load({**tls, "REDIS_CA_FILE": str(authority)}).kombu_tls == {
        **checked,
        "ssl_ca_certs": str(authority),
    }
    assert load({**tls, "REDIS_TLS_VERIFY": "0"}).kombu_tls == {
        "ssl_cert_reqs": ssl.CERT_NONE,
        "ssl_check_hostname": False,
    }
    assert load(REDIS).kombu_tls is None
    assert load({**tls, "CELERY_BROKER_URL": "redis://h"}).kombu_tls is None


def test_the_defaults_are_those_of_the_contract() -> None:
    settings = load(REDIS)
    assert settings == Settings(
        host="127.0.0.1",
        port=8000,
        web_concurrency=1,
        redis_url=REDIS["REDIS_URL"],
        celery_broker_url="",
        worker_concurrency=os.cpu_count() or 1,
        redis_ca_file=None,
        redis_tls_verify=True,
        data_dir=Path("var"),
        data_group="",
        max_upload_bytes=10 * 1024**3,
        upload_ttl_s=86_400,
        min_free_bytes=256 * 1024**2,
        max_attempts=3,
        lease_s=12,
        heartbeat_s=15,
        events_per_job=2000,
        retention_s=7 * 86_400,
        drain_s=4,
        drain_jobs_s=0,
        queues=(),
        types=(),
        max_streams=20_000,
        max_streams_per_caller=1000,
        max_streams_per_owner=10_000,
        sandbox="auto",
        max_memory_bytes=4 * 1024**3,
        max_output_bytes=20 * 1024**3,
        log_level="INFO",
        log_format="text",
        key_prefix="headway:",
        partitions=None,
    )
    assert settings.broker_url == settings.redis_url
    assert settings.base_url == "http://127.0.0.1:8000"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.9", "::1", "localhost"])
def test_a_loopback_address_is_accepted(host: str) -> None:
    assert load({**REDIS, "HOST": host}).host == host


def test_an_ipv6_address_stands_in_brackets_in_the_url() -> None:
    assert load({**REDIS, "HOST": "::1", "PORT": "81"}).base_url == "http://[::1]:81"


def test_another_address_is_refused_with_the_reason() -> None:
    with pytest.raises(ConfigError, match="without authentication"):
        load({**REDIS, "HOST": "0.0.0.0"})


def test_the_broker_may_be_another_redis() -> None:
    assert load({**REDIS, "CELERY_BROKER_URL": "redis://b:1/2"}).broker_url == "redis://b:1/2"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("auth", "keys, jwt"),
        ("jwt_algorithms", "RS256, PS256"),
        ("allowed_hosts", "a, b"),
        ("cors_origins", "https://a, https://b"),
        ("trusted_proxies", "10.0.0.1, 10.0.0.2"),
        ("webhook_allow", "10.0.0.1, 10.0.0.2"),
        ("headway_tasks", "a, b"),
        ("queues", "a, b"),
        ("types", "a, b"),
    ],
)
def test_a_list_may_have_spaces_around_its_commas(name: str, value: str) -> None:
    jwt = {"JWT_ISSUER": "i", "JWT_AUDIENCE": "a", "JWT_JWKS_URL": "https://i/j"}
    spaced, plain = (load({**REDIS, **jwt, name.upper(): text}) for text in (value, value.replace(" ", "")))
    assert getattr(spaced, name) == getattr(plain, name)


def test_an_empty_variable_counts_as_not_set() -> None:
    assert load({**REDIS, "PORT": "", "HOST": "  "}) == load(REDIS)


def test_a_log_level_may_be_in_small_letters() -> None:
    assert load({**REDIS, "LOG_LEVEL": "debug"}).log_level == "DEBUG"


@pytest.mark.parametrize("environ", [{}, {"REDIS_URL": ""}, {"REDIS_URL": "   "}])
def test_without_redis_url_it_says_how_to_get_one(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"REDIS_URL is not set: .*`make run`"):
        load(environ)


@pytest.mark.parametrize("command", [["service", "web"], ["service", "run"], ["worker"]])
def test_each_process_refuses_a_bad_value_before_anything_starts(
    command: list[str], tmp_path: Path
) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=Path(__file__).parent.parent.parent,
        env={**os.environ, **REDIS, "LEASE_S": "soon", "DATA_DIR": str(tmp_path / "data")},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ran.returncode == 2, ran.stderr
    assert ran.stderr.startswith("headway: LEASE_S='soon': ")
    assert ran.stderr.count("\n") == 1
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("command", [["service", "web"], ["service", "run"], ["worker"]])
@pytest.mark.parametrize("below", ["", "/var", "/in/var"])
def test_each_process_refuses_a_data_dir_that_is_a_file_or_below_one(
    command: list[str], below: str, tmp_path: Path
) -> None:
    file = tmp_path / "data"
    file.write_text("")
    ran = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=Path(__file__).parent.parent.parent,
        env={**os.environ, **REDIS, "DATA_DIR": f"{file}{below}"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1), ran.stderr
    assert ran.stderr.startswith(f"headway: {file}{below} cannot be used: Not a directory")


@pytest.mark.parametrize("command", [["service", "web"], ["worker"]])
def test_a_process_of_the_procfile_says_that_it_needs_redis_url(command: list[str]) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=Path(__file__).parent.parent.parent,
        env={name: value for name, value in os.environ.items() if name != "REDIS_URL"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
    assert ran.stderr.startswith("headway: REDIS_URL is not set")


def test_sentinels_and_clusters_are_one_url_also_with_tls() -> None:
    url = ServerUrl.of("rediss+sentinel://u:s3cret@h1,h2:5,[::1]:6/main/2")
    assert (url.kind, url.tls, url.service) == ("sentinel", True, "main")
    assert url.hosts == (("h1", 26379), ("h2", 5), ("::1", 6))
    assert url.plain == "rediss://u:s3cret@unknown/2"
    assert ServerUrl.of("redis+cluster://h1,h2").hosts == (("h1", 6379), ("h2", 6379))


def test_celery_reaches_its_broker_through_the_same_sentinels() -> None:
    settings = load({"REDIS_URL": "redis+sentinel://:s3cret@h1,h2:5/main/2"})
    assert settings.kombu_url == "sentinel://:s3cret@h1:26379/2;sentinel://:s3cret@h2:5/2"
    assert options(settings, timeout_s=1)["master_name"] == "main"
    named = load({**REDIS, "CELERY_BROKER_URL": "sentinel://:s3cret@h1,h2:5/main/2"})
    assert named.kombu_url == settings.kombu_url
    assert options(named, timeout_s=1) == options(settings, timeout_s=1)


def test_celery_asks_sentinels_with_tls_if_they_have_it() -> None:
    settings = load({"REDIS_URL": "rediss+sentinel://h1,h2/main/0"})
    asked = options(settings, timeout_s=1)["sentinel_kwargs"]
    assert asked.items() >= {"ssl": True, **settings.tls}.items()


@pytest.mark.parametrize(
    ("url", "kombu"),
    [
        ("redis://h", "redis://h:6379/0"),
        ("redis://h?db=3&client_name=c&health_check_interval=5", "redis://h:6379/3"),
        ("rediss://u:p%40w@[::1]:7/2", "rediss://u:p%40w@[::1]:7/2"),
        ("redis+sentinel://h/main/1?password=p%40w", "sentinel://:p%40w@h:26379/1"),
        ("unix:///run/valkey.sock?db=4&password=s", "redis+socket://:s@/run/valkey.sock?virtual_host=4"),
    ],
)
def test_celery_is_led_to_the_same_database_with_the_same_password(url: str, kombu: str) -> None:
    settings = load({"REDIS_URL": url})
    assert settings.kombu_url == kombu
    with connect(settings, timeout_s=1) as connection:
        assert not connection.connected


def test_with_a_cluster_celery_needs_a_broker_of_its_own() -> None:
    cluster = {"REDIS_URL": "redis+cluster://h1,h2"}
    with pytest.raises(ConfigError, match=r"^CELERY_BROKER_URL is not set"):
        load(cluster)
    assert load({**cluster, "CELERY_BROKER_URL": "redis://b/1"}).kombu_url == "redis://b:6379/1"


def test_settings_are_read_without_what_gevent_has_yet_to_patch() -> None:
    code = "import sys, headway.contract.settings; print({'redis', 'obstore', 'kombu'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"
