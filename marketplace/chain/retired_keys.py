"""Meters that a rotation replaced: attempts they were fixed for keep them until they end.

`reaver-market admin rotate-keys` puts them into `retired/` beside the keys in use; nothing here ever writes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from solders.keypair import Keypair

from marketplace.chain.keyfiles import load_keypair

RETIRED: Final = "retired"


def load_retired_meters(folder: Path) -> Mapping[str, Keypair]:
    """The retired meters of a market's key folder, by address in base58. Raises SettingsError for a broken file.

    The address is the key's own, not the file's name: a file that was renamed can't make a wrong signature.
    """
    found = (load_keypair(path) for path in sorted((folder / RETIRED).glob("meter-*.json")))
    return {str(key.pubkey()): key for key in found}
