-- The first schema. 0x50657264 spells "Perd": it tells our files from other people's databases.

PRAGMA application_id = 0x50657264;

-- Facts about the file itself.
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

-- One row a run, kept small: it is rewritten by every append. The columns an append always changes
-- (seq, chain, attempt, updated_at, recoveries) are in no index, so the hot UPDATE touches one page only.
-- Keys are handed out in order of creation, so the events of runs that live together lie together.
-- AUTOINCREMENT here and below: a key is never used twice, even after its row is gone.
CREATE TABLE runs (
    run             INTEGER PRIMARY KEY AUTOINCREMENT,
    id              TEXT    NOT NULL,
    workflow        TEXT    NOT NULL,
    status          TEXT    NOT NULL,
    queue           TEXT    NOT NULL,
    fingerprint     BLOB    NOT NULL,
    seq             INTEGER NOT NULL CHECK (seq >= 1),
    chain           INTEGER NOT NULL,  -- the link of its newest event
    epoch           INTEGER NOT NULL CHECK (epoch >= 0),
    owner           INTEGER,
    created_at      REAL    NOT NULL,
    updated_at      REAL    NOT NULL,
    started_at      REAL,
    ended_at        REAL,
    wake_at         REAL,
    mail            INTEGER NOT NULL DEFAULT 0 CHECK (mail >= 0),
    recoveries      INTEGER NOT NULL DEFAULT 0 CHECK (recoveries >= 0),
    semantics       INTEGER NOT NULL,
    reason          TEXT,
    block_code      TEXT,
    parent          INTEGER,
    parent_op       TEXT,
    on_parent_close TEXT    NOT NULL CHECK (on_parent_close IN ('cancel', 'abandon', 'terminate')),
    attempt         INTEGER,  -- number of the newest append, by which a repeat of it is recognised
    generation      INTEGER NOT NULL DEFAULT 1 CHECK (generation >= 1),
    next            INTEGER,  -- the run that goes on under this id; 0 while that is being made
    version         TEXT,     -- of the code that drives it, or drove it last
    pinned          INTEGER NOT NULL DEFAULT 0 CHECK (pinned IN (0, 1)),
    paused          REAL,     -- it is to be held; when it was due before that, or 0
    misfits         TEXT,     -- JSON list of the codes that found out they can't drive it
    checkpoint      INTEGER,  -- the event after which a replay may go on when it has read the first one
    key             TEXT,     -- what its queue may treat apart
    priority        INTEGER NOT NULL DEFAULT 0,
    dedup           TEXT,     -- no other live run may have the same
    slot            INTEGER NOT NULL DEFAULT 0 CHECK (slot IN (0, 1)),  -- it was admitted by a queue with limits
    lane            TEXT,     -- where it stands in line there; NULL for runs that needn't, or needn't any more
    rank            INTEGER,  -- its class in that line; that of runs whose time hasn't come is the lowest
    CHECK ((lane IS NULL) = (rank IS NULL)),
    CHECK (lane IS NULL OR slot = 0),
    CHECK (next IS NULL OR ended_at IS NOT NULL),
    CHECK (owner IS NULL OR wake_at IS NULL),
    CHECK (owner IS NULL OR epoch >= 1),
    CHECK (ended_at IS NULL OR (owner IS NULL AND wake_at IS NULL)),
    CHECK ((ended_at IS NOT NULL)
           = (status IN ('completed', 'failed', 'cancelled', 'terminated', 'continued')))
) STRICT;

-- An id means the newest generation of its run; the earlier ones are found by number.
CREATE UNIQUE INDEX runs_current ON runs (id) WHERE next IS NULL;

CREATE INDEX runs_earlier ON runs (id, generation) WHERE next IS NOT NULL;

-- Runs that need a driver at some time, by what a worker must have to drive them: a worker then finds
-- its due runs by one seek for each queue and workflow it serves, however many wait for other workers.
-- Those that stand in line aren't among them.
CREATE INDEX runs_due ON runs (queue, workflow, wake_at)
WHERE owner IS NULL AND wake_at IS NOT NULL AND lane IS NULL;

-- Due runs of which one may be killing its workers: few, and mostly none.
CREATE INDEX runs_suspected ON runs (wake_at)
WHERE owner IS NULL AND wake_at IS NOT NULL AND lane IS NULL AND recoveries >= 2;
CREATE INDEX runs_tried ON runs (owner) WHERE owner IS NOT NULL AND recoveries >= 3;

