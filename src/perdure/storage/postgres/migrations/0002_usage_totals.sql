-- What removed runs had spent. Code of before removes runs without adding them here: what they spent is forgotten then.
-- oldest code: 1

-- Sums over runs that retention has removed; see storage/ledger.py. `day` is that of UTC, in days since 1970. `origin` is
-- '' for runs that were removed here, else the token of the move by which the sums have come. `model` is '' for none.
CREATE TABLE perdure.usage_totals (
    day             bigint           NOT NULL,
    namespace       text COLLATE "C" NOT NULL,
    workflow        text COLLATE "C" NOT NULL,
    name            text COLLATE "C" NOT NULL,
    model           text COLLATE "C" NOT NULL,
    state           text COLLATE "C" NOT NULL CHECK (state IN ('spent', 'unknown', 'reused')),
    origin          text COLLATE "C" NOT NULL,
    calls           bigint           NOT NULL,
    input           bigint           NOT NULL,
    output          bigint           NOT NULL,
    cached          bigint           NOT NULL,
    written         bigint           NOT NULL,
    reasoning       bigint           NOT NULL,
    cost            bigint           NOT NULL,
    unpriced        bigint           NOT NULL,
    spared          bigint           NOT NULL,
    spared_input    bigint           NOT NULL,
    spared_output   bigint           NOT NULL,
    spared_cost     bigint           NOT NULL,
    spared_unpriced bigint           NOT NULL,
    PRIMARY KEY (day, namespace, workflow, name, model, state, origin)
);

-- Whether an entry is in the totals already: its run was removed, and has come back from an archive.
ALTER TABLE perdure.usage ADD COLUMN counted boolean NOT NULL DEFAULT false;
