"""``kubernetes_sd``: what a cluster declares, as targets, while it changes.

What one namespace or one kind refuses does not hold the others up: it keeps what it had, from before a restart too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import anyio
import structlog
from anyio.lowlevel import checkpoint

from watchbill.discovery.kubernetes_api import RESOURCES, Api, ApiError
from watchbill.discovery.kubernetes_objects import (
    Object,
    chosen_namespaces,
    ingress_group,
    key_of,
    probe_group,
    service_group,
    wants_ingresses,
)
from watchbill.discovery.mirror import FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS, Mirror
from watchbill.discovery.sources import Report, Source
from watchbill.domain.discovery import ADDRESS, TargetGroup
from watchbill.domain.kubernetes_sd import KubernetesSd, Role
from watchbill.ports import Files, HttpClient, Judge

TOGETHER_SECONDS = 0.5
"""Changes that come so close to each other are told at once."""
INGRESSES_AT_ONCE = 100
"""Made targets of before others come to run: some 7 ms."""

log = structlog.get_logger()


def kubernetes_source(
    options: KubernetesSd,
    *,
    http: HttpClient,
    files: Files,
    judge: Judge,
    environment: Mapping[str, str],
    random: Callable[[], float],
    monotonic: Callable[[], float],
) -> Source:
    """``environment``: where a pod is told of its cluster; ``random``: from 0 to 1; ``monotonic``: seconds."""
    return partial(_follow, Api(options, http, files, judge, environment), random, monotonic)


async def _follow(
    api: Api, random: Callable[[], float], monotonic: Callable[[], float], report: Report
) -> None:
    namespaces = await _namespaces(api, random, report)
    view = _View(api.options.role, report)
    roles: tuple[Role, ...] = ("probe", "ingress") if view.role == "probe" else (view.role,)
    async with anyio.create_task_group() as group:
        for role in roles:
            for namespace in namespaces:
                mirror = Mirror(
                    api, RESOURCES[role], namespace, _selectors(api.options, role),
                    view.change, report.failed, random, monotonic,
                )  # fmt: skip
                view.mirrors[role] = [*view.mirrors.get(role, ()), mirror]
                group.start_soon(mirror.follow, name=f"{role} in {namespace or 'all namespaces'}")
        await view.tell()


async def _namespaces(api: Api, random: Callable[[], float], report: Report) -> Sequence[str]:
    """Where to look; one empty name stands for everywhere."""
    wanted, seconds = dict.fromkeys(api.options.namespaces), FIRST_WAIT_SECONDS
    while api.options.own_namespace:
        try:
            wanted[await api.own_namespace()] = None
            break
        except ApiError as error:
            report.failed(str(error))
        await anyio.sleep(seconds * (0.5 + random() / 2))
        seconds = min(2 * seconds, LONGEST_WAIT_SECONDS)
    return list(wanted) or [""]


def _selectors(options: KubernetesSd, role: Role) -> Mapping[str, str]:
    """Those of the declared role: a Probe chooses its ingresses itself."""
    if role != options.role:
        return {}
    declared = {"labelSelector": options.label_selector, "fieldSelector": options.field_selector}
    return {name: text for name, text in declared.items() if text}


@dataclass(slots=True)
class _View:
    """All mirrors together as groups of targets."""

    role: Role
    report: Report
    mirrors: dict[Role, list[Mirror]] = field(default_factory=dict)
    _made: dict[int, tuple[Object, TargetGroup]] = field(default_factory=dict)
    _problems: dict[str, str] = field(default_factory=dict)
    """What was said of Probes that make no sense, by their keys."""
    _changed: anyio.Event = field(default_factory=anyio.Event)

    def change(self) -> None:
        self._changed.set()

    async def tell(self) -> None:
        while True:
            await self._changed.wait()
            await anyio.sleep(TOGETHER_SECONDS)
            self._changed = anyio.Event()
            if not any(mirror.known for mirror in self.mirrors[self.role]):
                continue  # ingresses alone say nothing of Probes
            await self._make()
            groups = [*(group for _, group in self._made.values()), *self._kept()]
            self.report.found(sorted(groups, key=lambda group: group.source))

    async def _make(self) -> None:
        """Groups of what is new or may have become another; giving way, since a cluster may have thousands."""
        made: dict[int, tuple[Object, TargetGroup]] = {}
        ingresses = self._ingresses() if self.role == "probe" else None
        for found in [one for mirror in self.mirrors[self.role] for one in mirror.objects.values()]:
            known = self._made.get(id(found))
            if known is None or self._depends(found):
                await checkpoint()
                group = await self._group(found, ingresses)
                if group is None:
                    continue
                known = (found, group)
            made[id(found)] = known
        self._made = made

    def _depends(self, found: Object) -> bool:
        return self.role == "probe" and wants_ingresses(found)

    async def _group(
        self, found: Object, ingresses: Mapping[str, Sequence[Object]] | None
    ) -> TargetGroup | None:
        """``None``: it cannot be told yet."""
        match self.role:
            case "ingress":
                return ingress_group(found)
            case "service":
                return service_group(found)
            case "probe" if wants_ingresses(found):
                return None if ingresses is None else await self._probe(found, _chosen(found, ingresses))
            case _:
                return await self._probe(found, ())

    async def _probe(self, found: Object, ingresses: Sequence[Object]) -> TargetGroup:
        key, targets = key_of(found), list[Mapping[str, str]]()
        try:
            for start in range(0, max(len(ingresses), 1), INGRESSES_AT_ONCE):
                await checkpoint()
                targets += probe_group(found, ingresses[start : start + INGRESSES_AT_ONCE]).targets
        except ValueError as error:
            if self._problems.get(key) != str(error):  # it is read anew with each change of an ingress
                log.warning("discovery.probe_invalid", probe=key, problem=str(error))
            self._problems[key] = str(error)
            # A target without an address is dropped, and counted.
            targets = [{ADDRESS: ""}]
        else:
            self._problems.pop(key, None)
        return TargetGroup(f"probe/{key}", tuple(targets), {})

    def _ingresses(self) -> Mapping[str, Sequence[Object]] | None:
        """By namespace; ``None``: not all are known yet."""
        mirrors = self.mirrors.get("ingress", ())
        if not all(mirror.known for mirror in mirrors):
            return None
        found: dict[str, list[Object]] = {}
        for mirror in mirrors:
            for key, one in mirror.objects.items():
                found.setdefault(key.partition("/")[0], []).append(one)
        return found

    def _kept(self) -> Iterator[TargetGroup]:
        """What was found before and cannot be told now: of what was never listed, and of Probes that wait for ingresses."""
        told = {group.source for _, group in self._made.values()}
        waiting = self.role == "probe" and self._ingresses() is None
        unsure = [mirror for mirror in self.mirrors[self.role] if waiting or not mirror.known]
        for group in self.report.last() if unsure else ():
            kind, _, key = group.source.partition("/")
            namespace = key.partition("/")[0]
            if group.source not in told and any(
                mirror.resource.kind == kind
                and mirror.namespace in ("", namespace)
                and (not mirror.known or key in mirror.objects)
                for mirror in unsure
            ):
                yield group


def _chosen(probe: Object, ingresses: Mapping[str, Sequence[Object]]) -> Sequence[Object]:
    namespaces = chosen_namespaces(probe)
    names = sorted(ingresses if namespaces is None else set(namespaces))
    return [one for name in names for one in ingresses.get(name, ())]
