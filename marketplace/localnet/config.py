"""The `[chain]` section of localnet.toml: read, checked, paths made absolute."""

import tomllib
from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from marketplace.localnet.errors import ConfigInvalid

# Public constants, so that every fresh localnet has the same addresses and a configuration can name them:
# the public keys of Keypair.from_seed(sha256("reaver-localnet program" | "... payment mint" | "... stake mint")).
# Nothing is ever signed by these three; the mints' authority is a random key in the data folder.
PROGRAM_ID: Final = "3Q8EAU3nPL3Fh5LAphwprGjPi7TTtY1qaPtXejC4iVhY"
PAYMENT_MINT: Final = "Aj7QcVtyTgc41VBKrJhNy8wFNognGrYEGg14CUowf5Qg"
STAKE_MINT: Final = "CsdKnwTXcjPmboG4CqKGB35ekp4qJjLggVdYdX3awMRu"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class FaucetConfig(_Section):
    """What `reaver-localnet faucet` gives when it is not told how much; whole tokens."""

    sol: int = Field(default=10, ge=0, le=1_000_000)
    payment: int = Field(default=1_000, ge=0, le=1_000_000_000)
    stake: int = Field(default=10_000, ge=0, le=1_000_000_000)


class ExtraProgram(_Section):
    """A further program to load at start."""

    id: str
    file: str


class ChainConfig(_Section):
    """The local chain. Paths are relative to the file that names them."""

    host: str = "127.0.0.1"
    rpc_port: int = Field(default=8899, ge=0, le=65535)
    ws_port: int | None = Field(default=None, ge=0, le=65535)  # None: rpc_port + 1, as Solana's clients assume
    data: Path = Field(default=Path(".reaver/localnet"), strict=False)
    slot_ms: int = Field(default=400, ge=10, le=60_000)
    finality_slots: int = Field(default=32, ge=1, le=512)
    program: Path | None = Field(default=None, strict=False)
    program_id: str = PROGRAM_ID  # an address, or the path of a keypair file
    programs: tuple[ExtraProgram, ...] = Field(default=(), strict=False)
    payment_mint: str = PAYMENT_MINT
    payment_decimals: int = Field(default=6, ge=0, le=9)
    stake_mint: str = STAKE_MINT
    stake_decimals: int = Field(default=6, ge=0, le=9)
    faucet: FaucetConfig = FaucetConfig()

    @model_validator(mode="after")
    def _mints_differ(self) -> Self:
        if self.payment_mint == self.stake_mint:
            raise ValueError("payment_mint and stake_mint must differ")
        return self

    def below(self, folder: Path) -> "ChainConfig":
        """The same configuration with every relative path taken from `folder`."""
        return self.model_copy(
            update={
                "data": folder / self.data,
                "program": folder / self.program if self.program is not None else None,
                "program_id": _path_below(folder, self.program_id),
                "programs": tuple(
                    extra.model_copy(update={"file": str(folder / extra.file), "id": _path_below(folder, extra.id)})
                    for extra in self.programs
                ),
            },
        )


def load_config(path: Path) -> ChainConfig:
    """The `[chain]` section of the TOML file at `path`; other sections belong to others and are not read.

    Raises ConfigInvalid when the file is missing, isn't TOML, or holds something that can't be used.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigInvalid(f"{path} does not exist. Name the file with --config.") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigInvalid(f"{path} can't be read as TOML: {error}") from error
    section = document.get("chain")
    if not isinstance(section, dict):
        raise ConfigInvalid(f"{path} has no [chain] section.")
    try:
        config = ChainConfig.model_validate(section)
    except ValidationError as error:
        reasons = "; ".join(
            f"{'.'.join(str(part) for part in item['loc']) or 'chain'}: {item['msg']}" for item in error.errors()
        )
        raise ConfigInvalid(f"[chain] in {path}: {reasons}") from error
    return config.below(path.resolve().parent)


def _path_below(folder: Path, address_or_file: str) -> str:
    """Addresses are base58 and hold neither a slash nor a dot; anything else is a keypair file."""
    if "/" in address_or_file or "." in address_or_file:
        return str(folder / address_or_file)
    return address_or_file
