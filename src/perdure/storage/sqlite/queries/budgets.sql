-- Budgets: accounts are read, computed and written back within one transaction; see storage/budgeting.py.

-- name: budgets
SELECT data FROM budgets ORDER BY name;

-- name: keep_budget
INSERT INTO budgets (name, data, workflow, told) VALUES (:name, :data, :workflow, :data)
ON CONFLICT (name) DO UPDATE SET data = excluded.data, workflow = excluded.workflow, told = excluded.told;

-- name: budgets_for
-- Also those of which code of before has written something that nobody has looked at.
SELECT b.name, b.data FROM json_each(:workflows) AS k CROSS JOIN budgets AS b ON b.workflow = k.value
UNION
SELECT name, data FROM budgets INDEXED BY budgets_untold WHERE told IS NOT data
ORDER BY 1;

-- name: any_budget
SELECT 1 FROM budgets LIMIT 1;

-- name: untold_budgets
SELECT name, data FROM budgets WHERE told IS NOT data ORDER BY name;

-- name: tell_budget
UPDATE budgets SET workflow = ?, told = data WHERE name = ? AND data = ?;

-- name: drop_budget
DELETE FROM budgets WHERE name = :name;

-- name: drop_accounts
DELETE FROM budget_accounts WHERE name = :name;

-- name: drop_holds_of
DELETE FROM budget_holds WHERE name = :name;

-- name: drop_waits_of
DELETE FROM budget_waits WHERE name = :name;

-- name: kin_of_run
SELECT id, workflow, key, parent FROM runs WHERE run = :run;

-- name: account
SELECT data FROM budget_accounts WHERE name = :name AND owner = :owner AND day = :day;

-- name: accounts_of
SELECT owner, day, data FROM budget_accounts WHERE name = :name;

-- name: keep_account
INSERT INTO budget_accounts (name, owner, day, data) VALUES (:name, :owner, :day, :data)
ON CONFLICT (name, owner, day) DO UPDATE SET data = excluded.data;

-- name: holds_for
SELECT run, id, name, owner, day, cost, tokens, declared, epoch, errand FROM budget_holds WHERE run = :run AND id = :id;

-- name: holds_in
-- A hold is lost if the ledger says so. One whose driver has lost the run is lost if its attempt had begun, else void.
SELECT h.run, h.id, h.name, h.owner, h.day, h.cost, h.tokens, h.declared, h.epoch, h.errand,
       CASE WHEN u.state = 'unknown' THEN 'lost'
            WHEN coalesce(e.owner, iif(h.errand = '', r.owner, NULL)) IS NOT NULL
                 AND coalesce(e.epoch, r.epoch) = h.epoch THEN 'live'
            WHEN u.id IS NOT NULL THEN 'lost'
            ELSE 'void' END
FROM budget_holds AS h
     LEFT JOIN runs AS r ON r.run = h.run
     LEFT JOIN runs AS e ON h.errand <> '' AND e.id = h.errand AND e.next IS NULL
     LEFT JOIN usage AS u ON u.run = h.run AND u.id = h.id
WHERE h.name = :name AND h.owner = :owner AND h.day = :day;

-- name: put_hold
INSERT INTO budget_holds (run, id, name, owner, day, cost, tokens, declared, epoch, errand)
VALUES (:run, :id, :name, :owner, :day, :cost, :tokens, :declared, :epoch, :errand)
ON CONFLICT (run, id, name, owner, day) DO UPDATE SET cost = excluded.cost, tokens = excluded.tokens;

-- name: drop_hold
DELETE FROM budget_holds WHERE run = :run AND id = :id AND name = :name AND owner = :owner AND day = :day;

-- name: waits_for
SELECT run, step, mail FROM budget_waits WHERE name = :name AND owner = :owner AND day = :day;

-- name: waiting_for
SELECT count(*) FROM budget_waits AS w JOIN runs AS r ON r.run = w.run
WHERE w.name = :name AND w.owner = :owner AND w.day = :day AND r.ended_at IS NULL;

-- name: put_money_wait
INSERT INTO budget_waits (run, step, name, owner, day, mail) VALUES (:run, :step, :name, :owner, :day, :mail)
ON CONFLICT (run, step) DO UPDATE
SET name = excluded.name, owner = excluded.owner, day = excluded.day, mail = excluded.mail;

-- name: drop_money_wait
DELETE FROM budget_waits WHERE run = :run AND step = :step;
