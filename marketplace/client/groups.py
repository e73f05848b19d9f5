"""Groups: many jobs of one body, ordered at once, with one summary and one cancel."""

from collections.abc import Sequence
from typing import Final

from marketplace.client.calls import Calls, page, segment
from marketplace.client.errors import ApiError
from marketplace.client.models import Amount, Answer
from marketplace.client.payments import Payments, is_final
from marketplace.client.requests import JobRequest

_GROUPS: Final = "/v1/groups"


class GroupBlock(Answer):
    """Why no more of a group's jobs are opened now."""

    error: str
    message: str


class GroupMember(Answer):
    """One of a group's jobs. position: from 0. job_id: None while it isn't opened."""

    position: int
    job_id: str | None = None
    status: str
    error: str | None = None


class GroupRow(Answer):
    """A group in a list. summary: how many of its jobs show which word."""

    id: str
    name: str | None = None
    status: str
    count: int
    summary: dict[str, int]
    created_at: str
    ended_at: str | None = None


class Group(GroupRow):
    """A group. cost: so far. locked: in its jobs' escrows; those that wait have locked nothing."""

    after: tuple[str, ...] = ()
    cost: Amount
    locked: Amount
    currency: str
    blocked: GroupBlock | None = None
    jobs: tuple[GroupMember, ...] = ()
    total: int
    has_more: bool


class GroupList(Answer):
    """One page of groups, newest first."""

    groups: tuple[GroupRow, ...]
    total: int
    has_more: bool


class GroupCalls:
    """Groups of one account."""

    def __init__(self, calls: Calls, payments: Payments) -> None:
        self._calls = calls
        self._payments = payments

    async def submit(
        self,
        job: JobRequest,
        *,
        count: int | None = None,
        inputs: Sequence[object] | None = None,
        name: str | None = None,
        after: tuple[str, ...] = (),
    ) -> Group:
        """Order `count` jobs of one body, or one for each of `inputs`; the market opens them inside the allowance.

        after: jobs or groups that must complete first. Given again after an interruption, it orders once.
        """
        given = {
            "job": job.body(),
            "count": count,
            "inputs": None if inputs is None else list(inputs),
            "name": name,
            "after": list(after) or None,
        }
        body = {field: value for field, value in given.items() if value is not None}
        with self._payments.open_intent(f"POST {_GROUPS}", body) as intent:
            try:
                reply = await self._calls.send("POST", _GROUPS, body, key=intent.key)
            except ApiError as error:
                if is_final(error):
                    intent.answered()
                raise
            intent.answered()
            return reply.read(Group)

    async def list_groups(self, *, limit: int | None = None, offset: int | None = None) -> GroupList:
        """Own groups, newest first."""
        return (await self._calls.get(_GROUPS, page(limit, offset))).read(GroupList)

    async def get(self, group_id: str, *, limit: int | None = None, offset: int | None = None) -> Group:
        """One group, and a page of its jobs."""
        return (await self._calls.get(f"{_GROUPS}/{segment(group_id)}", page(limit, offset))).read(Group)

    async def cancel(self, group_id: str) -> Group:
        """Open no more of it, and cancel its jobs."""
        return (await self._calls.send("POST", f"{_GROUPS}/{segment(group_id)}/cancel", None)).read(Group)