-- The lines of queues with limits, in their order. All but the lowest rank may be admitted.
CREATE INDEX runs_line ON runs (queue, workflow, rank DESC, lane, wake_at, run)
WHERE lane IS NOT NULL AND wake_at IS NOT NULL;

-- Who holds a slot. It is free when the run has ended, whatever ended it.
CREATE INDEX runs_slots ON runs (queue, key) WHERE slot = 1 AND ended_at IS NULL;

CREATE UNIQUE INDEX runs_dedup ON runs (dedup) WHERE dedup IS NOT NULL AND ended_at IS NULL;

CREATE INDEX runs_owned ON runs (owner) WHERE owner IS NOT NULL;

CREATE INDEX runs_with_mail ON runs (owner) WHERE mail > 0;

CREATE INDEX runs_children ON runs (parent) WHERE parent IS NOT NULL;

-- Due runs that only workers of one version may drive.
CREATE INDEX runs_pinned ON runs (wake_at) WHERE owner IS NULL AND wake_at IS NOT NULL AND pinned = 1;

-- How many runs are at what, and which: changed when a run's status is, which no append between does.
CREATE INDEX runs_kinds ON runs (status, workflow);

-- When runs have ended. Entries are made once, at the end of the index.
CREATE INDEX runs_ended ON runs (ended_at) WHERE ended_at IS NOT NULL;

-- Runs that wait for a worker with fitting code.
CREATE INDEX runs_stranded ON runs (queue, workflow) WHERE block_code = 'code';

-- Of those the ones that were never driven and have mail, which may ask them to end.
CREATE INDEX runs_unbegun ON runs (block_code) WHERE block_code = 'code' AND started_at IS NULL AND mail > 0;

-- Runs of namespaces, by what their ids begin with. Other runs aren't in it, and no change of a run touches it.
CREATE INDEX runs_of_namespace ON runs (substr(id, 1, instr(id, '/')), run) WHERE substr(id, 1, 1) = ':';

-- Entities, by their kind.
CREATE INDEX runs_entities ON runs (workflow, run) WHERE checkpoint IS NOT NULL AND next IS NULL;

-- Live runs of namespaces, for their quotas. Runs of none aren't in it.
CREATE INDEX runs_within ON runs (id) WHERE ended_at IS NULL AND id >= ':' AND id < ';';

