-- The first schema. Everything lives in a schema of its own, so it can share a database with the user's tables. That and
-- the table `meta` are made before any migration, see migrating.py.

-- Which run an id means. Apart from `runs`, since a unique index there would have to lead with the run's key in
-- databases that spread rows by it.
CREATE TABLE perdure.ids (
    id  text   PRIMARY KEY,
    run bigint NOT NULL
);

-- One row a run, kept small: it is rewritten by every append. The columns an append always changes (seq, chain, attempt,
-- updated_at, recoveries) are in no index, and the fill factor leaves room on the page, so the hot UPDATE makes no
-- new index entries.
-- What an append reads and changes comes first, and columns of a fixed size before others: PostgreSQL walks along a row
-- to reach a column, and logs of an update what lies between the first and the last byte that changed (8 % less log, 4 %
-- less of the server's time).
-- Keys are made by clients: time-ordered, with random low bits.
-- No CHECK here: PostgreSQL parses a table's checks anew in each statement that writes to it, which takes a tenth of
-- an append's time. What they would say is tested instead.
CREATE TABLE perdure.runs (
    run             bigint           PRIMARY KEY,
    epoch           bigint           NOT NULL,
    seq             bigint           NOT NULL,
    chain           bigint           NOT NULL,  -- the link of its newest event
    updated_at      double precision NOT NULL,
    recoveries      bigint           NOT NULL DEFAULT 0,
    attempt         bigint,  -- number of the newest append, by which a repeat of it is recognised
    owner           bigint,
    generation      bigint           NOT NULL DEFAULT 1,
    semantics       bigint           NOT NULL,
    priority        bigint           NOT NULL DEFAULT 0,
    mail            bigint           NOT NULL DEFAULT 0,
    mail_number     bigint           NOT NULL DEFAULT 0,
    created_at      double precision NOT NULL,
    started_at      double precision,
    ended_at        double precision,
    wake_at         double precision,
    parent          bigint,
    next            bigint,  -- the run that goes on under this id
    checkpoint      bigint,  -- the event after which a replay may go on when it has read the first one
    paused          double precision,  -- it is to be held; when it was due before that, or 0
    rank            bigint,  -- its class in that line; that of runs whose time hasn't come is the lowest
    pinned          boolean          NOT NULL DEFAULT false,
    slot            boolean          NOT NULL DEFAULT false,  -- it was admitted by a queue with limits
    id              text             NOT NULL,
    workflow        text             NOT NULL,
    status          text             NOT NULL,
    queue           text             NOT NULL,
    fingerprint     bytea            NOT NULL,
    reason          text,
    block_code      text,
    parent_op       text,
    on_parent_close text             NOT NULL,
    version         text,  -- of the code that drives it, or drove it last
    misfits         text[],  -- the codes that found out they can't drive it
    key             text,  -- what its queue may treat apart
    dedup           text,  -- no other live run may have the same
    lane            text COLLATE "C"  -- where it stands in line there; NULL for runs that needn't, or needn't any more
) WITH (fillfactor = 70);

-- Those that stand in line aren't among them.
CREATE INDEX runs_due ON perdure.runs (queue, workflow, wake_at, run)
WHERE owner IS NULL AND wake_at IS NOT NULL AND lane IS NULL;

CREATE INDEX runs_suspected ON perdure.runs (wake_at)
WHERE owner IS NULL AND wake_at IS NOT NULL AND lane IS NULL AND recoveries >= 2;
CREATE INDEX runs_tried ON perdure.runs (owner) WHERE owner IS NOT NULL AND recoveries >= 3;

-- The lines of queues with limits, in their order. All but the lowest rank may be admitted.
CREATE INDEX runs_line ON perdure.runs (queue, workflow, rank DESC, lane, wake_at, run)
WHERE lane IS NOT NULL AND wake_at IS NOT NULL;

-- Who holds a slot. It is free when the run has ended, whatever ended it.
CREATE INDEX runs_slots ON perdure.runs (queue, key) WHERE slot AND ended_at IS NULL;

-- Earlier generations are found by number, the newest one by `ids`.
CREATE INDEX runs_generations ON perdure.runs (id, generation);

CREATE INDEX runs_owned ON perdure.runs (owner) WHERE owner IS NOT NULL;

CREATE INDEX runs_with_mail ON perdure.runs (owner) WHERE mail > 0;

CREATE INDEX runs_children ON perdure.runs (parent) WHERE parent IS NOT NULL;

-- Due runs that only workers of one version may drive.
CREATE INDEX runs_pinned ON perdure.runs (wake_at) WHERE owner IS NULL AND wake_at IS NOT NULL AND pinned;

-- Runs that somebody may have to look after. Those on their usual way have no entry: three more of them for each run, with
-- new places in all indexes for each change of a status, made the log 15 % longer.
CREATE INDEX runs_kinds ON perdure.runs (status, workflow, run)
WHERE status NOT IN ('queued', 'running', 'waiting', 'completed', 'continued');

-- When runs have ended. Entries are made once, at the end of the index.
CREATE INDEX runs_ended ON perdure.runs (ended_at) WHERE ended_at IS NOT NULL;

CREATE INDEX runs_stranded ON perdure.runs (queue, workflow) WHERE block_code = 'code';

-- Of those the ones that were never driven and have mail, which may ask them to end.
CREATE INDEX runs_unbegun ON perdure.runs (block_code) WHERE block_code = 'code' AND started_at IS NULL AND mail > 0;

-- Runs of namespaces, by what their ids begin with. Other runs aren't in it, and no change of a run touches it.
CREATE INDEX runs_of_namespace ON perdure.runs (split_part(id, '/', 1), run) WHERE left(id, 1) = ':';

-- Entities, by their kind.
CREATE INDEX runs_entities ON perdure.runs (workflow, run) WHERE checkpoint IS NOT NULL AND next IS NULL;

-- Live runs of namespaces, for their quotas. Runs of none aren't in it.
CREATE INDEX runs_within ON perdure.runs (id COLLATE "C", run)
WHERE ended_at IS NULL AND id COLLATE "C" >= ':' AND id COLLATE "C" < ';';

CREATE TABLE perdure.events (
    run  bigint NOT NULL,
    seq  bigint NOT NULL,
    link bigint NOT NULL,  -- the checksum of the history up to here
    data bytea  NOT NULL,
    PRIMARY KEY (run, seq)
);

-- Numbers are counted for each run, in its row: order is wanted within a run only.
CREATE TABLE perdure.inbox (
    run  bigint NOT NULL,
    id   bigint NOT NULL,
    kind text   NOT NULL,  -- 'control' is dropped when the run ends; everything else is kept
    data bytea  NOT NULL,
    PRIMARY KEY (run, id)
);

-- Keys of the mail that was put into a run's inbox, for as long as the run is kept: a repeat is recognised by it.
CREATE TABLE perdure.mail_keys (
    run bigint NOT NULL,
    key text   NOT NULL,
    PRIMARY KEY (run, key)
);

CREATE TABLE perdure.workers (
    id          bigint           PRIMARY KEY,
    name        text             NOT NULL,
    host        text             NOT NULL,
    pid         bigint           NOT NULL,
    born        bigint           NOT NULL,
    started_at  double precision NOT NULL,
    lease_until double precision NOT NULL,
    queues      text[]           NOT NULL,
    workflows   text[]           NOT NULL,
    version     text             NOT NULL,
    code        text             NOT NULL,
    heard_at    double precision NOT NULL,
    runs        bigint           NOT NULL DEFAULT 0,
    steps       bigint           NOT NULL DEFAULT 0,
    stopping    boolean          NOT NULL DEFAULT false,
    schema      bigint           NOT NULL  -- the newest migration that its code knows
);

-- Who is looked at by others: those of a host often, those whose lease is over.
CREATE INDEX workers_of_host ON perdure.workers (host);
CREATE INDEX workers_lapsing ON perdure.workers (lease_until);

-- Queues with limits, or that are held. Their settings are JSON texts; what the statements need of them has columns.
CREATE TABLE perdure.queues (
    name       text             PRIMARY KEY,
    defined    text,  -- by code
    overrides  text             NOT NULL,  -- by an operator: what counts instead
    settings   text             NOT NULL,  -- what comes of both
    limited    boolean          NOT NULL,  -- its runs stand in line, since it has or had limits
    keyed      boolean          NOT NULL,  -- each key has a lane
    ranked     boolean          NOT NULL,  -- priorities count
    paused     boolean          NOT NULL DEFAULT false,
    draining   boolean          NOT NULL DEFAULT false,
    arrival    bigint           NOT NULL DEFAULT 0,  -- of the rate's bucket, in microseconds
    turn       text             NOT NULL DEFAULT '',  -- the lane whose turn it was last
    changed_at double precision NOT NULL
);

-- Which run has a dedup; one that has ended doesn't any more. Apart from `runs`, as `ids`.
CREATE TABLE perdure.dedups (
    dedup  text   PRIMARY KEY,
    holder bigint NOT NULL
);

-- Marks of transactions whose repeat would do harm, see attempts.py. Kept for a day.
CREATE TABLE perdure.commits (
    writer bigint      NOT NULL,
    number bigint      NOT NULL,
    at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (writer, number)
);

-- What starts runs by itself. A row's version is what its changes are fenced by.
CREATE TABLE perdure.schedules (
    name    text             PRIMARY KEY,
    version bigint           NOT NULL,
    due_at  double precision,
    waiting boolean          NOT NULL,
    running text[]           NOT NULL,
    data    bytea            NOT NULL
);

CREATE INDEX schedules_due ON perdure.schedules (due_at) WHERE due_at IS NOT NULL;

CREATE INDEX schedules_waiting ON perdure.schedules (name) WHERE waiting;

-- Updates by their ids, with what their callers get. They outlive the run, so that a repeat finds its answer.
CREATE TABLE perdure.updates (
    run_id text   NOT NULL,
    id     text   NOT NULL,
    run    bigint NOT NULL,  -- which is to handle it
    call   bytea  NOT NULL,  -- digest of what was called
    state  text   NOT NULL CHECK (state IN ('requested', 'accepted', 'rejected', 'completed', 'failed')),
    answer bytea,
    PRIMARY KEY (run_id, id)
);

-- What the next generation of a run inherits.
CREATE INDEX updates_requested ON perdure.updates (run) WHERE state = 'requested';

-- Queries that a process without the code asks of one that has it. Few at any time, and gone in a minute.
CREATE TABLE perdure.inquiries (
    id         bigint           PRIMARY KEY,
    run_id     text             NOT NULL,
    workflow   text             NOT NULL,
    name       text             NOT NULL,
    input      bytea            NOT NULL,
    asked_at   double precision NOT NULL,
    expires_at double precision NOT NULL,
    taken_at   double precision,
    answer     bytea
);

-- What the newest heartbeat of a step told, while the step has no outcome.
CREATE TABLE perdure.step_details (
    run  bigint           NOT NULL,
    step text             NOT NULL,
    data bytea            NOT NULL,
    at   double precision NOT NULL,
    PRIMARY KEY (run, step)
);

-- Promises to runs that somebody outside keeps. Of a token only its hash is here; rows stay when they are over,
-- so that a second completion can be told what happened.
CREATE TABLE perdure.callbacks (
    token_hash bytea            PRIMARY KEY,
    run        bigint           NOT NULL,
    op         text             NOT NULL,
    opened_at  double precision NOT NULL,
    expires_at double precision,
    heartbeat  double precision,
    heard_at   double precision NOT NULL,
    state      text             NOT NULL CHECK (state IN ('open', 'completed', 'failed', 'expired', 'withdrawn')),
    ended_at   double precision,
    question   bytea,
    answer     bytea,
    CHECK ((ended_at IS NULL) = (state = 'open'))
);

CREATE INDEX callbacks_of_run ON perdure.callbacks (run);

-- Callbacks that show themselves, by when they were asked: those that are open, and all.
CREATE INDEX questions_open ON perdure.callbacks (opened_at, token_hash) WHERE question IS NOT NULL AND state = 'open';
CREATE INDEX questions_asked ON perdure.callbacks (opened_at, token_hash) WHERE question IS NOT NULL;

-- Streams belong to a run's id, so that they outlive its generations. `size` is the newest offset.
CREATE TABLE perdure.streams (
    id     text   NOT NULL,
    name   text   NOT NULL,
    stream bigint NOT NULL,
    size   bigint NOT NULL CHECK (size >= 1),
    PRIMARY KEY (id, name)
);

CREATE INDEX streams_by_key ON perdure.streams (stream);

-- Items, and marks (without data) that take back a step's items from `since` on. `run` has put it out.
CREATE TABLE perdure.stream_items (
    stream  bigint           NOT NULL,
    place   bigint           NOT NULL CHECK (place >= 1),
    at      double precision NOT NULL,
    run     bigint           NOT NULL,
    step    text,
    attempt bigint,
    data    bytea,
    since   bigint           NOT NULL,
    PRIMARY KEY (stream, place),
    CHECK (data IS NOT NULL OR step IS NOT NULL)
);

-- For each step that puts out items: the first one that no mark has taken back, the last one, the last mark; and
-- whether the step may yet be attempted again, so that these items wouldn't count.
CREATE TABLE perdure.stream_writers (
    run        bigint NOT NULL,
    step       text   NOT NULL,
    stream     bigint NOT NULL,
    attempt    bigint NOT NULL,
    first      bigint NOT NULL,
    last       bigint NOT NULL,
    superseded bigint NOT NULL,
    open       boolean NOT NULL,
    PRIMARY KEY (run, step, stream)
);

CREATE INDEX stream_writers_open ON perdure.stream_writers (run) WHERE open;

-- Values are compared within a family only: texts as `text`, everything else as `number` (and `text` is its JSON).
-- A single value has place 0, those of a list 1 and up.
CREATE TABLE perdure.attributes (
    run    bigint NOT NULL,
    name   text   NOT NULL,
    place  bigint NOT NULL CHECK (place >= 0),
    family text   NOT NULL CHECK (family IN ('text', 'number', 'flag', 'moment')),
    text   text   NOT NULL,
    number numeric,
    PRIMARY KEY (run, name, place)
);

CREATE INDEX attributes_by_text ON perdure.attributes (name, text) WHERE family = 'text';

CREATE INDEX attributes_by_number ON perdure.attributes (name, number) WHERE family <> 'text';

-- Changes of code whose new branch a run has taken.
CREATE TABLE perdure.patches (
    run    bigint NOT NULL,
    change text   NOT NULL,
    PRIMARY KEY (run, change)
);

-- Rate limits, with what core/limiting.py keeps of each; empty of one that is just being made.
CREATE TABLE perdure.limits (
    name text  PRIMARY KEY,
    data bytea NOT NULL
);

-- How much namespaces may have, with what was admitted; see core/quotas.py.
CREATE TABLE perdure.quotas (
    namespace text  PRIMARY KEY,
    data      bytea NOT NULL
);

-- At most one row: where the runs of this database are moved to. No worker claims any while it is there.
CREATE TABLE perdure.moves (
    one   bigint  PRIMARY KEY,
    token text    NOT NULL,
    url   text    NOT NULL,
    done  boolean NOT NULL
);

-- Runs that were copied here, with owner 0 until their move is done: when each was due, and how much mail it had.
CREATE TABLE perdure.arrivals (
    run     bigint           PRIMARY KEY,
    wake_at double precision,
    mail    bigint           NOT NULL,
    token   text             NOT NULL
);

-- The row that `lock_fleet` locks.
INSERT INTO perdure.meta (name, value) VALUES ('fleet', '');

-- What was published, by an id that is made of name and key if there is a key. Numbers are given in the order in which
-- workers see them; settled is what everybody has who wanted it.
CREATE TABLE perdure.publications (
    id      text             PRIMARY KEY,
    name    text             NOT NULL,
    key     text,
    payload bytea            NOT NULL,
    at      double precision NOT NULL,
    number  bigint,
    settled boolean          NOT NULL DEFAULT false
);

CREATE INDEX publications_new ON perdure.publications (at, id) WHERE number IS NULL;

CREATE INDEX publications_unsettled ON perdure.publications (number) WHERE NOT settled AND number IS NOT NULL;

CREATE INDEX publications_numbered ON perdure.publications (number) WHERE number IS NOT NULL;

CREATE INDEX publications_by_name ON perdure.publications (name, number) WHERE number IS NOT NULL;

-- One row: the highest number given. Whoever distributes publications locks it.
CREATE TABLE perdure.publication_clock (
    one    bigint PRIMARY KEY,
    number bigint NOT NULL
);

INSERT INTO perdure.publication_clock (one, number) VALUES (1, 0);

-- Runs that wait for one. `match` is a digest of the name and of fields of the payload with their values.
CREATE TABLE perdure.publication_waits (
    run       bigint           NOT NULL,
    op        text             NOT NULL,
    name      text             NOT NULL,
    condition text             NOT NULL,
    fields    text             NOT NULL,
    match     bytea            NOT NULL,
    since     double precision NOT NULL,
    after     bigint           NOT NULL,
    fresh     boolean          NOT NULL,
    PRIMARY KEY (run, op)
);

CREATE INDEX publication_waits_new ON perdure.publication_waits (run, op) WHERE fresh;

CREATE INDEX publication_waits_by_match ON perdure.publication_waits (match, run, op) WHERE NOT fresh;

-- The choices of fields by which there have been waits. Few; they stay.
CREATE TABLE perdure.publication_shapes (
    name   text NOT NULL,
    fields text NOT NULL,
    PRIMARY KEY (name, fields)
);

-- Workflows that are started by events.
CREATE TABLE perdure.subscriptions (
    workflow text  PRIMARY KEY,
    event    text  NOT NULL,
    data     bytea NOT NULL
);

-- What is collected for those that debounce or batch.
CREATE TABLE perdure.gatherings (
    workflow text             NOT NULL,
    grp      text             NOT NULL,
    due_at   double precision NOT NULL,
    count    bigint           NOT NULL,
    PRIMARY KEY (workflow, grp)
);

CREATE INDEX gatherings_due ON perdure.gatherings (due_at);

CREATE TABLE perdure.gathered (
    workflow text             NOT NULL,
    grp      text             NOT NULL,
    number   bigint           NOT NULL,
    at       double precision NOT NULL,
    payload  bytea            NOT NULL,
    PRIMARY KEY (workflow, grp, number)
);

-- What calls of language models have used; see storage/ledger.py. Costs are in billionths of a US dollar, NULL if nobody
-- knows. `spared` is how often a restart didn't have to repeat the call.
CREATE TABLE perdure.usage (
    run       bigint           NOT NULL,
    id        bigint           NOT NULL,
    state     text             NOT NULL CHECK (state IN ('open', 'spent', 'unknown', 'reused')),
    step      text             NOT NULL,
    name      text             NOT NULL,
    attempt   bigint           NOT NULL,
    at        double precision NOT NULL,
    epoch     bigint           NOT NULL,
    errand    text             NOT NULL,
    workflow  text             NOT NULL,
    key       text,
    model     text,
    provider  text,
    response  text,
    input     bigint           NOT NULL,
    output    bigint           NOT NULL,
    cached    bigint           NOT NULL,
    written   bigint           NOT NULL,
    reasoning bigint           NOT NULL,
    cost      bigint,
    price     text,
    spared    bigint           NOT NULL DEFAULT 0,
    PRIMARY KEY (run, id)
);

CREATE INDEX usage_by_time ON perdure.usage (at);

-- Checkpoints of graphs, which belong to no run; see storage/checkpoints.py. What a channel held is kept once for each of
-- its versions; `channels` are the versions that a checkpoint has.
CREATE TABLE perdure.checkpoints (
    thread    text COLLATE "C" NOT NULL,
    namespace text COLLATE "C" NOT NULL,
    id        text COLLATE "C" NOT NULL,
    parent    text,
    made_by   text,
    channels  jsonb            NOT NULL,
    metadata  bytea            NOT NULL,
    data      bytea            NOT NULL,
    PRIMARY KEY (thread, namespace, id)
);

CREATE INDEX checkpoints_of_runs ON perdure.checkpoints (made_by) WHERE made_by IS NOT NULL;

CREATE TABLE perdure.checkpoint_values (
    thread    text COLLATE "C" NOT NULL,
    namespace text COLLATE "C" NOT NULL,
    channel   text COLLATE "C" NOT NULL,
    version   text COLLATE "C" NOT NULL,
    data      bytea            NOT NULL,
    PRIMARY KEY (thread, namespace, channel, version)
);

CREATE TABLE perdure.checkpoint_writes (
    thread     text COLLATE "C" NOT NULL,
    namespace  text COLLATE "C" NOT NULL,
    checkpoint text COLLATE "C" NOT NULL,
    task       text COLLATE "C" NOT NULL,
    idx        bigint           NOT NULL,
    channel    text COLLATE "C" NOT NULL,
    path       text COLLATE "C" NOT NULL,
    data       bytea            NOT NULL,
    PRIMARY KEY (thread, namespace, checkpoint, task, idx)
);

-- Budgets, see storage/budgets.py: what they say, and how each of their accounts stands. Amounts are in billionths of a
-- US dollar.
CREATE TABLE perdure.budgets (
    name text  PRIMARY KEY,
    data bytea NOT NULL
);

CREATE TABLE perdure.budget_accounts (
    name  text  NOT NULL,
    owner text  NOT NULL,
    day   text  NOT NULL,
    data  bytea NOT NULL,
    PRIMARY KEY (name, owner, day)
);

-- What is reserved for calls that aren't settled. `id` is that of the ledger's open entry.
CREATE TABLE perdure.budget_holds (
    run      bigint  NOT NULL,
    id       bigint  NOT NULL,
    name     text    NOT NULL,
    owner    text    NOT NULL,
    day      text    NOT NULL,
    cost     bigint  NOT NULL,
    tokens   bigint  NOT NULL,
    declared boolean NOT NULL,
    epoch    bigint  NOT NULL,
    errand   text    NOT NULL,
    PRIMARY KEY (run, id, name, owner, day)
);

CREATE INDEX budget_holds_by_account ON perdure.budget_holds (name, owner, day);

-- Steps that wait for money, and the mail that lets them go on.
CREATE TABLE perdure.budget_waits (
    run   bigint NOT NULL,
    step  text   NOT NULL,
    name  text   NOT NULL,
    owner text   NOT NULL,
    day   text   NOT NULL,
    mail  bytea  NOT NULL,
    PRIMARY KEY (run, step)
);

CREATE INDEX budget_waits_by_account ON perdure.budget_waits (name, owner, day);

-- Runs that take over from others: those have to stay while these live.
CREATE TABLE perdure.donors (
    run   bigint PRIMARY KEY,
    donor text   NOT NULL
);

CREATE INDEX donors_by_id ON perdure.donors (donor);

-- Runs that were removed, and whose rows in other tables aren't all gone yet, or those of what they had started.
CREATE TABLE perdure.remainders (
    run     bigint           PRIMARY KEY,
    archive text             NOT NULL,  -- where it was written to
    since   double precision NOT NULL,
    bare    boolean          NOT NULL DEFAULT false  -- nothing of its own is left
);

CREATE INDEX remainders_full ON perdure.remainders (run) WHERE NOT bare;

CREATE TABLE perdure.remaining_streams (
    stream bigint PRIMARY KEY
);

-- At most one row: who removes runs now, and what is about to be removed.
CREATE TABLE perdure.sweeper (
    one    bigint           PRIMARY KEY,
    holder text             NOT NULL,
    until  double precision NOT NULL,
    at     double precision NOT NULL,
    rules  bytea            NOT NULL,
    plan   bytea
);

-- Keys of subjects, or of single runs, wrapped with keys that aren't here; see storage/keys.py. One that was destroyed
-- leaves its row.
CREATE TABLE perdure.data_keys (
    id         text             PRIMARY KEY,
    subject    text             NOT NULL,
    ring       text             NOT NULL,
    wrapped    bytea,
    created_at double precision NOT NULL,
    erased_at  double precision,
    CHECK ((wrapped IS NULL) = (erased_at IS NOT NULL))
);

CREATE UNIQUE INDEX data_keys_live ON perdure.data_keys (subject) WHERE wrapped IS NOT NULL;
CREATE INDEX data_keys_of_subject ON perdure.data_keys (subject);
