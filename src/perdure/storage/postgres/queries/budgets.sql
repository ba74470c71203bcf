-- Budgets: accounts are locked, computed and written back within one transaction; see storage/budgeting.py.

-- name: budgets
SELECT data FROM perdure.budgets ORDER BY name COLLATE "C";

-- name: keep_budget
INSERT INTO perdure.budgets (name, data, workflow, told)
VALUES (%(name)s::text, %(data)s::bytea, %(workflow)s::text, %(data)s::bytea)
ON CONFLICT (name) DO UPDATE SET data = excluded.data, workflow = excluded.workflow, told = excluded.told;

-- name: budgets_for
-- Also those of which code of before has written something that nobody has looked at.
SELECT name COLLATE "C", data FROM perdure.budgets WHERE workflow = ANY (%(workflows)b::text[])
UNION
SELECT name COLLATE "C", data FROM perdure.budgets WHERE told IS DISTINCT FROM data
ORDER BY 1;

-- name: any_budget
SELECT 1 FROM perdure.budgets LIMIT 1;

-- name: untold_budgets
SELECT name, data FROM perdure.budgets WHERE told IS DISTINCT FROM data ORDER BY name;

-- name: tell_budget
UPDATE perdure.budgets SET workflow = %s::text, told = data WHERE name = %s::text AND data = %s::bytea;

-- name: drop_budget
DELETE FROM perdure.budgets WHERE name = %(name)s::text;

-- name: drop_accounts
DELETE FROM perdure.budget_accounts WHERE name = %(name)s::text;

-- name: drop_holds_of
DELETE FROM perdure.budget_holds WHERE name = %(name)s::text;

-- name: drop_waits_of
DELETE FROM perdure.budget_waits WHERE name = %(name)s::text;

-- name: kin_of_run
SELECT id, workflow, key, parent FROM perdure.runs WHERE run = %(run)s::bigint;

-- name: lock_accounts
-- In the order of their keys, so that no two transactions wait for each other.
SELECT a.name, a.owner, a.day, a.data
FROM (
    SELECT name, owner, day
    FROM unnest(%(names)s::text[], %(owners)s::text[], %(days)s::text[]) AS u (name, owner, day)
    ORDER BY name, owner, day
) AS k CROSS JOIN LATERAL (
    SELECT b.name, b.owner, b.day, b.data
    FROM perdure.budget_accounts AS b
    WHERE b.name = k.name AND b.owner = k.owner AND b.day = k.day
    FOR UPDATE OF b
) AS a;

-- name: make_accounts
INSERT INTO perdure.budget_accounts (name, owner, day, data)
SELECT k.name, k.owner, k.day, '{}'::bytea
FROM unnest(%(names)s::text[], %(owners)s::text[], %(days)s::text[]) AS k (name, owner, day)
ORDER BY k.name, k.owner, k.day
ON CONFLICT (name, owner, day) DO NOTHING;

-- name: keep_accounts
-- They are there and locked. A join might read all accounts for each of these; the conflict finds each by its key.
INSERT INTO perdure.budget_accounts (name, owner, day, data)
SELECT * FROM unnest(%(names)s::text[], %(owners)s::text[], %(days)s::text[], %(data)s::bytea[])
ON CONFLICT (name, owner, day) DO UPDATE SET data = excluded.data;

-- name: accounts_of
SELECT owner, day, data FROM perdure.budget_accounts WHERE name = %(name)s::text;

-- name: holds_for
SELECT h.run, h.id, h.name, h.owner, h.day, h.cost, h.tokens, h.declared, h.epoch, h.errand
FROM perdure.budget_holds AS h
WHERE h.run = ANY (%(runs)s::bigint[]) AND h.id = ANY (%(ids)s::bigint[]);

-- name: holds_in
-- A hold is lost if the ledger says so. One whose driver has lost the run is lost if its attempt had begun, else void.
SELECT h.run, h.id, h.name, h.owner, h.day, h.cost, h.tokens, h.declared, h.epoch, h.errand,
       CASE WHEN u.state = 'unknown' THEN 'lost'
            WHEN d.owner IS NOT NULL AND d.epoch = h.epoch THEN 'live'
            WHEN u.state IS NOT NULL THEN 'lost'
            ELSE 'void' END
FROM perdure.budget_holds AS h LEFT JOIN LATERAL (
    SELECT owner, epoch FROM perdure.runs
    WHERE run = CASE WHEN h.errand = '' THEN h.run ELSE (SELECT i.run FROM perdure.ids AS i WHERE i.id = h.errand) END
    OFFSET 0
) AS d ON true LEFT JOIN LATERAL (
    SELECT state FROM perdure.usage WHERE run = h.run AND id = h.id OFFSET 0
) AS u ON true
WHERE h.name = %(name)s::text AND h.owner = %(owner)s::text AND h.day = %(day)s::text;

-- name: put_hold
INSERT INTO perdure.budget_holds (run, id, name, owner, day, cost, tokens, declared, epoch, errand)
VALUES (
    %(run)s::bigint, %(id)s::bigint, %(name)s::text, %(owner)s::text, %(day)s::text, %(cost)s::bigint,
    %(tokens)s::bigint, %(declared)s::boolean, %(epoch)s::bigint, %(errand)s::text
)
ON CONFLICT (run, id, name, owner, day) DO UPDATE SET cost = excluded.cost, tokens = excluded.tokens;

-- name: drop_hold
-- Not by what is held in the account, which may be much.
DELETE FROM perdure.budget_holds
WHERE run = %(run)s::bigint AND id = %(id)s::bigint
      AND (name = %(name)s::text AND owner = %(owner)s::text AND day = %(day)s::text) IS TRUE;

-- name: waits_for
SELECT w.run, w.step, w.mail
FROM (
    SELECT DISTINCT name, owner, day
    FROM unnest(%(names)s::text[], %(owners)s::text[], %(days)s::text[]) AS u (name, owner, day)
) AS k CROSS JOIN LATERAL (
    SELECT run, step, mail FROM perdure.budget_waits
    WHERE name = k.name AND owner = k.owner AND day = k.day OFFSET 0
) AS w
ORDER BY w.run, w.step;

-- name: waiting_for
SELECT count(*)
FROM perdure.budget_waits AS w
     CROSS JOIN LATERAL (SELECT 1 FROM perdure.runs WHERE run = w.run AND ended_at IS NULL OFFSET 0) AS r
WHERE w.name = %(name)s::text AND w.owner = %(owner)s::text AND w.day = %(day)s::text;

-- name: put_money_wait
INSERT INTO perdure.budget_waits (run, step, name, owner, day, mail)
VALUES (%(run)s::bigint, %(step)s::text, %(name)s::text, %(owner)s::text, %(day)s::text, %(mail)s::bytea)
ON CONFLICT (run, step) DO UPDATE
SET name = excluded.name, owner = excluded.owner, day = excluded.day, mail = excluded.mail;

-- name: drop_money_wait
DELETE FROM perdure.budget_waits WHERE run = %(run)s::bigint AND step = %(step)s::text;
