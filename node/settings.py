"""The node's configuration: one TOML file, read here and nowhere else; written with comments by `reaver-node init`.

Paths in it are relative to its own folder. A name that isn't known is an error: a misspelt setting must not be
silently without effect.
"""

import os
import tomllib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

import base58
import platformdirs
import tomlkit
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from marketplace.domain.catalogue import UnknownName, find_class, find_place
from marketplace.domain.money import MalformedAmount, hourly_from_gpu_second
from node.errors import ConfigUnusable
from node.metering import Identity

DEFAULT_FILE: Final = Path(platformdirs.user_config_dir("reaver")) / "node" / "config.toml"


_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


class RuntimeKind(StrEnum):
    """What runs the containers. `process` isolates nothing: development only."""

    DOCKER = "docker"
    PROCESS = "process"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


Address = Annotated[str, Field(pattern=r"^$|^[1-9A-HJ-NP-Za-km-z]{32,44}$")]
"""Base58 of 32 bytes, or empty while it is not known."""


class MarketSettings(_Section):
    """The one market that this node works for, and what it is pinned to.

    address, program_id, genesis_hash: written by `init` or `register`; a market that names others is not obeyed.
    decimals: of the payment token. max_fee_bps: claims with higher fees are refused.
    """

    url: str
    address: Address = ""
    program_id: Address = ""
    genesis_hash: Address = ""
    decimals: int = Field(default=6, ge=0, le=18)
    max_fee_bps: int = Field(default=1000, ge=0, le=10_000)

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.netloc or parts.query or parts.fragment:
            raise ValueError("must be http(s)://host[:port]")
        return value.rstrip("/")


class NodeSettings(_Section):
    """What this node offers.

    id: written by `register`. slots: how many of its class at once.
    price_floor_per_gpu_second: of one GPU, or slot of a CPU class, in whole tokens.
    """

    id: str = ""
    name: str = Field(default="", max_length=64)
    region: str = "eu"
    data_center: str = Field(default="", max_length=64)
    class_id: str = "cpu-small"
    slots: int = Field(default=1, ge=1, le=1024)
    price_floor_per_gpu_second: str = "0.000001"

    @field_validator("class_id")
    @classmethod
    def _check_class(cls, value: str) -> str:
        try:
            return find_class(value).id
        except UnknownName as error:
            raise ValueError(f"no such class; nearest: {', '.join(error.suggestions)}") from error

    @field_validator("region")
    @classmethod
    def _check_region(cls, value: str) -> str:
        try:
            return find_place(value)
        except UnknownName as error:
            raise ValueError(f"no such region or country; nearest: {', '.join(error.suggestions)}") from error


class ProcessImageSettings(_Section):
    """A command of this machine that the process runtime offers under an image's name."""

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()


