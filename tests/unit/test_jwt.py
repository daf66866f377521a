"""JWTs: what a good one opens, and that no forged one opens anything; where the keys come from."""

from __future__ import annotations

import base64
import contextlib
import hmac
import json
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from headway.contract.settings import ConfigError, Settings, load
from service.api.auth import jwks
from service.api.auth.jwks import FetchedKeys, KeysUnavailable, fetch, parse_jwks
from service.api.auth.jwt_verifier import JwtVerifier
from service.api.problems import Problem

RSA = rsa.generate_private_key(65537, 2048)
OTHER_RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
SECRET = "s" * 40


def pem(key: Any) -> bytes:
    public: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return public


def jwk(key: Any, **more: str) -> dict[str, Any]:
    algorithm = jwt.get_algorithm_by_name("RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256")
    return {**json.loads(algorithm.to_jwk(key.public_key())), **more}  # type: ignore[attr-defined]


def settings(path: Path, algorithms: str, content: bytes) -> Settings:
    file = path / "key"
    file.write_bytes(content)
    return load(
        {
            "REDIS_URL": "redis://127.0.0.1:1",
            "AUTH": "jwt",
            "JWT_ISSUER": "https://idp",
            "JWT_AUDIENCE": "headway",
            "JWT_KEY_FILE": str(file),
            "JWT_ALGORITHMS": algorithms,
        }
    )


def claims(**more: Any) -> dict[str, Any]:
    found = {
        "iss": "https://idp",
        "aud": "headway",
        "sub": "ann@acme",
        "exp": int(time.time()) + 300,
        "headway": {"owner": "acme", "roles": ["read", "submit"]},
        **more,
    }
    return {name: value for name, value in found.items() if value is not None}


def signed(payload: dict[str, Any] | None = None, key: Any = RSA, alg: str = "RS256", **header: Any) -> str:
    return jwt.encode(payload or claims(), key, alg, headers=header)


