"""`/v1/groups`: one job body, many jobs, one summary, one cancel. Source: api.md section 5.3."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Final, Self

import orjson
from pydantic import Field, StringConstraints, model_validator

from marketplace.api.fields import (
    DecimalText,
    GroupIdPath,
    MillisInstant,
    Page,
    RequestModel,
    ResponseModel,
    field_error,
)
from marketplace.api.native.job_bodies import JobRequest, Label
from marketplace.api.routes import Call, Reply, Route, reading, scope
from marketplace.domain.allocations import job_of
from marketplace.domain.groups import Group
from marketplace.domain.ids import GroupId
from marketplace.domain.money import format_amount
from marketplace.domain.quantities import Millis
from marketplace.errors import AlreadyTerminal, DetailCode, Invalid, NotFound, QuotaExceeded
from marketplace.services.groups import MAX_MEMBERS, GroupDetails, GroupService, NewGroup, Place
from marketplace.services.job_orders import Order
from marketplace.services.jobs import JobService
from marketplace.services.model_registry import ModelRegistry
from marketplace.services.models import read_whole_order
from marketplace.services.principals import Scope

MAX_AFTER: Final = 100
"""Jobs and groups that one group follows; chosen."""
_NOT_IN_GROUPS: Final = ("quote", "quote_id")


class GroupRequest(RequestModel):
    job: JobRequest
    count: int | None = Field(default=None, ge=1, le=MAX_MEMBERS)
    inputs: list[Any] | None = Field(default=None, min_length=1, max_length=MAX_MEMBERS)
    name: Label | None = None
    after: list[Annotated[str, StringConstraints(max_length=64)]] = Field(default_factory=list, max_length=MAX_AFTER)

    @model_validator(mode="after")
    def _only_what_all_can_share(self) -> Self:
        for name in _NOT_IN_GROUPS:
            if name in self.job.model_fields_set:
                message = "is for one job; name the most you would pay instead"
                raise Invalid.field(f"job.{name}", DetailCode.NOT_ALLOWED, message)
        if (self.count is None) == (self.inputs is None):
            code = DetailCode.REQUIRED if self.count is None else DetailCode.CONFLICT
            raise Invalid.field("inputs", code, "give either count or inputs")
        if self.inputs is not None and "input" in self.job.model_fields_set:
            raise Invalid.field("job.input", DetailCode.CONFLICT, "each job has its own of inputs")
        if self.job.image is None and self.job.model is None:
            raise field_error(DetailCode.REQUIRED, "job: name the image or the model to run")
        return self


class BlockedView(ResponseModel):
    error: str
    message: str


class MemberView(ResponseModel):
    """position: from 0, what the job reads from REAVER_GROUP_POSITION. status: a job's word, or why there is none."""

    position: int
    job_id: str | None
    status: str
    error: str | None


class GroupEntry(ResponseModel):
    """summary: how many members show which word."""

    id: str
    name: str | None
    status: str
    count: int
    summary: dict[str, int]
    created_at: MillisInstant
    ended_at: MillisInstant | None


class GroupView(ResponseModel):
    """cost: of its jobs so far. locked: in their escrows; members that wait have locked nothing.

    blocked: why no more of them are opened now. jobs: a page of members.
    """

    id: str
    name: str | None
    status: str
    count: int
    summary: dict[str, int]
    created_at: MillisInstant
    ended_at: MillisInstant | None
    after: list[str]
    cost: DecimalText
    locked: DecimalText
    currency: str
    blocked: BlockedView | None
    jobs: list[MemberView]
    total: int
    has_more: bool


class GroupList(ResponseModel):
    groups: list[GroupEntry]
    total: int
    has_more: bool


def member_order(
    job: str, own: str | None, place: Place, secrets: dict[str, str], decimals: int, models: ModelRegistry
) -> Order:
    """One member's order: the group's job and secrets with its own input, told its place. Raises Invalid."""
    # The standard library's: whole numbers of any length stay what they are.
    body = json.loads(job) if own is None else json.loads(job) | {"input": json.loads(own)}
    fields = replace(JobRequest.model_validate_json(json.dumps(body)).fields(), secrets=secrets)
    try:
        order = read_whole_order(fields, models.catalogue, decimals=decimals)
    except Invalid as wrong:
        raise (wrong.within("job") if own is None else wrong) from wrong
    return order.with_env({"REAVER_GROUP_POSITION": str(place.position), "REAVER_GROUP_COUNT": str(place.count)})