class RuntimeSettings(_Section):
    """What runs the containers.

    deployment: labels everything of this node's; two nodes on one machine need two names.
    engine: address of the engine (unix:///…), empty for the usual places.
    private_registries: HOST:PORT that may be pulled from though they are not public.
    images: what the process runtime offers, by name.
    """

    kind: RuntimeKind = RuntimeKind.DOCKER
    deployment: str = Field(default="reaver-node", pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")
    engine: str = ""
    max_disk_gb: int = Field(default=20, ge=0)
    max_image_gb: int = Field(default=20, ge=1)
    log_limit_mb: int = Field(default=16, ge=1, le=100)
    private_registries: tuple[str, ...] = ()
    images: dict[str, ProcessImageSettings] = {}


class ChainSettings(_Section):
    """Where the node itself reads and, if need be, settles. Without it the market's word is all it has."""

    rpc_url: str = ""


class KeySettings(_Section):
    """Keypair files. The daemon needs the node's only; the operator's is for `register`."""

    node: Path = Path("node.json")
    operator: Path = Path("operator.json")


class Settings(_Section):
    """Everything the node reads."""

    market: MarketSettings
    node: NodeSettings = NodeSettings()
    runtime: RuntimeSettings = RuntimeSettings()
    chain: ChainSettings = ChainSettings()
    keys: KeySettings = KeySettings()
    data_dir: Path = Path("data")
    file: Path = Field(exclude=True)

    @model_validator(mode="after")
    def _check_price(self) -> Self:
        try:
            hourly_from_gpu_second(self.node.price_floor_per_gpu_second, 1, self.market.decimals, ceiling=False)
        except (MalformedAmount, ArithmeticError) as error:
            raise ValueError("node.price_floor_per_gpu_second: not a decimal amount") from error
        return self

    @property
    def local(self) -> bool:
        """Whether the market (and the chain, where one is named) is on this very machine: development."""
        urls = [self.market.url, *([self.chain.rpc_url] if self.chain.rpc_url else [])]
        return all(urlsplit(url).hostname in _LOOPBACK for url in urls)

    @model_validator(mode="after")
    def _check_runtime(self) -> Self:
        if self.runtime.kind is RuntimeKind.PROCESS and not self.local:
            raise ValueError("runtime.kind: process isolates nothing and may serve a market on this machine only")
        return self

    def path(self, relative: Path) -> Path:
        """A path of the file, absolute."""
        return self.file.parent / relative

    @property
    def data(self) -> Path:
        """Folder of the journal and of what containers leave."""
        return self.path(self.data_dir)

    @property
    def journal(self) -> Path:
        """The journal's file."""
        return self.data / "journal.sqlite3"

    @property
    def drain_flag(self) -> Path:
        """While this file exists, the node takes no new work."""
        return self.data / "draining"

    def identity(self, node_account: bytes) -> Identity:
        """What the node signs for. Raises ConfigUnusable while it isn't registered."""
        missing = [n for n in ("address", "program_id", "genesis_hash") if not getattr(self.market, n)]
        if missing or not self.node.id:
            raise ConfigUnusable(f"{self.file}: this node is not registered yet; run `reaver-node register`")
        return Identity(
            program_id=base58.b58decode(self.market.program_id),
            genesis_hash=base58.b58decode(self.market.genesis_hash),
            market=base58.b58decode(self.market.address),
            node=node_account,
        )


def load(file: Path) -> Settings:
    """The settings in this file. Raises ConfigUnusable with every wrong name and value."""
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigUnusable(f"{file} does not exist; `reaver-node init` creates it") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigUnusable(f"{file} can't be read: {error}") from error
    try:
        return Settings.model_validate(raw | {"file": file.absolute()})
    except ValidationError as error:
        lines = [f"{'.'.join(str(part) for part in e['loc']) or 'file'}: {e['msg']}" for e in error.errors()]
        raise ConfigUnusable(f"{file}: {'; '.join(lines)}") from error


def update(file: Path, changes: Mapping[str, Mapping[str, str | int | Sequence[str]]]) -> None:
    """Set values (section, name) in the file; comments, order and everything else stay as a person left them."""
    document = tomlkit.parse(file.read_text(encoding="utf-8"))
    for section, values in changes.items():
        table = document.setdefault(section, tomlkit.table())
        for name, value in values.items():
            table[name] = value
    temporary = file.with_name(f".{file.name}.new")
    temporary.write_text(tomlkit.dumps(document), encoding="utf-8")
    os.replace(temporary, file)  # noqa: PTH105 - atomic, keeps the old file on any failure


def template(
    *,
    market_url: str,
    rpc_url: str,
    region: str,
    class_id: str,
    slots: int,
    kind: RuntimeKind,
    deployment: str = "reaver-node",
    private_registries: Sequence[str] = (),
) -> str:
    """A commented configuration for a new node."""
    document = tomlkit.document()
    document.add(tomlkit.comment("Configuration of one reaver-node. Paths are relative to this file."))
    document.add("data_dir", tomlkit.item("data"))
    document.add(tomlkit.nl())
    sections = _sections(market_url, rpc_url, region, class_id, slots)
    sections["runtime"] = _runtime_section(kind, deployment, private_registries)
    for name, entries in sections.items():
        table = tomlkit.table()
        for key, value, comment in entries:
            item = tomlkit.item(value)
            if comment:
                item.comment(comment)
            table.add(key, item)
        document.add(name, table)
    return tomlkit.dumps(document)


_Entry = tuple[str, str | int | list[str], str]


def _sections(market_url: str, rpc_url: str, region: str, class_id: str, slots: int) -> dict[str, list[_Entry]]:
    return {
        "market": [
            ("url", market_url, "the market this node works for"),
            ("address", "", "pinned by init or register: its account on chain"),
            ("program_id", "", "pinned: the settlement program"),
            ("genesis_hash", "", "pinned: the chain"),
            ("decimals", 6, "of the payment token"),
            ("max_fee_bps", 1000, "claims with higher fees are refused (hundredths of a percent)"),
        ],
        "node": [
            ("id", "", "given by the market at registration"),
            ("name", "", "shown to renters"),
            (
                "region",
                region,
                "eu, na, sa, as, oc, af; or your country, such as de, and jobs that ask for it find you",
            ),
            ("class_id", class_id, "hardware class that is offered"),
            ("slots", slots, "how many of that class at the same time"),
            ("price_floor_per_gpu_second", "0.000001", "in tokens; below it nothing is claimed"),
        ],
        "chain": [
            ("rpc_url", rpc_url, "lets the node check the market's word and settle without it"),
        ],
        "keys": [
            ("node", "node.json", "signs claims and vouchers; stays on this machine"),
            ("operator", "operator.json", "owns the bond and is paid; only `register` needs it here"),
        ],
    }


def _runtime_section(kind: RuntimeKind, deployment: str, private_registries: Sequence[str]) -> list[_Entry]:
    return [
        ("kind", kind.value, "docker (or Podman's socket); process isolates nothing: development only"),
        ("deployment", deployment, "label of this node's containers; unique on this machine"),
        ("engine", "", "address of the engine (unix:///...), empty for the usual places"),
        ("private_registries", list(private_registries), "HOST:PORT that may be pulled from though not public"),
        ("max_disk_gb", 20, "most disk one job may ask for"),
        ("max_image_gb", 20, "larger images are refused"),
        ("log_limit_mb", 16, "output kept of one job"),
    ]
