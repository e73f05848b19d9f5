"""Sealed secrets of jobs and registry logins: kept as long as they are needed, one login of a name an account."""

from dataclasses import replace

import pytest

from marketplace.domain.allocations import Opener
from marketplace.domain.ids import AccountId, AllocationId, RegistryAuthId
from marketplace.domain.lifecycle import AllocationState
from marketplace.errors import UniqueViolation
from marketplace.store.allocations import Allocations
from marketplace.store.job_secrets import JobSecret, JobSecrets, RegistryAuth, RegistryAuths
from tests.services.test_meter import ALLOCATION

AUTH = RegistryAuth(
    id=RegistryAuthId("reg_1"), account_id=AccountId("acct_1"), name="ours", username="robot", key_id="k",
    sealed=b"\x00sealed", created_at_ms=5, host="registry.example:5000",
)  # fmt: skip
RETRIED = replace(
    ALLOCATION,
    tiers=(("a100", "h100"), ("v100",)),
    min_cuda=1204,
    min_reputation_millionths=500_000,
    retry_on=(18,),
    retry_exit_codes=(3, 75),
    retry_at_ms=7,
    retry_extend=True,
    consumer_id="team",
    registry_auth_id=AUTH.id,
)


async def test_the_fields_of_a_job_come_back_as_they_went(store):
    await store.write(lambda tx: Allocations(tx).create(RETRIED))
    found = await store.lookup(lambda tx: Allocations(tx).find(RETRIED.id))
    assert found == RETRIED
    assert found.retry == RETRIED.retry


async def test_secrets_are_forgotten_once_their_job_is_long_over_or_was_never_paid(store):
    states = {
        "alloc_over": (AllocationState.RELEASED, 10), "alloc_recent": (AllocationState.FAILED, 99),
        "alloc_unpaid": (AllocationState.REQUESTED, None), "alloc_running": (AllocationState.ACTIVE, None),
    }  # fmt: skip

    def write(tx):
        for number, (name, (state, ended)) in enumerate(states.items()):
            Allocations(tx).create(
                replace(
                    ALLOCATION, id=AllocationId(name), key=name, nonce=number, escrow=name, opener=Opener.MARKET,
                    state=state, completed_at_ms=ended, created_at_ms=1,
                )
            )  # fmt: skip
            JobSecrets(tx).put(JobSecret(AllocationId(name), "k", b"old"))
            JobSecrets(tx).put(JobSecret(AllocationId(name), "k", b"\x00new"))
        return JobSecrets(tx).forget_before(50)

    assert await store.write(write) == 2
    kept = {name: await store.lookup(lambda tx, n=name: JobSecrets(tx).find(AllocationId(n))) for name in states}
    assert {name for name, secret in kept.items() if secret is not None} == {"alloc_recent", "alloc_running"}
    assert kept["alloc_running"].sealed == b"\x00new"


async def test_an_account_has_one_login_of_a_name_and_knows_who_pulls_with_it(store):
    await store.write(lambda tx: RegistryAuths(tx).create(AUTH))
    with pytest.raises(UniqueViolation):
        await store.write(lambda tx: RegistryAuths(tx).create(replace(AUTH, id=RegistryAuthId("reg_2"))))
    await store.write(
        lambda tx: RegistryAuths(tx).create(replace(AUTH, id=RegistryAuthId("reg_3"), account_id=AccountId("acct_2")))
    )
    await store.write(lambda tx: Allocations(tx).create(replace(RETRIED, state=AllocationState.ACTIVE)))
    found = await store.lookup(
        lambda tx: (RegistryAuths(tx).find(AUTH.id), RegistryAuths(tx).list_for(AUTH.account_id))
    )
    assert found == (AUTH, [AUTH])
    assert await store.lookup(lambda tx: RegistryAuths(tx).users(AUTH.id)) == [RETRIED.id]
    await store.write(lambda tx: RegistryAuths(tx).delete(AUTH.id))
    assert await store.lookup(lambda tx: RegistryAuths(tx).find(AUTH.id)) is None