def group_routes(groups: GroupService, jobs: JobService) -> list[Route]:
    """Make, list, read, cancel."""

    def amount(units: int) -> str:
        return format_amount(units, jobs.decimals)

    def view(details: GroupDetails, offset: int) -> GroupView:
        group = details.group
        blocked = None if group.blocked is None else BlockedView.model_validate(orjson.loads(group.blocked))
        return GroupView(
            **dict(_entry(group, details.words)),
            after=list(details.after),
            cost=amount(details.cost),
            locked=amount(details.locked),
            currency=jobs.currency,
            blocked=blocked,
            jobs=[
                MemberView(
                    position=member.position,
                    job_id=None if member.allocation_id is None else job_of(member.allocation_id),
                    status=member.word,
                    error=member.error,
                )
                for member in details.members
            ],
            total=group.count,
            has_more=offset + len(details.members) < group.count,
        )

    async def shown(group_id: GroupId, page: Page) -> GroupView:
        return view(await groups.details(group_id, limit=page.limit, offset=page.offset), page.offset)

    async def create(call: Call, body: GroupRequest) -> Reply[GroupView]:
        group, made = await groups.create(call.account, call.idempotency, _wanted(body))
        headers = {"Location": f"/v1/groups/{group.id}"} | ({} if made else {"Idempotent-Replayed": "true"})
        return Reply(await shown(group.id, Page()), status=201, headers=headers)

    async def list_groups(call: Call, query: Page) -> GroupList:
        found, total = await groups.list_groups(call.account_id, limit=query.limit, offset=query.offset)
        entries = [_entry(group, words) for group, words in found]
        return GroupList(groups=entries, total=total, has_more=query.offset + len(entries) < total)

    async def get_group(call: Call, group_id: GroupIdPath, query: Page) -> GroupView:
        await groups.get(call.account_id, GroupId(group_id))
        return await shown(GroupId(group_id), query)

    async def cancel_group(call: Call, group_id: GroupIdPath) -> GroupView:
        await groups.cancel(call.account_id, GroupId(group_id))
        return await shown(GroupId(group_id), Page())

    return [
        Route(
            "POST", "/v1/groups", create, "Order many jobs of one body", scope(Scope.JOBS), status=201,
            idempotent=True, keep_answer=False, check=_checker(groups), errors=(Invalid, QuotaExceeded),
        ),
        Route("GET", "/v1/groups", list_groups, "Groups of the account", reading(Scope.JOBS)),
        Route("GET", "/v1/groups/{group_id}", get_group, "A group", reading(Scope.JOBS), errors=(NotFound,)),
        Route(
            "POST", "/v1/groups/{group_id}/cancel", cancel_group, "Open no more of it, and cancel its jobs",
            scope(Scope.JOBS), errors=(NotFound, AlreadyTerminal),
        ),
    ]  # fmt: skip


def _wanted(body: GroupRequest) -> NewGroup:
    job = body.job.model_dump_json(by_alias=True, exclude_unset=True, exclude={"secrets"})
    inputs = tuple(json.dumps(each, separators=(",", ":")) for each in body.inputs or ())
    return NewGroup(body.name, job, body.count or len(inputs), inputs, tuple(body.after), dict(body.job.secrets))


def _checker(groups: GroupService) -> Callable[[GroupRequest, frozenset[str]], None]:
    """What else is wrong with a group's body, beside what was left out of it."""

    def check(body: GroupRequest, left_out: frozenset[str]) -> None:
        if not any(name.startswith(("job.gpu", "job.requirements")) for name in left_out):
            groups.check(_wanted(body))

    return check


def _entry(group: Group, words: dict[str, int]) -> GroupEntry:
    return GroupEntry(
        id=group.id,
        name=group.name,
        status=group.status(words).value,
        count=group.count,
        summary=dict(sorted(words.items())),
        created_at=Millis(group.created_at_ms),
        ended_at=None if group.ended_at_ms is None else Millis(group.ended_at_ms),
    )
