"""How many statements a PostgreSQL server is sent for what comes in numbers: one, however many rows."""

import pytest

from marketplace.domain.ids import AccountId
from marketplace.domain.quantities import Millis
from marketplace.store.allocations import Allocations, Attempts
from marketplace.store.engine import Store
from marketplace.store.idempotency import IdempotencyKeys, KeyScope, StoredAnswer
from marketplace.store.log_lines import LogLines, StoredLine
from marketplace.store.rate_counters import RateCounters, WindowKey
from tests.services.test_meter import ALLOCATION, ATTEMPT
from tests.store.conftest import POSTGRES

pytestmark = POSTGRES.marks
SCOPE = KeyScope(AccountId("acct_a"), "POST /v1/jobs", "k")
KEYS = [(WindowKey(f"acct_{n}", 60, 120), 1) for n in range(250)]


@pytest.fixture
async def asked(postgres_url):
    """A function that runs a unit of work and gives the statements that the server was sent for it."""
    store = Store(postgres_url)
    await store.open()
    await store.write(lambda tx: Allocations(tx).create(ALLOCATION))
    await store.write(lambda tx: Attempts(tx).create(ATTEMPT))
    sent = []
    store._engine._writer.raw.add_query_logger(lambda record: sent.append(record.query))

    async def run(work):
        sent.clear()
        await store.write(work)
        return [text.split()[0] for text in sent if not text.startswith(("BEGIN", "COMMIT", "RELEASE"))]

    yield run
    await store.close()


def answer(tx):
    keys = IdempotencyKeys(tx)
    keys.bind(SCOPE, b"body", Millis(1), Millis(2))
    assert keys.answer(SCOPE, b"body", StoredAnswer(201, {}, b"{}", None))


@pytest.mark.parametrize(
    ("work", "statements"),
    [
        (lambda tx: RateCounters(tx).add(KEYS), ["INSERT"]),
        (lambda tx: Attempts(tx).write_vouchers([ATTEMPT] * 100), ["UPDATE"]),
        (
            lambda tx: LogLines(tx).append(
                ALLOCATION.id, [StoredLine(1, n, 1, 1, "x") for n in range(1, 200)], 9, 1, 0
            ),
            ["INSERT"],
        ),
        (answer, ["INSERT", "UPDATE"]),
    ],
    ids=["counters", "vouchers", "lines", "a key and its answer"],
)
async def test_a_batch_is_one_statement(asked, work, statements):
    assert await asked(work) == statements
