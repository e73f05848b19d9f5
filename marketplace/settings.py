"""Settings of the market: TOML file < environment < flags. The only place that reads configuration.

The file is `localnet.toml` or what `--config` names. Its `[chain]` belongs to the localnet, which configures its
own listener there; the market reads from it how to reach the chain, and ignores the rest. In every other section
a name we don't know is an error: a misspelt setting must not be silently without effect.

Environment: `REAVER_MARKET_<SECTION>__<NAME>`, such as `REAVER_MARKET_API__PORT=8790`. (`REAVER_API`, `REAVER_RPC`
and their like belong to the renter's CLI.)
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from marketplace.domain.timing import PAUSE_LIMIT_MS
from marketplace.errors import SettingsError
from marketplace.protocol.addresses import MalformedBase58, address_bytes

DEFAULT_FILE = Path("localnet.toml")
ENVIRONMENT_PREFIX = "REAVER_MARKET_"

Port = Annotated[int, Field(ge=0, le=65535)]
"""A TCP port; 0 lets the system choose one."""
PositiveInt = Annotated[int, Field(ge=1)]


class Cluster(StrEnum):
    """Chain ID of the login text (Sign-In-With-Solana)."""

    MAINNET = "mainnet"
    DEVNET = "devnet"
    TESTNET = "testnet"
    LOCALNET = "localnet"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ChainSettings(BaseModel):
    """How to reach the chain. Other names in `[chain]` are the localnet's.

    rpc_url, ws_url: any Solana RPC; where absent, the localnet of this file (`host`, `rpc_port`, `ws_port`).
    program_id, payment_mint, stake_mint: addresses; by default those of every fresh localnet.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    rpc_url: str = ""
    ws_url: str = ""
    host: str = "127.0.0.1"
    rpc_port: Port = 8899
    ws_port: Port | None = None
    program_id: str = "3Q8EAU3nPL3Fh5LAphwprGjPi7TTtY1qaPtXejC4iVhY"
    payment_mint: str = "Aj7QcVtyTgc41VBKrJhNy8wFNognGrYEGg14CUowf5Qg"
    stake_mint: str = "CsdKnwTXcjPmboG4CqKGB35ekp4qJjLggVdYdX3awMRu"
    request_timeout_s: PositiveInt = 10

    @property
    def rpc(self) -> str:
        """URL of the JSON-RPC endpoint."""
        return self.rpc_url or f"http://{self.host}:{self.rpc_port}"

    @property
    def ws(self) -> str:
        """URL of the subscription endpoint."""
        # Solana's clients take the next port where none is named; so does the localnet.
        return self.ws_url or f"ws://{self.host}:{self.ws_port if self.ws_port is not None else self.rpc_port + 1}"