def b64(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def raw(header: Any, payload: Any, key: Any = RSA) -> str:
    """Signed with RS256, whatever the header says."""
    body = f"{b64(header)}.{b64(payload)}"
    return f"{body}.{b64(jwt.get_algorithm_by_name('RS256').sign(body.encode(), key))}"


def with_hmac(secret: bytes, alg: str = "HS256") -> str:
    body = f"{b64({'alg': alg, 'typ': 'JWT'})}.{b64(claims())}"
    return f"{body}.{b64(hmac.digest(secret, body.encode(), 'sha256'))}"


@pytest.fixture
def verifier(tmp_path: Path) -> JwtVerifier:
    return JwtVerifier(settings(tmp_path, "RS256,PS256", pem(RSA)))


@pytest.mark.parametrize(
    ("algorithms", "key", "content"),
    [
        ("RS256", RSA, pem(RSA)),
        ("PS256", RSA, pem(RSA)),
        ("ES256", EC, pem(EC)),
        ("EdDSA", ED, pem(ED)),
        ("HS256", SECRET, SECRET.encode()),
        ("RS256", RSA, json.dumps(jwk(RSA)).encode()),
        ("ES256", EC, json.dumps({"keys": [jwk(EC, kid="a")]}).encode()),
    ],
)
def test_a_good_token_names_its_caller(tmp_path: Path, algorithms: str, key: Any, content: bytes) -> None:
    verifier = JwtVerifier(settings(tmp_path, algorithms, content))
    caller = verifier.caller(signed(key=key, alg=algorithms, kid="a"))
    assert caller is not None
    assert (caller.owner, caller.roles, caller.name) == ("acme", {"read", "submit"}, "sub:ann@acme")
    assert caller.jobs is None
    assert 290 < caller.expires_at - time.time() < 320


def test_a_token_can_be_restricted(verifier: JwtVerifier) -> None:
    job = "0-" + "x" * 22
    ours = {"owner": "acme", "roles": ["read"], "jobs": [job], "groups": ["g"]}
    caller = verifier.caller(signed(claims(headway=ours, aud=["other", "headway"]), typ="at+jwt"))
    assert caller is not None
    assert (caller.jobs, caller.groups) == ({job}, {"g"})


@pytest.mark.parametrize("typ", ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+JWT", None])
def test_a_type_is_a_media_type_in_any_case(verifier: JwtVerifier, typ: str | None) -> None:
    header = {"alg": "RS256"} if typ is None else {"alg": "RS256", "typ": typ}
    assert verifier.caller(raw(header, claims())) is not None


PAYLOAD = {
    "no iss": claims(iss=None),
    "another iss": claims(iss="https://evil"),
    "no aud": claims(aud=None),
    "another aud": claims(aud="other"),
    "no exp": claims(exp=None),
    "expired": claims(exp=int(time.time()) - 60),
    "exp as text": claims(exp="tomorrow"),
    "exp true": claims(exp=True),
    "no sub": claims(sub=None),
    "sub is a number": claims(sub=7),
    "not yet": claims(nbf=int(time.time()) + 600),
    "made in the future": claims(iat=int(time.time()) + 600),
    "no headway": claims(headway=None),
    "headway is a text": claims(headway="acme"),
    "no owner": claims(headway={"roles": ["read"]}),
    "a bad owner": claims(headway={"owner": "a:b", "roles": ["read"]}),
    "an owner and more": claims(headway={"owner": "acme\n", "roles": ["read"]}),
    "an unknown role": claims(headway={"owner": "acme", "roles": ["read", "root"]}),
    "roles as a text": claims(headway={"owner": "acme", "roles": "read"}),
    "an unknown member": claims(headway={"owner": "acme", "roles": ["read"], "limits": {}}),
    "too many groups": claims(headway={"owner": "acme", "roles": [], "groups": ["g"] * 65}),
    "a job that is none": claims(headway={"owner": "acme", "roles": [], "jobs": ["../x"]}),
    "exp as a number in a text": claims(exp=str(int(time.time()) + 300)),
    "nbf as a number in a text": claims(nbf=str(int(time.time()) - 300)),
    "iat true": claims(iat=True),
    "a sub of two lines": claims(sub="ann\nroot"),
    "no roles": claims(headway={"owner": "acme"}),
    "a long group": claims(headway={"owner": "acme", "roles": ["read"], "groups": ["g" * 129]}),
    "a group with an escape": claims(headway={"owner": "acme", "roles": ["read"], "groups": ["g\x1b[1m"]}),
    "half a character": claims(headway={"owner": "acme", "roles": ["read"], "groups": ["\ud800"]}),
    "jobs null": claims(headway={"owner": "acme", "roles": [], "jobs": None}),
}
FORGED: dict[str, Callable[[], str]] = {
    **{name: lambda p=payload: signed(p) for name, payload in PAYLOAD.items()},  # type: ignore[misc]
    "alg none": lambda: f"{b64({'alg': 'none'})}.{b64(claims())}.",
    "alg nOnE": lambda: f"{b64({'alg': 'nOnE'})}.{b64(claims())}.",
    "alg none with a signature": lambda: raw({"alg": "none"}, claims()),
    "no alg": lambda: raw({"typ": "JWT"}, claims()),
    "HS256 with the public PEM": lambda: with_hmac(pem(RSA)),
    "HS256 with the PEM, stripped": lambda: with_hmac(pem(RSA).strip()),
    "HS256 with the JWK": lambda: with_hmac(json.dumps(jwk(RSA)).encode()),
    "HS256 with nothing": lambda: with_hmac(b""),
    "RS512, which is not ours": lambda: signed(alg="RS512"),
    "another key": lambda: signed(key=OTHER_RSA),
    "its own key in the header": lambda: signed(key=OTHER_RSA, jwk=jwk(OTHER_RSA)),
    "an address of keys": lambda: signed(key=OTHER_RSA, jku="http://127.0.0.1:1/jwks"),
    "an address of a certificate": lambda: signed(key=OTHER_RSA, x5u="http://127.0.0.1:1/x"),
    "crit": lambda: signed(crit=["exp"], exp=1),
    "zip": lambda: signed(zip="DEF"),
    "enc": lambda: signed(enc="A256GCM"),
    "a type that is a number": lambda: raw({"alg": "RS256", "typ": 7}, claims()),
    "alg twice": lambda: raw(b'{"alg":"none","alg":"RS256"}', claims()),
    "alg is a list": lambda: raw({"alg": ["RS256"]}, claims()),
    "padding": lambda: signed() + "==",
    "a payload in UTF-16": lambda: raw({"alg": "RS256"}, json.dumps(claims()).encode("utf-16")),
    "a header in UTF-16": lambda: raw(json.dumps({"alg": "RS256"}).encode("utf-16-le"), claims()),
    "a line break at the end": lambda: signed() + "\n",
    "another type": lambda: signed(typ="secevent+jwt"),
    "a kid that is a number": lambda: raw({"alg": "RS256", "kid": 7}, claims()),
    "no signature": lambda: signed().rpartition(".")[0] + ".",
    "a short signature": lambda: signed()[:-8],
    "another payload": lambda: ".".join(
        [signed().split(".")[0], b64(claims(sub="eve")), signed().split(".")[2]]
    ),
    "four parts": lambda: signed() + ".x",
    "two parts": lambda: signed().rpartition(".")[0],
    "a claim twice": lambda: raw({"alg": "RS256"}, json.dumps(claims())[:-1].encode() + b',"sub":"eve"}'),
    "exp Infinity": lambda: raw({"alg": "RS256"}, json.dumps(claims(exp=float("inf"))).encode()),
    "exp NaN": lambda: raw({"alg": "RS256"}, json.dumps(claims(exp=float("nan"))).encode()),
    "a payload that is a list": lambda: raw({"alg": "RS256"}, [1]),
    "a payload that is nested deeply": lambda: raw({"alg": "RS256"}, b"[" * 3000),
    "a header that is a list": lambda: raw([1], claims()),
    "1 MB": lambda: signed(claims(x="x" * 1_000_000)),
    "an empty text": lambda: "",
    "dots": lambda: "..",
    "no base64": lambda: "é.é.é",
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_token_is_refused(verifier: JwtVerifier, name: str) -> None:
    assert verifier.caller(signed()) is not None
    assert verifier.caller(FORGED[name]()) is None


def test_an_es256_signature_of_zeros_is_refused(tmp_path: Path) -> None:
    verifier = JwtVerifier(settings(tmp_path, "ES256", pem(EC)))
    body = f"{b64({'alg': 'ES256'})}.{b64(claims())}"
    assert verifier.caller(f"{body}.{b64(bytes(64))}") is None
    assert verifier.caller(signed(key=RSA)) is None


@pytest.mark.parametrize("kid", ["../../dev/null", "' OR 1=1 --", "unknown", ""])
def test_a_key_id_is_a_name_and_nothing_else(tmp_path: Path, kid: str) -> None:
    content = json.dumps({"keys": [jwk(RSA, kid="a"), jwk(OTHER_RSA, kid="b")]}).encode()
    verifier = JwtVerifier(settings(tmp_path, "RS256", content))
    assert verifier.caller(signed(kid=kid)) is None
    assert verifier.caller(signed(kid="b")) is None
    assert verifier.caller(signed(kid="a")) is not None
    assert verifier.caller(signed()) is None, "with two keys a token must say which"


@pytest.mark.parametrize("algorithms", ["HS256"])
def test_a_short_secret_is_refused(tmp_path: Path, algorithms: str) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        JwtVerifier(settings(tmp_path, algorithms, b"short"))


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"JWT_ISSUER": "i", "JWT_AUDIENCE": "a"},
        {"JWT_ISSUER": "i", "JWT_JWKS_URL": "https://idp/jwks"},
        {"JWT_ISSUER": "i", "JWT_AUDIENCE": "a", "JWT_JWKS_URL": "https://i/j", "JWT_ALGORITHMS": "HS256"},
        {
            "JWT_ISSUER": "i",
            "JWT_AUDIENCE": "a",
            "JWT_JWKS_URL": "https://i/j",
            "JWT_KEY_FILE": "/etc/hosts",
        },
    ],
)
def test_settings_that_would_not_do_are_refused(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="JWT_"):
        load({"REDIS_URL": "redis://127.0.0.1:1", "AUTH": "jwt", **environ})


