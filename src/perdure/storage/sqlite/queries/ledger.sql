-- The ledger: what calls of language models have used, and what is made of that.

-- name: place_of_run
-- Under what a run's spending is booked: its own key, or that of the nearest ancestor with one. And whether there are
-- budgets.
SELECT workflow, key, parent, EXISTS (SELECT 1 FROM budgets) FROM runs WHERE run = :run;

-- name: put_entry
INSERT INTO usage (
    run, id, state, step, name, attempt, at, epoch, errand, workflow, key, model, provider, response, input, output,
    cached, written, reasoning, cost, price
) VALUES (
    :run, :id, :state, :step, :name, :attempt, :at, :epoch, :errand, :workflow, :key, :model, :provider, :response,
    :input, :output, :cached, :written, :reasoning, :cost, :price
) ON CONFLICT DO NOTHING;

-- name: close_usage
DELETE FROM usage WHERE run = :run AND id = :id AND state = 'open';

-- name: lose_usage
UPDATE usage SET state = 'unknown' WHERE run = :run AND id = :id AND state = 'open';

-- name: generation_key
SELECT run FROM runs WHERE id = :id AND generation = :generation AND next IS NOT NULL
UNION ALL
SELECT run FROM runs WHERE id = :id AND generation = :generation AND next IS NULL;

-- name: inherit_usage
INSERT INTO usage (
    run, id, state, step, name, attempt, at, epoch, errand, workflow, key, model, provider, response, input, output,
    cached, written, reasoning, cost, price
)
SELECT :run, u.id, 'reused',
       coalesce((SELECT value FROM json_each(:renamed) WHERE key = u.step AND u.run = :donor), u.step), u.name, u.attempt, u.at, u.epoch, u.errand, :workflow, :key, u.model, u.provider,
       u.response, u.input, u.output, u.cached, u.written, u.reasoning, u.cost, u.price
FROM usage AS u
WHERE u.state IN ('spent', 'reused')
      AND ((u.run = :donor AND u.step IN (SELECT value FROM json_each(:steps)))
           OR u.run IN (SELECT value FROM json_each(:children)))
ON CONFLICT DO NOTHING;

-- name: any_usage
SELECT 1 FROM usage LIMIT 1;

-- name: kin
-- The earlier generations of these runs, and what these have started; if asked, what of that is over.
SELECT c.run FROM json_each(:runs) AS k CROSS JOIN runs AS c ON c.parent = k.value
WHERE :ended = 0 OR c.ended_at IS NOT NULL
UNION
SELECT g.run
FROM json_each(:runs) AS k CROSS JOIN runs AS r ON r.run = k.value
     CROSS JOIN runs AS g ON g.id = r.id AND g.next IS NOT NULL;

-- name: spare_usage
UPDATE usage SET spared = spared + 1
WHERE run IN (SELECT value FROM json_each(:runs)) AND state IN ('spent', 'reused');

-- part: sums_of_usage
-- An open entry whose attempt nobody executes any more is unknown.
SELECT CASE :by WHEN 'step' THEN u.name WHEN 'workflow' THEN u.workflow WHEN 'model' THEN u.model WHEN 'key' THEN u.key
                WHEN 'day' THEN date(u.at, 'unixepoch') WHEN 'month' THEN strftime('%Y-%m', u.at, 'unixepoch')
                WHEN 'run' THEN r.id END,
       CASE WHEN u.state <> 'open' THEN u.state
            WHEN coalesce(e.owner, iif(u.errand = '', r.owner, NULL)) IS NOT NULL
                 AND coalesce(e.epoch, r.epoch) = u.epoch THEN 'open'
            ELSE 'unknown' END,
       0, count(*), sum(u.input), sum(u.output), sum(u.cached), sum(u.written), sum(u.reasoning), sum(u.cost),
       sum(CASE WHEN u.cost IS NULL THEN 1 ELSE 0 END), sum(u.spared), sum(u.spared * u.input),
       sum(u.spared * u.output), sum(u.spared * u.cost), sum(CASE WHEN u.cost IS NULL THEN u.spared ELSE 0 END)

-- part: wanted_usage
     LEFT JOIN runs AS r ON r.run = u.run
     LEFT JOIN runs AS e ON u.errand <> '' AND e.id = u.errand AND e.next IS NULL
WHERE (:within IS NULL OR substr(r.id, 1, length(:within)) = :within)
      AND (:workflow IS NULL OR u.workflow = :workflow) AND (:key IS NULL OR u.key = :key)
      AND (:since IS NULL OR u.at >= :since) AND (:until IS NULL OR u.at < :until)

-- part: not_in_totals
-- Neither what is left of a removed run, nor what has come back from an archive.
AND r.run IS NOT NULL AND u.counted = 0

