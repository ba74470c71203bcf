-- What removed runs had spent. Code of before removes runs without adding them here: what they spent is forgotten then.
-- oldest code: 1

-- Sums over runs that retention has removed; see storage/ledger.py. `day` is that of UTC, in days since 1970. `origin` is
-- '' for runs that were removed here, else the token of the move by which the sums have come. `model` is '' for none.
CREATE TABLE usage_totals (
    day             INTEGER NOT NULL,
    namespace       TEXT    NOT NULL,
    workflow        TEXT    NOT NULL,
    name            TEXT    NOT NULL,
    model           TEXT    NOT NULL,
    state           TEXT    NOT NULL CHECK (state IN ('spent', 'unknown', 'reused')),
    origin          TEXT    NOT NULL,
    calls           INTEGER NOT NULL,
    input           INTEGER NOT NULL,
    output          INTEGER NOT NULL,
    cached          INTEGER NOT NULL,
    written         INTEGER NOT NULL,
    reasoning       INTEGER NOT NULL,
    cost            INTEGER NOT NULL,
    unpriced        INTEGER NOT NULL,
    spared          INTEGER NOT NULL,
    spared_input    INTEGER NOT NULL,
    spared_output   INTEGER NOT NULL,
    spared_cost     INTEGER NOT NULL,
    spared_unpriced INTEGER NOT NULL,
    PRIMARY KEY (day, namespace, workflow, name, model, state, origin)
) STRICT, WITHOUT ROWID;

-- Whether an entry is in the totals already: its run was removed, and has come back from an archive.
ALTER TABLE usage ADD COLUMN counted INTEGER NOT NULL DEFAULT 0;