class Idp(ThreadingHTTPServer):
    """Serves a JWK set, or whatever a test makes of it."""

    def __init__(self) -> None:
        self.asked = 0
        self.status, self.body = 200, b""
        self.headers: dict[str, str] = {}
        self.pause_s = 0.0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                self.send_response(outer.status)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                for byte in (
                    (outer.body[i : i + 1] for i in range(len(outer.body))) if outer.pause_s else ()
                ):
                    time.sleep(outer.pause_s)
                    self.wfile.write(byte)
                if not outer.pause_s:
                    self.wfile.write(outer.body)

            def log_message(self, *_: object) -> None:
                pass

            def handle(self) -> None:
                with contextlib.suppress(OSError):  # the client has hung up
                    super().handle()

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/jwks"

    def serve(self, *keys: dict[str, Any]) -> None:
        self.status, self.body = 200, json.dumps({"keys": keys}).encode()


@pytest.fixture
def idp() -> Iterator[Idp]:
    server = Idp()
    server.serve(jwk(RSA, kid="a"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def jwks_verifier(idp: Idp) -> JwtVerifier:
    return JwtVerifier(
        load(
            {
                "REDIS_URL": "redis://127.0.0.1:1",
                "AUTH": "jwt",
                "JWT_ISSUER": "https://idp",
                "JWT_AUDIENCE": "headway",
                "JWT_JWKS_URL": idp.url,
            }
        )
    )


def test_unknown_key_ids_cause_one_fetch_for_all(idp: Idp) -> None:
    verifier = jwks_verifier(idp)
    assert verifier.caller(signed(kid="a")) is not None
    for n in range(1000):
        assert verifier.caller(signed(claims(), SECRET, "HS256", kid=f"k{n}")) is None
        assert list(verifier._keys.candidates(f"k{n}")) == []
    assert idp.asked == 1


def test_a_new_key_is_found_after_the_cool_down(idp: Idp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "COOL_DOWN_S", 0.2)
    verifier = jwks_verifier(idp)
    assert verifier.caller(signed(kid="a")) is not None
    idp.serve(jwk(RSA, kid="a"), jwk(OTHER_RSA, kid="b"))
    assert verifier.caller(signed(key=OTHER_RSA, kid="b")) is None
    time.sleep(0.25)
    assert verifier.caller(signed(key=OTHER_RSA, kid="b")) is not None
    assert idp.asked == 2


def test_old_keys_work_on_while_there_are_no_new_ones(idp: Idp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "COOL_DOWN_S", 0)
    monkeypatch.setattr(jwks, "FRESH_S", 0)
    verifier = jwks_verifier(idp)
    assert verifier.caller(signed(kid="a")) is not None
    idp.status = 500
    assert verifier.caller(signed(kid="a")) is not None
    assert idp.asked >= 2
    monkeypatch.setattr(jwks, "STALE_S", 0)
    with pytest.raises(Problem) as raised:
        verifier.caller(signed(kid="a"))
    assert raised.value.status == 503


def test_a_fetch_has_bounds(idp: Idp, monkeypatch: pytest.MonkeyPatch) -> None:
    idp.status, idp.headers = 302, {"Location": idp.url}
    with pytest.raises(ValueError, match="302"):
        fetch(idp.url)
    assert idp.asked == 1
    idp.status, idp.body = 200, b"x" * (jwks.MAX_BYTES + 1)
    with pytest.raises(ValueError, match="larger"):
        fetch(idp.url)
    monkeypatch.setattr(jwks, "FETCH_S", 0.3)
    idp.body, idp.pause_s = b"x" * 100, 0.05
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        fetch(idp.url)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("byte", [b"H", b"\x16"])
def test_a_server_that_sends_a_byte_now_and_then_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, scheme: str, byte: bytes
) -> None:
    monkeypatch.setattr(jwks, "FETCH_S", 0.5)

    class Drips(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            ends = time.monotonic() + 5
            with contextlib.suppress(OSError):  # the client has hung up
                while time.monotonic() < ends:
                    self.request.sendall(byte)
                    time.sleep(0.1)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Drips) as server:
        threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
        began = time.monotonic()
        with pytest.raises(OSError):
            fetch(f"{scheme}://127.0.0.1:{server.server_address[1]}/jwks")
        assert time.monotonic() - began < 2
        server.shutdown()


def test_keys_are_fetched_over_tls(idp: Idp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, EC.public_key(), 1, now, now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(EC, hashes.SHA256())
    )
    certificate = tmp_path / "certificate.pem"
    key = EC.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM) + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    idp.socket = context.wrap_socket(idp.socket, server_side=True, do_handshake_on_connect=False)
    url = idp.url.replace("http:", "https:").replace("127.0.0.1", "localhost")
    with pytest.raises(ssl.SSLCertVerificationError):
        fetch(url)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert "keys" in json.loads(fetch(url))


def test_without_keys_nothing_can_be_said(idp: Idp) -> None:
    idp.body = b"no json"
    with pytest.raises(KeysUnavailable):
        FetchedKeys(idp.url).candidates("a")


def test_a_set_is_read_strictly() -> None:
    assert [
        key.id for key in parse_jwks({"keys": [jwk(RSA, kid="a"), {"kty": "oct", "k": "c2VjcmV0"}]})
    ] == ["a"]
    assert [
        key.id for key in parse_jwks({"keys": [jwk(RSA, kid="a"), jwk(EC, kid="b", use="enc"), {}]})
    ] == ["a"]
    for bad in ({}, [], {"keys": {}}, {"keys": []}, {"keys": [{"kty": "oct", "k": "eA"}]}):
        with pytest.raises(ValueError):
            parse_jwks(bad)
    with pytest.raises(ValueError, match="32"):
        parse_jwks({"keys": [jwk(RSA)] * 33})
