"""What a device offers: its resources by path, and those that every device has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from random import Random

from aiocoap.numbers import codes
from aiocoap.numbers.codes import Code

from pdmlab.client.resource import M2MMethod, Resource
from pdmlab.client.update_objects import Execute, UpdateObjects, action, name_of, number, text
from pdmlab.errors import ConfigError
from pdmlab.lwm2m import tlv
from pdmlab.lwm2m.content import Value, to_text
from pdmlab.lwm2m.linkformat import Link
from pdmlab.lwm2m.paths import Path
from pdmlab.update.credentials import Credentials

LIFETIME = 7200
"""MBED_CLOUD_CLIENT_LIFETIME of the stock example (s)."""
MIN_LIFETIME = 60
LAST_AUTO_TOKEN = 1023
CURRENT_TIME, ENROLL = Path.parse("/3/0/13"), Path.parse("/35011/0/27002")
"""What a device has only once it knows the time, and has a certificate to renew."""


class ObjectTree:
    """Resources by path. Auto-observed ones get a number each, from a random one on, as in the stock client."""

    def __init__(self, resources: Iterable[Resource], random: Random) -> None:
        self._resources: dict[Path, Resource] = {}
        self._next_auto = random.randrange(1, LAST_AUTO_TOKEN + 1)
        self.auto: dict[Path, int] = {}
        for resource in resources:
            self.add(resource)

    def add(self, resource: Resource) -> None:
        """Offer one more.

        Raises:
            ConfigError: there is one of that path.
        """
        if resource.path in self._resources:
            raise ConfigError(f"{resource.path} is there already", hint="the client itself has objects 1, 3, 14, 102xx")
        self._resources[resource.path] = resource
        if resource.auto:
            self.auto[resource.path] = self._next_auto
            self._next_auto = self._next_auto % LAST_AUTO_TOKEN + 1

    def __iter__(self) -> Iterator[Resource]:
        return iter(sorted(self._resources.values(), key=lambda each: each.path))

    def find(self, path: Path) -> Resource | None:
        """Return the resource of that very path."""
        return self._resources.get(path)

    def below(self, path: Path) -> list[Resource]:
        """Return the resources under an object or instance, sorted."""
        return [each for each in self if path.contains(each.path)]

    def links(self, under: Path | None = None) -> list[Link]:
        """Return what registration says: each object and instance, and each resource with its value if published."""
        links: list[Link] = []
        shown: set[Path] = set()
        for resource in self:
            if under is not None and not under.contains(resource.path):
                continue
            for parent in (Path(resource.path.ids[:1]), Path(resource.path.ids[:2])):
                if parent not in shown:
                    shown.add(parent)
                    links.append(Link(parent))
            links.append(
                Link(
                    resource.path,
                    rt=resource.name or None,
                    v=_published(resource),
                    aobs=self.auto.get(resource.path),
                    obs=resource.is_observable and not resource.auto,
                )
            )
        return links

    def content(self, path: Path) -> bytes | None:
        """Return an object or instance in TLV, all that can be read of it; None if there is none."""
        found = self.below(path)
        if not found or len(path.ids) > 2:
            return None
        instances: dict[int, list[tlv.Entry]] = {each.path.ids[1]: [] for each in found}
        for each in found:
            if each.operations & M2MMethod.GET:
                instances[each.path.ids[1]].append(each.entry())
        if path.instance is not None:
            return tlv.encode(instances[path.instance])
        return tlv.encode([tlv.object_instance(id, entries) for id, entries in instances.items()])


def _published(resource: Resource) -> str | None:
    value = resource.value
    if not resource.publish or isinstance(value, dict):
        return None
    return to_text(value, resource.type)


@dataclass(frozen=True)
class Actions:
    """What the server may make the device itself do."""

    reboot: Execute
    factory_reset: Execute
    update_registration: Execute
    lifetime_changed: Callable[[], None]
    disable: Execute


@dataclass(frozen=True)
class StandardObjects:
    """The objects that every device has; what changes by itself, by name."""

    resources: list[Resource]
    lifetime: Resource


def standard_objects(credentials: Credentials, updating: UpdateObjects, actions: Actions) -> StandardObjects:
    """Make objects 1 (server) and 3 (device), with those of the update client in between."""

    def change_lifetime(value: Value) -> Code:
        if not isinstance(value, int) or value < MIN_LIFETIME:
            return codes.NOT_ACCEPTABLE
        lifetime.update(value)
        actions.lifetime_changed()
        return codes.CHANGED

    lifetime = Resource(
        Path.parse("/1/0/1"),
        "integer",
        M2MMethod.GET | M2MMethod.PUT,
        LIFETIME,
        name="Lifetime",
        auto=True,
        write=change_lifetime,
        refusal=codes.NOT_ACCEPTABLE,
    )
    resources = [
        number("/1/0/0", 1, auto=False),
        lifetime,
        action("/1/0/4", actions.disable),
        Resource(Path.parse("/1/0/6"), "boolean", value=True, name=name_of("/1/0/6")),
        Resource(Path.parse("/1/0/7"), value="U", name=name_of("/1/0/7")),
        action("/1/0/8", actions.update_registration),
        text("/3/0/0", credentials.manufacturer),
        text("/3/0/1", credentials.model_number),
        text("/3/0/2", credentials.serial_number),
        action("/3/0/4", actions.reboot),
        action("/3/0/5", actions.factory_reset, delayed=True),
        Resource(Path.parse("/3/0/11"), "integer", value={0: 0}, name=name_of("/3/0/11")),
        Resource(Path.parse("/3/0/16"), value="U", name=name_of("/3/0/16")),
        text("/3/0/17", credentials.device_type),
        text("/3/0/18", credentials.hardware_version),
        number("/3/0/21", credentials.memory_total_kb, auto=False),
        *updating.resources,
    ]
    return StandardObjects(resources, lifetime)


class _Clock(Resource):
    """The time, whenever somebody asks."""

    def __init__(self, now: Callable[[], int]) -> None:
        super().__init__(CURRENT_TIME, "time", name=name_of(str(CURRENT_TIME)))
        self._now = now

    @property
    def value(self) -> Value:
        return self._now()


def current_time(now: Callable[[], int]) -> Resource:
    """Make /3/0/13, which tells the time (s since 1970)."""
    return _Clock(now)


def enrollment(renew: Callable[[bytes], Awaitable[bytes]]) -> Resource:
    """Make /35011/0/27002, which renews a certificate and answers with how that went."""
    return Resource(ENROLL, operations=M2MMethod.POST, name="Enroll", delayed=True, reply=renew)