-- part: with_totals
-- What removed runs have spent; nobody knows their keys.
UNION ALL
SELECT CASE :by WHEN 'step' THEN t.name WHEN 'workflow' THEN t.workflow WHEN 'model' THEN nullif(t.model, '')
                WHEN 'day' THEN date(t.day * 86400, 'unixepoch')
                WHEN 'month' THEN strftime('%Y-%m', t.day * 86400, 'unixepoch') END,
       t.state, ifnull(:by IN ('key', 'run'), 0),
       sum(t.calls), sum(t.input), sum(t.output), sum(t.cached), sum(t.written), sum(t.reasoning), sum(t.cost),
       sum(t.unpriced), sum(t.spared), sum(t.spared_input), sum(t.spared_output), sum(t.spared_cost),
       sum(t.spared_unpriced)
FROM usage_totals AS t
WHERE t.day >= :first AND t.day < :end AND :key IS NULL
      AND (:within IS NULL OR t.namespace = :within) AND (:workflow IS NULL OR t.workflow = :workflow)
GROUP BY 1, 2

-- name: usage_report
-- with: sums_of_usage
FROM usage AS u
-- with: wanted_usage
-- with: not_in_totals
GROUP BY 1, 2
-- with: with_totals
;

-- name: usage_report_since
-- with: sums_of_usage
FROM usage AS u
-- with: wanted_usage
-- with: not_in_totals
AND u.at >= :since
GROUP BY 1, 2
-- with: with_totals
;

-- name: usage_of
-- with: sums_of_usage
FROM json_each(:runs) AS k CROSS JOIN usage AS u ON u.run = k.value
-- with: wanted_usage
GROUP BY 1, 2;

-- name: usage_entries
SELECT u.id,
       CASE WHEN u.state <> 'open' THEN u.state
            WHEN coalesce(e.owner, iif(u.errand = '', r.owner, NULL)) IS NOT NULL
                 AND coalesce(e.epoch, r.epoch) = u.epoch THEN 'open'
            ELSE 'unknown' END,
       u.step, u.name, u.attempt, u.at, u.epoch, u.errand, u.model, u.provider, u.input, u.output, u.cached, u.written,
       u.reasoning, u.cost, u.price, u.key, u.response
FROM usage AS u
     LEFT JOIN runs AS r ON r.run = u.run
     LEFT JOIN runs AS e ON u.errand <> '' AND e.id = u.errand AND e.next IS NULL
WHERE u.run = :run
ORDER BY u.at, u.id;

-- part: figures_of_usage
calls, input, output, cached, written, reasoning, cost, unpriced, spared, spared_input, spared_output, spared_cost, spared_unpriced

-- name: keep_usage
-- What these runs have spent is added to the totals.
INSERT INTO usage_totals (
    day, namespace, workflow, name, model, state, origin,
    -- with: figures_of_usage
)
SELECT CAST(u.at / 86400 AS INTEGER), :namespace, u.workflow, u.name, ifnull(u.model, ''),
       iif(u.state = 'open', 'unknown', u.state), '',
       count(*), sum(u.input), sum(u.output), sum(u.cached), sum(u.written), sum(u.reasoning), ifnull(sum(u.cost), 0),
       sum(u.cost IS NULL), sum(u.spared), sum(u.spared * u.input), sum(u.spared * u.output),
       ifnull(sum(u.spared * u.cost), 0), sum(iif(u.cost IS NULL, u.spared, 0))
FROM json_each(:runs) AS k CROSS JOIN usage AS u ON u.run = k.value
WHERE u.counted = 0
GROUP BY 1, 3, 4, 5, 6
ON CONFLICT (day, namespace, workflow, name, model, state, origin) DO UPDATE
SET calls = calls + excluded.calls, input = input + excluded.input, output = output + excluded.output,
    cached = cached + excluded.cached, written = written + excluded.written,
    reasoning = reasoning + excluded.reasoning, cost = cost + excluded.cost, unpriced = unpriced + excluded.unpriced,
    spared = spared + excluded.spared, spared_input = spared_input + excluded.spared_input,
    spared_output = spared_output + excluded.spared_output, spared_cost = spared_cost + excluded.spared_cost,
    spared_unpriced = spared_unpriced + excluded.spared_unpriced;

-- name: entries_of_run
SELECT count(*) FROM usage WHERE run = :run;

-- name: usage_totals
SELECT namespace, day, workflow, name, nullif(model, ''), state,
       sum(calls), sum(input), sum(output), sum(cached), sum(written), sum(reasoning), sum(cost), sum(unpriced),
       sum(spared), sum(spared_input), sum(spared_output), sum(spared_cost), sum(spared_unpriced)
FROM usage_totals GROUP BY 1, 2, 3, 4, 5, 6;

-- name: forget_totals_from
DELETE FROM usage_totals WHERE origin = :origin;

-- name: put_totals
INSERT INTO usage_totals (
    origin, namespace, day, workflow, name, model, state,
    -- with: figures_of_usage
) VALUES (?, ?, ?, ?, ?, ifnull(?, ''), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);
