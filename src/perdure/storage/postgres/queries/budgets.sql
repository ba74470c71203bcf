-- Budgets: accounts are locked, computed and written back within one transaction; see storage/budgeting.py.

-- name: budgets
SELECT data FROM perdure.budgets ORDER BY name COLLATE "C";

-- name: keep_budget
INSERT INTO perdure.budgets (name, data) VALUES (%(name)s::text, %(data)s::bytea)
ON CONFLICT (name) DO UPDATE SET data = excluded.data;

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
SELECT a.name, a.owner, a.day, a.data FROM perdure.budget_accounts AS a
WHERE (a.name, a.owner, a.day) IN (
    SELECT k.name, k.owner, k.day
    FROM unnest(%(names)s::text[], %(owners)s::text[], %(days)s::text[]) AS k (name, owner, day)
)
ORDER BY a.name, a.owner, a.day
FOR UPDATE OF a;

-- name: make_accounts
INSERT INTO perdure.budget_accounts (name, owner, day, data)
SELECT k.name, k.owner, k.day, '{}'::bytea
FROM unnest(%(names)s::text[], %(owners)s::text[], %(days)s::text[]) AS k (name, owner, day)
ORDER BY k.name, k.owner, k.day
ON CONFLICT (name, owner, day) DO NOTHING;

-- name: keep_accounts
UPDATE perdure.budget_accounts AS a SET data = k.data
FROM unnest(%(names)s::text[], %(owners)s::text[], %(days)s::text[], %(data)s::bytea[]) AS k (name, owner, day, data)
WHERE a.name = k.name AND a.owner = k.owner AND a.day = k.day;

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
            WHEN h.errand = '' AND r.owner IS NOT NULL AND r.epoch = h.epoch THEN 'live'
            WHEN h.errand <> '' AND e.owner IS NOT NULL AND e.epoch = h.epoch THEN 'live'
            WHEN u.id IS NOT NULL THEN 'lost'
            ELSE 'void' END
FROM perdure.budget_holds AS h
     LEFT JOIN perdure.runs AS r ON r.run = h.run
     LEFT JOIN perdure.ids AS i ON h.errand <> '' AND i.id = h.errand
     LEFT JOIN perdure.runs AS e ON e.run = i.run
     LEFT JOIN perdure.usage AS u ON u.run = h.run AND u.id = h.id
WHERE h.name = %(name)s::text AND h.owner = %(owner)s::text AND h.day = %(day)s::text;

-- name: put_hold
INSERT INTO perdure.budget_holds (run, id, name, owner, day, cost, tokens, declared, epoch, errand)
VALUES (
    %(run)s::bigint, %(id)s::bigint, %(name)s::text, %(owner)s::text, %(day)s::text, %(cost)s::bigint,
    %(tokens)s::bigint, %(declared)s::boolean, %(epoch)s::bigint, %(errand)s::text
)
ON CONFLICT (run, id, name, owner, day) DO UPDATE SET cost = excluded.cost, tokens = excluded.tokens;

-- name: drop_hold
DELETE FROM perdure.budget_holds
WHERE run = %(run)s::bigint AND id = %(id)s::bigint AND name = %(name)s::text AND owner = %(owner)s::text
      AND day = %(day)s::text;

-- name: waits_for
SELECT w.run, w.step, w.mail FROM perdure.budget_waits AS w
WHERE (w.name, w.owner, w.day) IN (
    SELECT k.name, k.owner, k.day
    FROM unnest(%(names)s::text[], %(owners)s::text[], %(days)s::text[]) AS k (name, owner, day)
)
ORDER BY w.run, w.step;

-- name: waiting_for
SELECT count(*) FROM perdure.budget_waits AS w JOIN perdure.runs AS r ON r.run = w.run
WHERE w.name = %(name)s::text AND w.owner = %(owner)s::text AND w.day = %(day)s::text AND r.ended_at IS NULL;

-- name: put_money_wait
INSERT INTO perdure.budget_waits (run, step, name, owner, day, mail)
VALUES (%(run)s::bigint, %(step)s::text, %(name)s::text, %(owner)s::text, %(day)s::text, %(mail)s::bytea)
ON CONFLICT (run, step) DO UPDATE
SET name = excluded.name, owner = excluded.owner, day = excluded.day, mail = excluded.mail;

-- name: drop_money_wait
DELETE FROM perdure.budget_waits WHERE run = %(run)s::bigint AND step = %(step)s::text;
