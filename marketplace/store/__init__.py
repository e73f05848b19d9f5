"""The database: tables, migrations, and one repository file per subject. Rows never leave this package.

How a subject is added, without touching anybody else's file:

1. `tables/<subject>.py`: SQLModel classes `…Row(SQLModel, table=True)` with an explicit `__tablename__`. Instants are
   integers `…_at_ms` (BigInteger), amounts integers (BigInteger), structured values JSON text. Every module of
   `tables` is imported by `tables/__init__.py`; nothing has to be listed.
2. `migrations/versions/<NNNN>_<subject>.py`: `revision`, and `down_revision` = the newest one there. Written by
   hand; a test compares the migrated schema with the tables. A released migration is never edited.
3. `<subject>.py`: frozen dataclasses for what is stored, and a repository that takes a transaction:

       class Jobs:
           def __init__(self, tx: Transaction) -> None: ...
           def find(self, job_id: JobId) -> Job | None: ...
           def create(self, job: Job) -> None: ...

4. A service writes `await store.write(lambda tx: Jobs(tx).create(job))`, or passes a function that uses several
   repositories and `append_event`: everything in it is one transaction, committed together with other callers'.

A unit of work is a plain function: it can't await, so no network or container call ever sits inside a
transaction. It may run again only if the caller calls it again; on an exception everything it did is undone.
`Transaction.execute` takes SQLAlchemy Core; `rows` and `change` take SQL text with `:name` parameters for hot paths
(plain SQL that PostgreSQL understands too: no `INSERT OR …`, no `rowid`, no JSON functions, a cast where a parameter
stands alone in a SELECT). Lookups by key are `await store.lookup(…)`; pages and sums `await store.read(…)`.
"""
