"""Brings an image onto the machine under one digest, and says whose fault it is when that fails.

The registry is asked for the digest first; only that digest is pulled. A registry that answered "not there" or
"denied" is the renter's side; one that can't be reached is the node's.
"""

import asyncio
import base64
import ipaddress
import json
import platform
import socket
from typing import Any

import aiohttp

from marketplace.protocol.registries import DOCKER_HUB, registry_name
from node.runtime.engine import SLOW_S, Engine
from node.runtime.errors import EngineRefused, ImageFault, ImageUnavailable, PullFailed
from node.runtime.port import Image, Login
from node.runtime.private_images import PrivateImages
from node.runtime.references import ImageName

PULL_IDLE_S = 60.0  # chosen: a download that moves nothing for a minute is dead
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}  # the names of uname and of images
_PROBE_S = 10.0
_NOT_FOUND, _CLIENT_ERROR, _SERVER_ERROR = 404, 400, 500
_DENIED = (401, 403)


class Puller:
    """private_registries: HOST:PORT of registries that may stand on private or loopback addresses; any other
    such address is refused, or renters could make this machine's engine probe the operator's own network.
    """

    def __init__(self, engine: Engine, private_registries: frozenset[str], private_images: PrivateImages) -> None:
        self._engine = engine
        self._private = private_registries
        self._private_images = private_images

    async def prepare(self, reference: str, digest: str | None, max_bytes: int, login: Login | None) -> Image:
        """See `port.Runtime.prepare`."""
        name = ImageName.parse(reference)
        if digest is not None and name.digest not in (None, digest):
            raise ImageUnavailable(ImageFault.INVALID, f"{reference} names another digest than {digest}")
        if login is not None and not _is_for(login, name):
            raise ImageUnavailable(ImageFault.DENIED, f"the login is for {login.registry}, not for {reference}")
        await self._check_registry(name)
        asked = digest is None and name.digest is None
        wanted = digest or name.digest or await self._resolve(name, login)
        pinned = f"{name.name}@{wanted}"
        present = await self.inspect(pinned)
        if not asked and (present is None or await self._private_images.holds(pinned)):
            await self._resolve(ImageName(name.name, name.host, None, wanted), login)
        if present is None:
            if login is not None:
                await self._private_images.add(pinned)
            await self._pull(pinned, max_bytes, login)
            present = await self.inspect(pinned)
            if present is None:
                raise PullFailed(f"the engine pulled {pinned} and does not have it")
        self._check(present, max_bytes)
        return Image(reference, name.name, wanted, int(present["Size"]))

    async def find(self, reference: str) -> Image | None:
        """See `DockerRuntime.find_image`."""
        name = ImageName.parse(reference)
        found = await self.inspect(name.tagged)
        if found is None:
            return None
        self._check(found, int(found["Size"]))
        pinned = [each.rpartition("@") for each in found.get("RepoDigests") or ()]
        digests = [digest for repository, _, digest in pinned if _short_name(repository) == _short_name(name.name)]
        if digests:
            return Image(reference, name.name, digests[0], int(found["Size"]))
        return Image(reference, "", f"sha256:{str(found['Id']).removeprefix('sha256:')}", int(found["Size"]))

    async def inspect(self, pinned: str) -> dict[str, Any] | None:
        """What the engine knows of an image, None when it doesn't have it."""
        try:
            found: dict[str, Any] = await self._engine.get(f"images/{pinned}/json")
        except EngineRefused as refused:
            if refused.status == _NOT_FOUND:
                return None
            raise
        return found

    def _check(self, image: dict[str, Any], max_bytes: int) -> None:
        size = int(image["Size"])
        if size > max_bytes:
            raise ImageUnavailable(ImageFault.TOO_LARGE, f"the image has {size} bytes, {max_bytes} are allowed")
        if (image["Os"], image["Architecture"]) != ("linux", _architecture()):
            raise ImageUnavailable(
                ImageFault.WRONG_PLATFORM,
                f"the image is for {image['Os']}/{image['Architecture']}, this machine is linux/{_architecture()}",
            )

    async def _resolve(self, name: ImageName, login: Login | None) -> str:
        """The digest that the registry has for a name now."""
        path = f"distribution/{name.tagged}/json"
        try:
            found = await self._engine.call("GET", path, headers=_headers(name, login), timeout_s=SLOW_S)
        except EngineRefused as refused:
            raise await self._blame(name, refused) from refused
        platforms = found.get("Platforms") or []
        if platforms and not any(p.get("architecture") in (_architecture(), "", None) for p in platforms):
            offered = ", ".join(sorted(f"{p.get('os')}/{p.get('architecture')}" for p in platforms))
            raise ImageUnavailable(
                ImageFault.WRONG_PLATFORM, f"the image is for {offered}, this machine is linux/{_architecture()}"
            )
        return str(found["Descriptor"]["digest"])

    async def _blame(self, name: ImageName, refused: EngineRefused) -> ImageUnavailable | PullFailed:
        """Docker answers 500 both for "log in first" and for "unreachable": the registry itself is asked which."""
        words = f"{name.tagged}: {refused}"
        if refused.status == _NOT_FOUND:
            return ImageUnavailable(ImageFault.NOT_FOUND, words)
        if refused.status in _DENIED or (refused.status >= _SERVER_ERROR and await self._wants_login(name)):
            return ImageUnavailable(ImageFault.DENIED, words)
        if _CLIENT_ERROR <= refused.status < _SERVER_ERROR:
            return ImageUnavailable(ImageFault.INVALID, words)
        return PullFailed(words)

    async def _wants_login(self, name: ImageName) -> bool:
        """Whether the registry answers a plain request with "who are you". Docker Hub's own 401 doesn't count:
        it hands tokens to anybody.
        """
        if name.host is None:
            return False
        scheme = "http" if name.host in self._private else "https"
        timeout = aiohttp.ClientTimeout(total=_PROBE_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(f"{scheme}://{name.host}/v2/", allow_redirects=False) as answer,
            ):
                challenge = answer.headers.get("WWW-Authenticate", "")
                return answer.status in _DENIED and not challenge.lower().startswith("bearer")
        except (TimeoutError, aiohttp.ClientError, OSError):
            return False

    async def _pull(self, pinned: str, max_bytes: int, login: Login | None) -> None:
        """Follow the download and break it off when its layers alone are too large (packed is never larger
        than unpacked by more than a few bytes a block).
        """
        sizes: dict[str, int] = {}
        try:
            async with self._engine.stream(
                "POST",
                "images/create",
                params={"fromImage": pinned},
                headers=_headers(ImageName.parse(pinned), login),
            ) as answer:
                while line := await _next_line(answer):
                    step = json.loads(line)
                    if "errorDetail" in step or "error" in step:
                        raise PullFailed(str(step.get("errorDetail", {}).get("message") or step.get("error")))
                    total = (step.get("progressDetail") or {}).get("total")
                    if step.get("status") == "Downloading" and isinstance(total, int):
                        sizes[step["id"]] = total
                    if sum(sizes.values()) > max_bytes:
                        raise ImageUnavailable(
                            ImageFault.TOO_LARGE,
                            f"the image has more than {sum(sizes.values())} bytes, {max_bytes} are allowed",
                        )
        except TimeoutError as stalled:
            raise PullFailed(f"the download of {pinned} stood still for {PULL_IDLE_S:.0f} s") from stalled
        except EngineRefused as refused:
            raise PullFailed(str(refused)) from refused

    async def _check_registry(self, name: ImageName) -> None:
        """Refuse registries on the operator's own side of the network."""
        if name.host is None or name.host in self._private:
            return
        host, port = _split(name.host)
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise PullFailed(f"the registry {name.host} has no address: {error}") from error
        if not all(ipaddress.ip_address(entry[4][0]).is_global for entry in found):
            raise ImageUnavailable(ImageFault.DENIED, f"{name.host} isn't a public registry")


async def _next_line(answer: aiohttp.ClientResponse) -> bytes:
    """Raises TimeoutError when nothing moves."""
    async with asyncio.timeout(PULL_IDLE_S):
        return await answer.content.readline()


def _is_for(login: Login, name: ImageName) -> bool:
    return login.registry is None or registry_name(login.registry) == registry_name(name.host)


def _headers(name: ImageName, login: Login | None) -> dict[str, str] | None:
    """What carries a login to the engine, which hands it to this registry alone. Source: Docker Engine API v1.41."""
    if login is None:
        return None
    host = "https://index.docker.io/v1/" if registry_name(name.host) == DOCKER_HUB else name.host
    fields = {"username": login.username, "password": login.password, "serveraddress": host}
    return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(fields).encode()).decode()}


def _short_name(repository: str) -> str:
    """As people write it: engines differ in whether they spell Docker Hub out."""
    return repository.removeprefix("docker.io/").removeprefix("library/")


def _split(host: str) -> tuple[str, int]:
    bare, colon, port = host.rpartition(":")
    if colon and port.isdigit():
        return bare.strip("[]"), int(port)
    return host.strip("[]"), 443


def _architecture() -> str:
    return _ARCHITECTURES.get(platform.machine(), platform.machine())
