"""The plan of every query that runs for each request or login: an index, never a scan of a growing table."""

import pytest

from marketplace.store.books import KNOWS_KEY
from marketplace.store.engine import is_postgres
from marketplace.store.groups import DUE
from marketplace.store.log_lines import LAST_CHUNK
from marketplace.store.stake import _HISTORY

HOT = {
    "job by its key": "SELECT id FROM allocations WHERE account_id = '' AND key = ''",
    "whether a key was used": KNOWS_KEY.replace(":account", "''")
    .replace(":wallet", "''")
    .replace(":key", "''")
    .replace(":terms", "x''"),
    "job by its escrow": "SELECT id FROM allocations WHERE escrow = ''",
    "nonces of a wallet": "SELECT nonce FROM allocations WHERE wallet = '' AND opener = '' AND nonce > 7",
    "attempts of a job": "SELECT number FROM attempts WHERE allocation_id = '' ORDER BY number",
    "escrow by its terms": "SELECT escrow FROM chain_escrows WHERE wallet = '' AND terms_hash = x''",
    "log after a line": "SELECT lines FROM log_chunks WHERE allocation_id = '' AND (attempt > 1 OR (attempt = 1 AND last_seq > 5)) ORDER BY attempt, first_seq LIMIT 16",
    "end of a log": LAST_CHUNK.replace(":allocation", "''").replace(":attempt", "1"),
    "idempotency key": "SELECT status FROM idempotency_keys WHERE subject = '' AND route = '' AND key = '' AND expires_at_ms > 0",
    "login is live": "SELECT 1 FROM logins WHERE id = '' AND revoked_at_ms IS NULL",
    "refresh token": "SELECT login_id FROM refresh_tokens WHERE token_hash = x''",
    "challenges of a wallet": "SELECT nonce FROM challenges WHERE wallet = '' AND expires_at_ms > 0 ORDER BY issued_at_ms DESC",
    "account of a wallet": "SELECT account_id FROM wallets WHERE address = ''",
    "wallets of an account": "SELECT address FROM wallets WHERE account_id = ''",
    "events of an account": "SELECT id FROM events WHERE account = '' AND cursor > 0 ORDER BY cursor LIMIT 10",
    "events of a resource": "SELECT id FROM events WHERE resource = '' AND cursor > 0 ORDER BY cursor LIMIT 10",
    "events of an account by type": "SELECT id FROM events WHERE cursor > 0 AND type IN ('a', 'b') AND account = '' ORDER BY cursor LIMIT 10",
    "events of a job and its escrow": "SELECT id FROM events WHERE cursor > 0 AND resource IN ('a', 'b') AND account || '' = '' ORDER BY cursor LIMIT 10",
    "events past their time": "SELECT cursor FROM events WHERE at_ms < 1 ORDER BY at_ms, cursor LIMIT 10",
    "webhooks of an account": "SELECT id FROM webhooks WHERE account = '' AND job_id IS NULL",
    "deliveries that are due": "SELECT webhook_id, cursor FROM webhook_deliveries WHERE due_at_ms <= 1 AND webhook_id NOT IN ('a') ORDER BY due_at_ms, webhook_id, cursor LIMIT 10",
    "when a delivery is due next": "SELECT min(due_at_ms) FROM webhook_deliveries WHERE due_at_ms > 1",
    "a delivery": "UPDATE webhook_deliveries SET token = '' WHERE webhook_id = '' AND cursor = 1 AND token = ''",
    "deliveries of a webhook": "SELECT cursor FROM webhook_deliveries WHERE webhook_id = '' ORDER BY cursor DESC LIMIT 10",
    "old deliveries": "SELECT webhook_id FROM webhook_deliveries WHERE created_at_ms < 1 AND state != 'pending' LIMIT 10",
    "news for webhooks": "SELECT e.cursor FROM events e WHERE e.cursor > 1 AND EXISTS (SELECT 1 FROM webhooks w WHERE w.account = e.account AND w.active) ORDER BY e.cursor LIMIT 10",
    "built transaction by message": "SELECT id FROM built_transactions WHERE message_sha256 = x''",
    "built transaction by signature": "SELECT id FROM built_transactions WHERE signature = ''",
    "built transaction of a request": "SELECT id FROM built_transactions WHERE account_id = '' AND operation = '' ORDER BY built_at_ms DESC LIMIT 1",
    "expired keys": "DELETE FROM idempotency_keys WHERE expires_at_ms <= 0",
    "ended counters": "DELETE FROM rate_counters WHERE window_end_s <= 0",
    "a wallet's own stake events": _HISTORY.split(" UNION ALL ")[0].replace(":owner", "''"),
    "slashes of a wallet's pools": _HISTORY.split(" UNION ALL ")[1].replace(":owner", "''"),
    "commissions of a pool": "SELECT bps FROM stake_events WHERE pool = '' AND kind = 'commission' AND at_ms <= 1 ORDER BY slot, position",
    "events of a node": "SELECT fields FROM chain_events WHERE node = '' AND name IN ('Settled', 'ContestClosed') ORDER BY slot DESC",
    "stake events of a pool": "SELECT kind FROM stake_events WHERE pool = '' AND at_epoch >= 1 AND at_epoch <= 9 ORDER BY slot",
    "stake events of an epoch": "SELECT kind FROM stake_events WHERE epoch >= 1 AND epoch <= 9 AND kind IN ('weight')",
    "pools of a wallet": "SELECT pool FROM stake_holders WHERE owner = '' ORDER BY pool",
    "epochs of a pool": "SELECT fees FROM pool_epochs WHERE pool = '' AND epoch < 9",
    "rewards of some epochs": "SELECT pool, sum(fees) FROM pool_epochs WHERE epoch >= 1 AND epoch <= 9 GROUP BY pool",
    "groups that are due": DUE,
    "tokens of a login": "SELECT 1 FROM refresh_tokens WHERE login_id = ''",
}


@pytest.mark.parametrize("name", HOT)
async def test_no_hot_query_scans(store, location, name):
    if is_postgres(location):
        assert await store.read(lambda tx: postgres_scans(tx, HOT[name].replace("x''", "''::bytea"))) == []
    else:
        plan = await store.read(lambda tx: tx.rows("EXPLAIN QUERY PLAN " + HOT[name]))
        steps = [row[3] for row in plan]
        harmless = ("SEARCH", "CORRELATED", "SCALAR SUBQUERY", "SCAN CONSTANT ROW")
        assert all(step.startswith(harmless) or "B-TREE" in step for step in steps), steps


def postgres_scans(tx, query):
    """Parts of the plan that read a table without an index that narrows it.

    The tables are empty, where a scan is cheapest: it is made dear, so that it is chosen only where there is no other way.
    """
    tx.rows("SET LOCAL enable_seqscan = off")
    (((explained,),),) = tx.rows("EXPLAIN (FORMAT JSON) " + query)
    return list(_unnarrowed(explained["Plan"]))


def _unnarrowed(node):
    reads = "Scan" in node["Node Type"] and node["Node Type"] not in {"Subquery Scan", "Bitmap Heap Scan"}
    if reads and "Index Cond" not in node:
        yield node
    for part in node.get("Plans", ()):
        yield from _unnarrowed(part)
