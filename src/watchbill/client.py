"""A typed, synchronous client of a running exporter's API.

It asks one server, follows no redirect and no proxy from the environment, and turns whatever goes wrong into
a :class:`ServerError` whose one line says what to do next. It reads no clock and draws no random number:
``compare`` is handed both.
"""

from __future__ import annotations

import hmac
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import httpx2
from pydantic import SecretStr, TypeAdapter, ValidationError

from watchbill.domain.access import HttpAccess, handshake_advice
from watchbill.domain.errors import WatchbillError
from watchbill.domain.history import Coverage
from watchbill.domain.plan import Plan
from watchbill.domain.specs import Spec, spec_from_masked
from watchbill.domain.units import Instant, isoformat

T = TypeVar("T")

DEFAULT_SERVER = "http://127.0.0.1:9876"
TIMEOUT_SECONDS = 10.0
# A reload reads 10,000 checks, a report 30 days of slots: both answer, only later.
PATIENT_SECONDS = 60.0
COPYING = httpx2.Timeout(TIMEOUT_SECONDS, read=3_600.0)
"""A backup is copied before its first byte is sent: some seconds for ten million rows."""
MOST_BYTES_PER_REQUEST = 48 << 10
COMPARE_ATTEMPTS = 5
NO_ACCESS = HttpAccess()
_TO_BE_LET_IN = "pass them as basic_auth in --http.config.file FILE, or as in https://USER:PASSWORD@HOST"
NOT_SETTINGS = frozenset({"digest", "revision", "location", "version", "checks", "moved", "files"})

Wait = Callable[[float], None]
"""Sleep so many seconds."""


class ServerError(WatchbillError):
    """The exporter could not be asked, or did not answer as one does."""


class UnreachableError(ServerError):
    """Nothing answers at the address."""