class MarketSettings(_Section):
    """Who this market is.

    data_dir: state of this process: database, key ring. keys_dir: the market's keypair files and key ring.
    cluster: chain ID in the login text. currency: symbol of the payment token.
    heartbeat_s: seconds between a node's heartbeats; nodes obey.
    fee_bps: the market's own fee, for `init`; the profile's where absent.
    pause_s: how long a job is held at its time limit for more time, unbilled; 0 ends it at once.
    trust_hardware: GPU classes become active without a benchmark; for tests.
    admins: wallets whose logins have the scope `admin`; one that is taken out has lost it when the market is started.
    crank: move epochs on, close contests and dead escrows, sweep the protocol's fees; paid by the meter's key.
    """

    name: str = "reaver"
    data_dir: Path = Path(".reaver/market")
    keys_dir: Path | None = None
    cluster: Cluster = Cluster.LOCALNET
    currency: str = "USDC"
    heartbeat_s: PositiveInt = 15
    fee_bps: Annotated[int, Field(ge=0, le=10_000)] | None = None
    pause_s: Annotated[int, Field(ge=0, le=PAUSE_LIMIT_MS // 1000)] = PAUSE_LIMIT_MS // 1000
    trust_hardware: bool = False
    crank: bool = True
    admins: tuple[str, ...] = ()

    @property
    def local(self) -> bool:
        """Whether the chain is a local one: keys are funded by airdrop, crash points may be armed."""
        return self.cluster is Cluster.LOCALNET

    @property
    def keys(self) -> Path:
        """Folder of the market's keypair files."""
        return self.keys_dir or self.data_dir / "keys"

    @model_validator(mode="after")
    def _check_admins(self) -> "MarketSettings":
        for wallet in self.admins:
            try:
                address_bytes(wallet)
            except MalformedBase58 as error:
                raise ValueError(f"admins: {wallet[:64]!r} is no wallet's address: {error}") from error
        return self


class ApiSettings(_Section):
    """The HTTP listener.

    base_url: what users type, without a trailing slash; the login text names its host.
    trusted_proxies: addresses whose X-Forwarded-For is believed.
    shutdown_s: how long running requests may take to end when the process stops.
    """

    host: str = "127.0.0.1"
    port: Port = 8787
    base_url: str = ""
    trusted_proxies: tuple[str, ...] = ()
    max_streams_per_principal: PositiveInt = 20
    shutdown_s: PositiveInt = 10

    @property
    def public_url(self) -> str:
        """Base URL in logins and links."""
        return self.base_url.rstrip("/") or f"http://{self.host}:{self.port}"

    @property
    def domain(self) -> str:
        """Host (and port, where not the scheme's own) that the login text names."""
        return urlsplit(self.public_url).netloc

    @model_validator(mode="after")
    def _check_base_url(self) -> "ApiSettings":
        if self.base_url:
            parts = urlsplit(self.base_url)
            if parts.scheme not in {"http", "https"} or not parts.netloc or parts.query or parts.fragment:
                raise ValueError("base_url must be http(s)://host[:port][/path]")
        return self


class StoreSettings(_Section):
    """The database.

    path: SQLite file; default `market.sqlite3` in the market's data_dir.
    url: a PostgreSQL database instead, `postgresql://user:password@host:port/name`.
    synchronous: FULL survives a power cut, NORMAL only the death of the process.
    readers: snapshots read at once. group_limit: units of work that share a commit.
    """

    path: Path | None = None
    url: SecretStr | None = None
    synchronous: Literal["FULL", "NORMAL"] = "FULL"
    readers: PositiveInt = 2
    group_limit: PositiveInt = 256

    @model_validator(mode="after")
    def _check_one(self) -> "StoreSettings":
        if self.url is not None:
            if self.path is not None:
                raise ValueError("name a path or a url, not both")
            if urlsplit(self.url.get_secret_value()).scheme not in {"postgresql", "postgres"}:
                raise ValueError("url must be postgresql://…; a SQLite file is named by path")
        return self


class ObjectSettings(_Section):
    """Where files, inputs and outputs are kept: a folder, or a bucket where one is named.

    path: the folder; default `objects` in the market's data_dir. bucket: of an S3 service. prefix: of every key in it.
    endpoint: the service's URL, where it isn't Amazon's. access_key, secret_key: without them the machine's own role.
    """

    path: Path | None = None
    bucket: str = ""
    prefix: str = ""
    endpoint: str = ""
    region: str = "us-east-1"
    access_key: str = ""
    secret_key: SecretStr = SecretStr("")
    timeout_s: PositiveInt = 30

    @model_validator(mode="after")
    def _one_place(self) -> "ObjectSettings":
        if self.bucket and self.path is not None:
            raise ValueError("give a path or a bucket, not both")
        if not self.bucket and (self.endpoint or self.prefix or self.access_key):
            raise ValueError("endpoint, prefix and access_key belong to a bucket")
        return self


class ModelSettings(_Section):
    """Models that jobs may name. file: TOML, a table for each (docs/market.md); without it there are none."""

    file: Path | None = None


class OutgoingSettings(_Section):
    """Requests to addresses that renters name: webhooks, storage services.

    loopback: they may go to this machine as well, by http; for a local chain only, where everything is one machine.
    """

    loopback: bool = False


class LimitSettings(_Section):
    """Requests per minute of the rate classes (api.md section 3).

    client: an API key's; client_hour: the same, per hour.
    """

    wallet: PositiveInt = 120
    client: PositiveInt = 60
    client_hour: PositiveInt = 1000
    address: PositiveInt = 60
    challenge: PositiveInt = 20
    login: PositiveInt = 10
    node: PositiveInt = 600
    flush_ms: PositiveInt = 500


class LogSettings(_Section):
    """Log lines on standard error."""

    format: Literal["json", "console"] = "json"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(BaseSettings):
    """Everything the market reads; built once by `load_settings`."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter="__"
    )

    chain: ChainSettings = ChainSettings()
    market: MarketSettings = MarketSettings()
    api: ApiSettings = ApiSettings()
    store: StoreSettings = StoreSettings()
    objects: ObjectSettings = ObjectSettings()
    models: ModelSettings = ModelSettings()
    outgoing: OutgoingSettings = OutgoingSettings()
    limits: LimitSettings = LimitSettings()
    log: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _check_outgoing(self) -> "Settings":
        if self.outgoing.loopback and not self.market.local:
            raise ValueError("outgoing.loopback: on a public cluster a renter must not reach this machine through us")
        return self

    @property
    def database(self) -> Path | str:
        """The SQLite file, or the URL of the PostgreSQL database, password included."""
        if self.store.url is not None:
            return self.store.url.get_secret_value()
        return self.store.path or self.market.data_dir / "market.sqlite3"

    @property
    def objects_folder(self) -> Path:
        """Where objects are kept while no bucket is named."""
        return self.objects.path or self.market.data_dir / "objects"


def load_settings(file: Path | None = None, flags: dict[str, dict[str, Any]] | None = None) -> Settings:
    """Settings from `file` < environment < `flags` (section → name → value).

    file: must exist when given; without one `localnet.toml` is read where it exists.
    Raises SettingsError with every wrong name and value on one line each.
    """
    if file is not None and not file.is_file():
        raise SettingsError(f"settings file {file} does not exist")
    path = file or (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)

    class _FileSettings(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            del dotenv_settings, file_secret_settings
            layers = [init_settings, env_settings]
            if path is not None:
                layers.append(TomlConfigSettingsSource(settings_cls, toml_file=path))
            return tuple(layers)

    given: Any = flags or {}
    try:
        return _FileSettings(**given)
    except ValidationError as error:
        lines = [f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors()]
        raise SettingsError("; ".join(lines)) from error
    except ValueError as error:
        raise SettingsError(f"settings file {path} is not valid TOML: {error}") from error


def dump_settings(settings: Settings) -> dict[str, Any]:
    """Effective settings for a person to read, secrets hidden, passwords cut out of URLs."""

    def plain(value: object) -> object:
        if isinstance(value, BaseModel):
            return {name: plain(getattr(value, name)) for name in type(value).model_fields}
        if isinstance(value, SecretStr):
            return "********"
        if isinstance(value, Path):
            return str(value)
        if isinstance(value, str) and "://" in value:
            return _without_credentials(value)
        return value

    return {name: plain(getattr(settings, name)) for name in type(settings).model_fields}


def _without_credentials(url: str) -> str:
    """The URL without user, password and query: hosted RPC endpoints carry their key there."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{'/…' if parts.path.strip('/') or parts.query else ''}"