CREATE TABLE events (
    run  INTEGER NOT NULL,
    seq  INTEGER NOT NULL CHECK (seq >= 1),
    link INTEGER NOT NULL,  -- the checksum of the history up to here
    data BLOB    NOT NULL,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE inbox (
    id   INTEGER PRIMARY KEY AUTOINCREMENT,
    run  INTEGER NOT NULL,
    kind TEXT    NOT NULL,  -- 'control' is dropped when the run ends; everything else is kept
    data BLOB    NOT NULL
) STRICT;

CREATE INDEX inbox_of_run ON inbox (run);

-- Keys of the mail that was put into a run's inbox, for as long as the run is kept: a repeat is recognised by it.
CREATE TABLE mail_keys (
    run INTEGER NOT NULL,
    key TEXT    NOT NULL,
    PRIMARY KEY (run, key)
) STRICT, WITHOUT ROWID;

-- What the newest heartbeat of a step told, while the step has no outcome.
CREATE TABLE step_details (
    run  INTEGER NOT NULL,
    step TEXT    NOT NULL,
    data BLOB    NOT NULL,
    at   REAL    NOT NULL,
    PRIMARY KEY (run, step)
) STRICT, WITHOUT ROWID;

-- Promises to runs that somebody outside keeps. Of a token only its hash is here; rows stay when they are over,
-- so that a second completion can be told what happened.
CREATE TABLE callbacks (
    token_hash BLOB PRIMARY KEY,
    run        INTEGER NOT NULL,
    op         TEXT    NOT NULL,
    opened_at  REAL    NOT NULL,
    expires_at REAL,
    heartbeat  REAL,
    heard_at   REAL    NOT NULL,
    state      TEXT    NOT NULL CHECK (state IN ('open', 'completed', 'failed', 'expired', 'withdrawn')),
    ended_at   REAL,
    question   BLOB,
    answer     BLOB,
    CHECK ((ended_at IS NULL) = (state = 'open'))
) STRICT, WITHOUT ROWID;

CREATE INDEX callbacks_of_run ON callbacks (run);

-- Callbacks that show themselves, by when they were asked: those that are open, and all.
CREATE INDEX questions_open ON callbacks (opened_at, token_hash) WHERE question IS NOT NULL AND state = 'open';
CREATE INDEX questions_asked ON callbacks (opened_at, token_hash) WHERE question IS NOT NULL;

CREATE TABLE workers (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    name        TEXT    NOT NULL,
    host        TEXT    NOT NULL,
    pid         INTEGER NOT NULL,
    born        INTEGER NOT NULL,
    started_at  REAL    NOT NULL,
    lease_until REAL    NOT NULL,
    queues      TEXT    NOT NULL CHECK (json_type(queues) = 'array'),
    workflows   TEXT    NOT NULL CHECK (json_type(workflows) = 'array'),
    version     TEXT    NOT NULL,
    code        TEXT    NOT NULL,
    heard_at    REAL    NOT NULL,
    runs        INTEGER NOT NULL DEFAULT 0,
    steps       INTEGER NOT NULL DEFAULT 0,
    stopping    INTEGER NOT NULL DEFAULT 0 CHECK (stopping IN (0, 1)),
    schema      INTEGER NOT NULL  -- the newest migration that its code knows
) STRICT;

-- Who is looked at by others: those of a host often, those whose lease is over.
CREATE INDEX workers_of_host ON workers (host);

CREATE INDEX workers_lapsing ON workers (lease_until);

-- Queues with limits, or that are held. Their settings are JSON texts; what the statements need of them has columns.
CREATE TABLE queues (
    name      TEXT    PRIMARY KEY NOT NULL,
    defined   TEXT    CHECK (json_valid(defined)),  -- by code
    overrides TEXT    NOT NULL CHECK (json_valid(overrides)),  -- by an operator: what counts instead
    settings  TEXT    NOT NULL CHECK (json_valid(settings)),  -- what comes of both
    limited   INTEGER NOT NULL CHECK (limited IN (0, 1)),  -- its runs stand in line, since it has or had limits
    keyed     INTEGER NOT NULL CHECK (keyed IN (0, 1)),  -- each key has a lane
    ranked    INTEGER NOT NULL CHECK (ranked IN (0, 1)),  -- priorities count
    paused    INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
    draining  INTEGER NOT NULL DEFAULT 0 CHECK (draining IN (0, 1)),
    arrival   INTEGER NOT NULL DEFAULT 0,  -- of the rate's bucket, in microseconds
    turn      TEXT    NOT NULL DEFAULT '',  -- the lane whose turn it was last
    changed_at REAL   NOT NULL
) STRICT;

-- Streams belong to a run's id, so that they outlive its generations. `size` is the newest offset.
CREATE TABLE streams (
    stream INTEGER PRIMARY KEY AUTOINCREMENT,
    id     TEXT    NOT NULL,
    name   TEXT    NOT NULL,
    size   INTEGER NOT NULL CHECK (size >= 1),
    UNIQUE (id, name)
) STRICT;

-- Items, and marks (without data) that take back a step's items from `since` on. `run` has put it out.
CREATE TABLE stream_items (
    stream  INTEGER NOT NULL,
    offset  INTEGER NOT NULL CHECK (offset >= 1),
    at      REAL    NOT NULL,
    run     INTEGER NOT NULL,
    step    TEXT,
    attempt INTEGER,
    data    BLOB,
    since   INTEGER NOT NULL,
    PRIMARY KEY (stream, offset),
    CHECK (data IS NOT NULL OR step IS NOT NULL)
) STRICT, WITHOUT ROWID;

-- For each step that puts out items: the first one that no mark has taken back, the last one, the last mark; and
-- whether the step may yet be attempted again, so that these items wouldn't count.
CREATE TABLE stream_writers (
    run        INTEGER NOT NULL,
    step       TEXT    NOT NULL,
    stream     INTEGER NOT NULL,
    attempt    INTEGER NOT NULL,
    first      INTEGER NOT NULL,
    last       INTEGER NOT NULL,
    superseded INTEGER NOT NULL,
    open       INTEGER NOT NULL CHECK (open IN (0, 1)),
    PRIMARY KEY (run, step, stream)
) STRICT, WITHOUT ROWID;

CREATE INDEX stream_writers_open ON stream_writers (run) WHERE open = 1;

-- Values are compared within a family only. A single value has place 0, those of a list 1 and up.
CREATE TABLE attributes (
    run    INTEGER NOT NULL,
    name   TEXT    NOT NULL,
    place  INTEGER NOT NULL CHECK (place >= 0),
    family TEXT    NOT NULL CHECK (family IN ('text', 'number', 'flag', 'moment')),
    value  ANY     NOT NULL,
    PRIMARY KEY (run, name, place)
) STRICT, WITHOUT ROWID;

CREATE INDEX attributes_by_value ON attributes (name, family, value, run);

-- Changes of code whose new branch a run has taken.
CREATE TABLE patches (
    run    INTEGER NOT NULL,
    change TEXT    NOT NULL,
    PRIMARY KEY (run, change)
) STRICT, WITHOUT ROWID;

-- The newest transaction of each writer thread, written with it: after a commit of unknown outcome the
-- writer finds out here whether it happened.
CREATE TABLE commits (
    writer INTEGER PRIMARY KEY,
    number INTEGER NOT NULL,
    at     REAL    NOT NULL
) STRICT;

-- What starts runs by itself. A row's version is what its changes are fenced by.
CREATE TABLE schedules (
    name    TEXT    PRIMARY KEY NOT NULL,
    version INTEGER NOT NULL,
    due_at  REAL,
    waiting INTEGER NOT NULL CHECK (waiting IN (0, 1)),
    running TEXT    NOT NULL CHECK (json_type(running) = 'array'),
    data    BLOB    NOT NULL
) STRICT;

CREATE INDEX schedules_due ON schedules (due_at) WHERE due_at IS NOT NULL;

CREATE INDEX schedules_waiting ON schedules (name) WHERE waiting = 1;

-- Rate limits, with what core/limiting.py keeps of each.
CREATE TABLE limits (
    name TEXT PRIMARY KEY NOT NULL,
    data BLOB NOT NULL
) STRICT;

-- How much namespaces may have, with what was admitted; see core/quotas.py.
CREATE TABLE quotas (
    namespace TEXT PRIMARY KEY NOT NULL,
    data      BLOB NOT NULL
) STRICT;

-- Updates by their ids, with what their callers get. They outlive the run, so that a repeat finds its answer.
CREATE TABLE updates (
    run_id TEXT    NOT NULL,
    id     TEXT    NOT NULL,
    run    INTEGER NOT NULL,  -- which is to handle it
    call   BLOB    NOT NULL,  -- digest of what was called
    state  TEXT    NOT NULL CHECK (state IN ('requested', 'accepted', 'rejected', 'completed', 'failed')),
    answer BLOB,
    PRIMARY KEY (run_id, id)
) STRICT, WITHOUT ROWID;

-- What the next generation of a run inherits.
CREATE INDEX updates_requested ON updates (run) WHERE state = 'requested';

-- Queries that a process without the code asks of one that has it. Few at any time, and gone in a minute.
CREATE TABLE inquiries (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id     TEXT    NOT NULL,
    workflow   TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    input      BLOB    NOT NULL,
    asked_at   REAL    NOT NULL,
    expires_at REAL    NOT NULL,
    taken_at   REAL,
    answer     BLOB
) STRICT;

-- At most one row: where the runs of this database are moved to. No worker claims any while it is there.
CREATE TABLE moves (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    token TEXT    NOT NULL,
    url   TEXT    NOT NULL,
    done  INTEGER NOT NULL CHECK (done IN (0, 1))
) STRICT;

-- Runs that were copied here, with owner 0 until their move is done: when each was due, and how much mail it had.
CREATE TABLE arrivals (
    run     INTEGER PRIMARY KEY,
    wake_at REAL,
    mail    INTEGER NOT NULL,
    token   TEXT    NOT NULL
) STRICT;

-- What was published, by an id that is made of name and key if there is a key. Numbers are given in the order in which
-- workers see them; settled is what everybody has who wanted it.
CREATE TABLE publications (
    id      TEXT    PRIMARY KEY NOT NULL,
    name    TEXT    NOT NULL,
    key     TEXT,
    payload BLOB    NOT NULL,
    at      REAL    NOT NULL,
    number  INTEGER,
    settled INTEGER NOT NULL DEFAULT 0 CHECK (settled IN (0, 1))
) STRICT;

CREATE INDEX publications_new ON publications (at, id) WHERE number IS NULL;

CREATE INDEX publications_unsettled ON publications (number) WHERE settled = 0 AND number IS NOT NULL;

CREATE INDEX publications_numbered ON publications (number) WHERE number IS NOT NULL;

CREATE INDEX publications_by_name ON publications (name, number) WHERE number IS NOT NULL;

-- One row: the highest number given.
CREATE TABLE publication_clock (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    number INTEGER NOT NULL
) STRICT;

INSERT INTO publication_clock (one, number) VALUES (1, 0);

-- Runs that wait for one. `match` is a digest of the name and of fields of the payload with their values.
CREATE TABLE publication_waits (
    run       INTEGER NOT NULL,
    op        TEXT    NOT NULL,
    name      TEXT    NOT NULL,
    condition TEXT    NOT NULL,
    fields    TEXT    NOT NULL,
    match     BLOB    NOT NULL,
    since     REAL    NOT NULL,
    after     INTEGER NOT NULL,
    fresh     INTEGER NOT NULL CHECK (fresh IN (0, 1)),
    PRIMARY KEY (run, op)
) STRICT, WITHOUT ROWID;

CREATE INDEX publication_waits_new ON publication_waits (run, op) WHERE fresh = 1;

CREATE INDEX publication_waits_by_match ON publication_waits (match, run, op) WHERE fresh = 0;

-- The choices of fields by which there have been waits. Few; they stay.
CREATE TABLE publication_shapes (
    name   TEXT NOT NULL,
    fields TEXT NOT NULL,
    PRIMARY KEY (name, fields)
) STRICT, WITHOUT ROWID;

-- Workflows that are started by events.
CREATE TABLE subscriptions (
    workflow TEXT PRIMARY KEY NOT NULL,
    event    TEXT NOT NULL,
    data     BLOB NOT NULL
) STRICT;

-- What is collected for those that debounce or batch.
CREATE TABLE gatherings (
    workflow TEXT    NOT NULL,
    grp      TEXT    NOT NULL,
    due_at   REAL    NOT NULL,
    count    INTEGER NOT NULL CHECK (count >= 1),
    PRIMARY KEY (workflow, grp)
) STRICT, WITHOUT ROWID;

CREATE INDEX gatherings_due ON gatherings (due_at);

CREATE TABLE gathered (
    workflow TEXT    NOT NULL,
    grp      TEXT    NOT NULL,
    number   INTEGER NOT NULL,
    at       REAL    NOT NULL,
    payload  BLOB    NOT NULL,
    PRIMARY KEY (workflow, grp, number)
) STRICT, WITHOUT ROWID;

-- What calls of language models have used; see storage/ledger.py. Costs are in billionths of a US dollar, NULL if nobody
-- knows. `spared` is how often a restart didn't have to repeat the call.
CREATE TABLE usage (
    run       INTEGER NOT NULL,
    id        INTEGER NOT NULL,
    state     TEXT    NOT NULL CHECK (state IN ('open', 'spent', 'unknown', 'reused')),
    step      TEXT    NOT NULL,
    name      TEXT    NOT NULL,
    attempt   INTEGER NOT NULL,
    at        REAL    NOT NULL,
    epoch     INTEGER NOT NULL,
    errand    TEXT    NOT NULL,
    workflow  TEXT    NOT NULL,
    key       TEXT,
    model     TEXT,
    provider  TEXT,
    response  TEXT,
    input     INTEGER NOT NULL,
    output    INTEGER NOT NULL,
    cached    INTEGER NOT NULL,
    written   INTEGER NOT NULL,
    reasoning INTEGER NOT NULL,
    cost      INTEGER,
    price     TEXT,
    spared    INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (run, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX usage_by_time ON usage (at);

-- Checkpoints of graphs, which belong to no run; see storage/checkpoints.py. What a channel held is kept once for each of
-- its versions; `channels` are the versions that a checkpoint has.
CREATE TABLE checkpoints (
    thread    TEXT NOT NULL,
    namespace TEXT NOT NULL,
    id        TEXT NOT NULL,
    parent    TEXT,
    made_by   TEXT,
    channels  TEXT NOT NULL CHECK (json_type(channels) = 'object'),
    metadata  BLOB NOT NULL,
    data      BLOB NOT NULL,
    PRIMARY KEY (thread, namespace, id)
) STRICT;

CREATE INDEX checkpoints_of_runs ON checkpoints (made_by) WHERE made_by IS NOT NULL;

CREATE TABLE checkpoint_values (
    thread    TEXT NOT NULL,
    namespace TEXT NOT NULL,
    channel   TEXT NOT NULL,
    version   TEXT NOT NULL,
    data      BLOB NOT NULL,
    PRIMARY KEY (thread, namespace, channel, version)
) STRICT;

CREATE TABLE checkpoint_writes (
    thread     TEXT    NOT NULL,
    namespace  TEXT    NOT NULL,
    checkpoint TEXT    NOT NULL,
    task       TEXT    NOT NULL,
    idx        INTEGER NOT NULL,
    channel    TEXT    NOT NULL,
    path       TEXT    NOT NULL,
    data       BLOB    NOT NULL,
    PRIMARY KEY (thread, namespace, checkpoint, task, idx)
) STRICT;

-- Budgets, see storage/budgets.py: what they say, and how each of their accounts stands. Amounts are in billionths of a
-- US dollar.
CREATE TABLE budgets (
    name TEXT PRIMARY KEY,
    data BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE budget_accounts (
    name  TEXT NOT NULL,
    owner TEXT NOT NULL,
    day   TEXT NOT NULL,
    data  BLOB NOT NULL,
    PRIMARY KEY (name, owner, day)
) STRICT, WITHOUT ROWID;

-- What is reserved for calls that aren't settled. `id` is that of the ledger's open entry.
CREATE TABLE budget_holds (
    run      INTEGER NOT NULL,
    id       INTEGER NOT NULL,
    name     TEXT    NOT NULL,
    owner    TEXT    NOT NULL,
    day      TEXT    NOT NULL,
    cost     INTEGER NOT NULL,
    tokens   INTEGER NOT NULL,
    declared INTEGER NOT NULL,
    epoch    INTEGER NOT NULL,
    errand   TEXT    NOT NULL,
    PRIMARY KEY (run, id, name, owner, day)
) STRICT, WITHOUT ROWID;

CREATE INDEX budget_holds_by_account ON budget_holds (name, owner, day);

-- Steps that wait for money, and the mail that lets them go on.
CREATE TABLE budget_waits (
    run   INTEGER NOT NULL,
    step  TEXT    NOT NULL,
    name  TEXT    NOT NULL,
    owner TEXT    NOT NULL,
    day   TEXT    NOT NULL,
    mail  BLOB    NOT NULL,
    PRIMARY KEY (run, step)
) STRICT, WITHOUT ROWID;

CREATE INDEX budget_waits_by_account ON budget_waits (name, owner, day);

-- Runs that take over from others: those have to stay while these live.
CREATE TABLE donors (
    run   INTEGER PRIMARY KEY,
    donor TEXT    NOT NULL
) STRICT;

CREATE INDEX donors_by_id ON donors (donor);

-- Runs that were removed, and whose rows in other tables aren't all gone yet, or those of what they had started.
CREATE TABLE remainders (
    run     INTEGER PRIMARY KEY,
    archive TEXT    NOT NULL,  -- where it was written to
    since   REAL    NOT NULL,
    bare    INTEGER NOT NULL DEFAULT 0 CHECK (bare IN (0, 1))  -- nothing of its own is left
) STRICT;

CREATE INDEX remainders_full ON remainders (run) WHERE bare = 0;

CREATE TABLE remaining_streams (
    stream INTEGER PRIMARY KEY
) STRICT;

-- At most one row: who removes runs now, and what is about to be removed.
CREATE TABLE sweeper (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    holder TEXT    NOT NULL,
    until  REAL    NOT NULL,
    at     REAL    NOT NULL,
    rules  BLOB    NOT NULL,
    plan   BLOB
) STRICT;

-- Keys of subjects, or of single runs, wrapped with keys that aren't here; see storage/keys.py. One that was destroyed
-- leaves its row.
CREATE TABLE data_keys (
    id         TEXT PRIMARY KEY NOT NULL,
    subject    TEXT NOT NULL,
    ring       TEXT NOT NULL,
    wrapped    BLOB,
    created_at REAL NOT NULL,
    erased_at  REAL,
    CHECK ((wrapped IS NULL) = (erased_at IS NOT NULL))
) STRICT;

CREATE UNIQUE INDEX data_keys_live ON data_keys (subject) WHERE wrapped IS NOT NULL;
CREATE INDEX data_keys_of_subject ON data_keys (subject);
