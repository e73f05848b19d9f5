"""The models of a running market: the operator's file, and beside it what admins put here. Source: api.md section 5.4.

The file wins: its names are refused here, and a stored model whose name the file takes later is hidden until the file
gives it up. What is asked for by name is completed from the catalogue of that moment, and only its specification is
kept, so that a change touches no job, no escrow and no attempt that is there already.
"""

import asyncio
from typing import Final

import structlog
from pydantic import ValidationError

from marketplace.domain.catalogue import UnknownName
from marketplace.domain.events import EventType
from marketplace.domain.models import Model, ModelCatalogue
from marketplace.errors import Invalid, NotFound, QuotaExceeded, ReadOnly, TooLarge
from marketplace.services.clock import Clock
from marketplace.services.feed import Feed
from marketplace.services.models import ModelEntry, read_model
from marketplace.services.principals import AccountPrincipal
from marketplace.store.engine import Store, Transaction
from marketplace.store.models import StoredModel, StoredModels

_log = structlog.get_logger(__name__)

MAX_STORED: Final = 1_000
"""Models beside the file's; chosen."""
MAX_ENTRY_BYTES: Final = 64 << 10
"""Chosen: the longest of ours takes 2 KB, and all of them are held in memory."""


class ModelRegistry:
    """Reads, puts, deletes. catalogue: what may be named now."""

    def __init__(self, store: Store, feed: Feed, clock: Clock, declared: ModelCatalogue) -> None:
        self._store = store
        self._feed = feed
        self._clock = clock
        self._declared = declared
        self._stored: dict[str, Model] = {}
        self.catalogue = declared
        # What is stored and what is in memory change together, one change at a time.
        self._changing = asyncio.Lock()

    async def load(self) -> None:
        """Read what is stored. What this version or the file has no place for is logged and left out, not deleted."""
        stored: dict[str, Model] = {}
        for each in await self._store.read(lambda tx: StoredModels(tx).all()):
            try:
                model = read_model(each.name, ModelEntry.model_validate_json(each.entry))
            except (ValidationError, Invalid) as error:
                _log.error("model.unreadable", action="left out", model=each.name, cause=str(error))
                continue
            if self._is_declared(each.name):
                _log.warning("model.hidden", action="the file's is used", model=each.name)
            stored[each.name.casefold()] = model
        self._show(stored)

    async def put(self, caller: AccountPrincipal, name: str, entry: ModelEntry) -> tuple[Model, bool]:
        """The model, and whether it is new.

        Raises Invalid, ReadOnly for a name of the file, TooLarge, QuotaExceeded.
        """
        self._require_own(name)
        model = read_model(name, entry)
        text = entry.model_dump_json(exclude_unset=True)
        if len(text.encode()) > MAX_ENTRY_BYTES:
            raise TooLarge(f"a model takes at most {MAX_ENTRY_BYTES} bytes", extra={"limit_bytes": MAX_ENTRY_BYTES})
        async with self._changing:
            folded = name.casefold()
            new = folded not in self._stored
            if new and len(self._stored) >= MAX_STORED:
                raise QuotaExceeded(
                    f"a market holds at most {MAX_STORED} models beside its file's; delete one",
                    extra={"quota": "models", "limit": MAX_STORED},
                )
            kept = StoredModel(name, text, caller.wallet, self._clock.now())

            def write(tx: Transaction) -> None:
                StoredModels(tx).put(kept)
                self._tell(tx, caller, EventType.MODEL_PUT, name, {"image": model.image, "new": new})

            await self._store.write(write)
            self._show({**self._stored, folded: model})
        _log.info("model.put", action="jobs may name it", image=model.image, new=new, **_actor(caller, name))
        return model, new

    async def delete(self, caller: AccountPrincipal, name: str) -> None:
        """Jobs can't name it any more; those that did go on. Raises NotFound, ReadOnly for a name of the file."""
        self._require_own(name)
        async with self._changing:

            def write(tx: Transaction) -> None:
                if not StoredModels(tx).delete(name):
                    raise NotFound(
                        f"there is no model {name}; GET /v1/models lists what there is", extra={"resource": "model"}
                    )
                self._tell(tx, caller, EventType.MODEL_DELETED, name, {})

            await self._store.write(write)
            self._show({folded: model for folded, model in self._stored.items() if folded != name.casefold()})
        _log.info("model.deleted", action="no job may name it", **_actor(caller, name))

    def _require_own(self, name: str) -> None:
        if self._is_declared(name):
            raise ReadOnly(f"{name} stands in the market's own file of models; nothing was changed, edit the file")

    def _is_declared(self, name: str) -> bool:
        try:
            self._declared.get(name)
        except UnknownName:
            return False
        return True

    def _show(self, stored: dict[str, Model]) -> None:
        self._stored = stored
        beside = [model for model in stored.values() if not self._is_declared(model.name)]
        self.catalogue = ModelCatalogue([*self._declared, *beside])

    def _tell(
        self, tx: Transaction, caller: AccountPrincipal, kind: EventType, name: str, data: dict[str, object]
    ) -> None:
        told = {"model": name, "wallet": caller.wallet, "api_key": caller.key_id, **data}
        self._feed.append(tx, caller.account_id, kind, name, told)


def _actor(caller: AccountPrincipal, name: str) -> dict[str, str | None]:
    return {"model": name, "account": caller.account_id, "wallet": caller.wallet, "api_key": caller.key_id}