class ReloadRejectedError(ServerError):
    """The exporter refused the new configuration and keeps the old one.

    ``problems`` are the mistakes found, one line each.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class RunningConfig:
    """What an exporter runs. ``settings`` are the sections of the file beside its checks."""

    digest: str
    revision: str
    location: str
    specs: Mapping[str, Spec]
    moved: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reload:
    """What a reload changed: how many checks, and which fields of those that were changed or moved."""

    digest: str
    revision: str
    counts: Mapping[str, int]
    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CheckSummary:
    """One running check as it stands."""

    id: str
    type: str
    target: str
    status: str
    service: str = ""
    enabled: bool = True


_coverage: TypeAdapter[tuple[Coverage, ...]] = TypeAdapter(tuple[Coverage, ...])
_summaries: TypeAdapter[tuple[CheckSummary, ...]] = TypeAdapter(tuple[CheckSummary, ...])


class Client:
    """One exporter. Use it as a context manager, or call ``close``.

    :raises ServerError: from the constructor where ``server`` is no http address.
    """

    def __init__(
        self,
        server: str = DEFAULT_SERVER,
        *,
        transport: httpx2.BaseTransport | None = None,
        access: HttpAccess = NO_ACCESS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        base, auth = _base(server)
        self.server = base
        named = auth is None and access.authorization
        self._how: dict[str, Any] = (
            {"extensions": {"sni_hostname": access.server_name}} if access.server_name else {}
        )
        self._http = httpx2.Client(
            base_url=base,
            auth=auth or ((access.user, access.password) if access.user else None),
            headers={"Authorization": access.authorization} if named else None,
            verify=True if tls is None else tls,
            transport=transport,
            trust_env=False,
            timeout=TIMEOUT_SECONDS,
            follow_redirects=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def config(self) -> RunningConfig:
        """What runs now, secrets as their reference text."""
        answer = self._ask("GET", "/api/v1/config")
        try:
            specs = {
                str(check_id): spec_from_masked(entry["spec"], interval=int(entry["interval_us"]))
                for check_id, entry in answer["checks"].items()
            }
            return RunningConfig(
                digest=str(answer["digest"]),
                revision=str(answer.get("revision", "")),
                location=str(answer.get("location", "")),
                specs=specs,
                moved={str(old): str(new) for old, new in answer.get("moved", {}).items()},
                settings={key: value for key, value in answer.items() if key not in NOT_SETTINGS},
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            raise self._strange() from None

    def checks(self) -> tuple[CheckSummary, ...]:
        return self._parsed(_summaries, self._ask("GET", "/api/v1/checks"), "checks")

    def compare(
        self, secrets: Mapping[str, Mapping[str, SecretStr]], *, nonce: bytes, wait: Wait
    ) -> dict[str, frozenset[str]]:
        """Which of these secrets (id -> path -> value) the exporter holds another value of.

        Neither side shows one: both compute an HMAC under ``nonce``. The exporter answers about one such
        question a second, so that ``wait`` is called between them.
        """
        differ: dict[str, frozenset[str]] = {}
        for part in _parts(secrets, nonce):
            body = {"nonce": nonce.hex(), "digests": part}
            answer = self._compare_once(body, wait)
            try:
                for check_id, paths in answer["differ"].items():
                    differ[check_id] = differ.get(check_id, frozenset()) | frozenset(map(str, paths))
            except (KeyError, TypeError, AttributeError):
                raise self._strange() from None
        return differ

    def _compare_once(self, body: Mapping[str, Any], wait: Wait) -> Any:
        for _ in range(COMPARE_ATTEMPTS):
            response = self._send("POST", "/api/v1/config/compare", json=body)
            if response.status_code != 429:
                return self._answer(response)
            wait(1.1)
        raise ServerError(f"{self.server} is busy comparing secrets for others; try again in some seconds")

    def report(self, *, since: Instant, until: Instant) -> tuple[Coverage, ...]:
        """Every check's slots in [since, until) by how they ended; the largest part of it is history."""
        query = {"since": isoformat(since), "until": isoformat(until)}
        answer = self._ask("GET", "/api/v1/report", params=query, timeout=PATIENT_SECONDS)
        return self._parsed(_coverage, answer, "checks")

    def reload(self, *, allow_mass_delete: bool = False) -> Reload:
        """Have the configuration read again; what that changed.

        :raises ReloadRejectedError: the new one is not valid, and the old one goes on.
        """
        query = {"allow_mass_delete": "true"} if allow_mass_delete else {}
        response = self._send("POST", "/-/reload", params=query, timeout=PATIENT_SECONDS)
        if response.status_code in {403, 404, 405} and "everything lies below" not in response.text:
            raise ServerError(
                f"{self.server} takes no reload over HTTP; start it with --web.enable-lifecycle, or send it SIGHUP"
            )
        if response.status_code == 500:
            raise ReloadRejectedError(_problem_lines(response))
        return self._reloaded(self._answer(response))

    def backup(self, write: Callable[[bytes], object]) -> int:
        """Have the whole history sent, piece by piece; how many results it holds.

        :raises ServerError: none can be taken, or it broke off.
        """
        try:
            with self._http.stream("POST", "/api/v1/backup", timeout=COPYING, **self._how) as response:
                if response.status_code != 200:
                    response.read()
                    self._answer(response)
                    raise self._strange()
                for piece in response.iter_raw():
                    write(piece)
                return int(response.headers["X-Watchbill-Rows"])
        except httpx2.TransportError as error:
            raise _lost(self.server, "/api/v1/backup", error) from None
        except (KeyError, ValueError):
            raise self._strange() from None

    def _reloaded(self, answer: Any) -> Reload:
        try:
            changes = [*answer["checks"]["changed"], *answer["checks"]["moved"]]
            return Reload(
                digest=str(answer["digest"]),
                revision=str(answer["revision"]),
                counts={kind: int(answer[kind]) for kind in Plan().counts()},
                fields={str(each["id"]): tuple(map(str, each["fields"])) for each in changes},
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            raise self._strange() from None

    # --- asking -------------------------------------------------------------------------------------

    def _ask(self, method: str, path: str, **how: Any) -> Any:
        return self._answer(self._send(method, path, **how))

    def _send(self, method: str, path: str, **how: Any) -> httpx2.Response:
        headers = {"Accept": "application/json"}
        try:
            return self._http.request(method, path, headers=headers, **self._how, **how)
        except httpx2.TransportError as error:
            raise _lost(self.server, path, error) from None

    def _answer(self, response: httpx2.Response) -> Any:
        try:
            answer = response.json()
        except (ValueError, RecursionError):
            answer = None
        if response.status_code == 401:
            sent = "authorization" in response.request.headers
            wanted = "another user or password" if sent else "a user and a password"
            raise ServerError(f"{self.server} wants {wanted}; {_TO_BE_LET_IN}")
        if response.status_code == 400 and "speaks HTTPS" in response.text:
            raise ServerError(f"{self.server} speaks HTTPS; write https:// instead")
        if response.status_code >= 400:
            said = answer.get("error") if isinstance(answer, dict) else None
            raise ServerError(
                f"{self.server} answered {response.status_code}: {said or response.reason_phrase}"
            )
        if not isinstance(answer, dict):
            raise self._strange()
        return answer

    def _parsed(self, adapter: TypeAdapter[T], answer: Any, key: str) -> T:
        try:
            return adapter.validate_python(answer[key])
        except (KeyError, TypeError, ValidationError):
            raise self._strange() from None

    def _strange(self) -> ServerError:
        return ServerError(f"{self.server} answers, but not as a Watchbill exporter of this version does")


def _base(server: str) -> tuple[str, tuple[str, str] | None]:
    """The address without credentials, so that no message can show them, and the credentials."""
    try:
        url = httpx2.URL(server if "://" in server else f"http://{server}")
        port = urlsplit(str(url)).port
    except (httpx2.InvalidURL, ValueError):
        url, port = httpx2.URL(""), None
    if url.scheme not in {"http", "https"} or not url.host or port == 0 or "%20" in url.host:
        raise ServerError(f"not the address of an exporter, such as {DEFAULT_SERVER}")
    auth = (url.username, url.password) if url.userinfo else None
    bare = url.copy_with(userinfo=b"", query=None, fragment=None)
    return str(bare).rstrip("/"), auth


def _lost(server: str, path: str, error: httpx2.TransportError) -> UnreachableError:
    refused = handshake_advice(str(error))
    if refused:
        return UnreachableError(f"{server} {refused}")
    if isinstance(error, httpx2.TimeoutException):
        return UnreachableError(f"{server} did not answer {path} in time; is it overloaded?")
    if isinstance(error, httpx2.RemoteProtocolError):
        return UnreachableError(f"{server} broke off its answer to {path} ({_why(error)}); try again")
    return UnreachableError(
        f"no exporter answers at {server} ({_why(error)}); "
        "start one with `watchbill run CONFIG`, or name another address"
    )


def _why(error: Exception) -> str:
    """The system's words without its error number."""
    text = str(error).rpartition("] ")[2] or type(error).__name__
    return text[:1].lower() + text[1:]


def _parts(
    secrets: Mapping[str, Mapping[str, SecretStr]], nonce: bytes
) -> Iterator[dict[str, dict[str, str]]]:
    """The digests to send, in requests that stay below the exporter's limit of 64 KiB."""
    part: dict[str, dict[str, str]] = {}
    size = 0
    for check_id, paths in secrets.items():
        for path, secret in paths.items():
            digest = hmac.new(nonce, secret.get_secret_value().encode(), "sha256").hexdigest()
            entry = len(check_id) + len(path) + len(digest) + 24
            if part and size + entry > MOST_BYTES_PER_REQUEST:
                yield part
                part, size = {}, 0
            part.setdefault(check_id, {})[path] = digest
            size += entry
    if part:
        yield part


def _problem_lines(response: httpx2.Response) -> list[str]:
    try:
        answer = response.json()
        lines = [str(problem) for problem in answer.get("problems") or [answer["error"]]]
    except (ValueError, KeyError, TypeError, AttributeError):
        lines = response.text.strip().splitlines()
    return lines or ["the exporter refused the configuration and did not say why; its log does"]
