-- The ledger: what calls of language models have used, and what is made of that.

-- name: place_of_run
-- Under what a run's spending is booked: its own key, or that of the nearest ancestor with one. And whether there are
-- budgets.
SELECT workflow, key, parent, EXISTS (SELECT 1 FROM perdure.budgets) FROM perdure.runs WHERE run = %(run)s::bigint;

-- name: put_entry
INSERT INTO perdure.usage (
    run, id, state, step, name, attempt, at, epoch, errand, workflow, key, model, provider, response, input, output,
    cached, written, reasoning, cost, price
) VALUES (
    %(run)s::bigint, %(id)s::bigint, %(state)s::text, %(step)s::text, %(name)s::text,
    %(attempt)s::bigint, %(at)s::double precision, %(epoch)s::bigint, %(errand)s::text, %(workflow)s::text,
    %(key)s::text, %(model)s::text, %(provider)s::text, %(response)s::text, %(input)s::bigint,
    %(output)s::bigint, %(cached)s::bigint, %(written)s::bigint, %(reasoning)s::bigint, %(cost)s::bigint,
    %(price)s::text
) ON CONFLICT (run, id) DO NOTHING;

-- name: close_usage
DELETE FROM perdure.usage WHERE run = %(run)s::bigint AND id = %(id)s::bigint AND state = 'open';

-- name: lose_usage
UPDATE perdure.usage SET state = 'unknown'
WHERE run = %(run)s::bigint AND id = %(id)s::bigint AND state = 'open';

-- name: generation_key
SELECT run FROM perdure.runs WHERE id = %(id)s::text AND generation = %(generation)s::integer;

-- name: inherit_usage
INSERT INTO perdure.usage (
    run, id, state, step, name, attempt, at, epoch, errand, workflow, key, model, provider, response, input, output,
    cached, written, reasoning, cost, price
)
SELECT %(run)s::bigint, u.id, 'reused',
       CASE WHEN u.run = %(donor)s::bigint THEN coalesce(%(renamed)s::jsonb ->> u.step, u.step) ELSE u.step END, u.name, u.attempt, u.at, u.epoch, u.errand, %(workflow)s::text,
       %(key)s::text, u.model, u.provider, u.response, u.input, u.output, u.cached, u.written, u.reasoning, u.cost,
       u.price
FROM perdure.usage AS u
WHERE u.state IN ('spent', 'reused')
      AND ((u.run = %(donor)s::bigint AND u.step = ANY (%(steps)s::text[]))
           OR u.run = ANY (%(children)s::bigint[]))
ON CONFLICT (run, id) DO NOTHING;

-- name: any_usage
SELECT 1 FROM perdure.usage LIMIT 1;

-- name: kin
-- The earlier generations of these runs, and what these have started; if asked, what of that is over.
SELECT c.run FROM perdure.runs AS c
WHERE c.parent = ANY (%(runs)s::bigint[]) AND (NOT %(ended)s::boolean OR c.ended_at IS NOT NULL)
UNION
SELECT g.run FROM perdure.runs AS g
WHERE g.id = ANY (ARRAY(SELECT r.id FROM perdure.runs AS r WHERE r.run = ANY (%(runs)s::bigint[])))
  AND g.next IS NOT NULL;

-- name: spare_usage
UPDATE perdure.usage SET spared = spared + 1
WHERE run = ANY (%(runs)s::bigint[]) AND state IN ('spent', 'reused');

-- part: driven
-- Who drives what an entry's attempt is executed by: the run, or the errand.
LEFT JOIN LATERAL (
    SELECT owner, epoch FROM perdure.runs
    WHERE u.state = 'open'
      AND run = CASE WHEN u.errand = '' THEN u.run ELSE (SELECT i.run FROM perdure.ids AS i WHERE i.id = u.errand) END
    OFFSET 0
) AS d ON true

-- part: summed
-- An open entry whose attempt nobody executes any more is unknown.
SELECT CASE %(by)s::text
           WHEN 'step' THEN u.name WHEN 'workflow' THEN u.workflow WHEN 'model' THEN u.model WHEN 'key' THEN u.key
           WHEN 'day' THEN to_char(to_timestamp(u.at) AT TIME ZONE 'UTC', 'YYYY-MM-DD')
           WHEN 'month' THEN to_char(to_timestamp(u.at) AT TIME ZONE 'UTC', 'YYYY-MM') WHEN 'run' THEN r.id END,
       CASE WHEN u.state <> 'open' THEN u.state
            WHEN d.owner IS NOT NULL AND d.epoch = u.epoch THEN 'open'
            ELSE 'unknown' END,
       false, count(*), sum(u.input)::bigint, sum(u.output)::bigint, sum(u.cached)::bigint, sum(u.written)::bigint,
       sum(u.reasoning)::bigint, sum(u.cost)::bigint, sum(CASE WHEN u.cost IS NULL THEN 1 ELSE 0 END)::bigint,
       sum(u.spared)::bigint, sum(u.spared * u.input)::bigint, sum(u.spared * u.output)::bigint,
       sum(u.spared * u.cost)::bigint, sum(CASE WHEN u.cost IS NULL THEN u.spared ELSE 0 END)::bigint
FROM perdure.usage AS u
     LEFT JOIN LATERAL (SELECT id FROM perdure.runs WHERE run = u.run OFFSET 0) AS r ON true
     -- with: driven
WHERE (%(within)s::text IS NULL OR left(r.id, length(%(within)s::text)) = %(within)s::text)
      AND (%(workflow)s::text IS NULL OR u.workflow = %(workflow)s::text)
      AND (%(key)s::text IS NULL OR u.key = %(key)s::text)
      AND (%(since)s::double precision IS NULL OR u.at >= %(since)s::double precision)
      AND (%(until)s::double precision IS NULL OR u.at < %(until)s::double precision)

-- part: not_in_totals
-- Neither what is left of a removed run, nor what has come back from an archive.
AND r.id IS NOT NULL AND NOT u.counted

-- part: with_totals
-- What removed runs have spent; nobody knows their keys.
UNION ALL
SELECT CASE %(by)s::text
           WHEN 'step' THEN t.name WHEN 'workflow' THEN t.workflow WHEN 'model' THEN nullif(t.model, '')
           WHEN 'day' THEN to_char(to_timestamp(t.day * 86400) AT TIME ZONE 'UTC', 'YYYY-MM-DD')
           WHEN 'month' THEN to_char(to_timestamp(t.day * 86400) AT TIME ZONE 'UTC', 'YYYY-MM') END,
       t.state, coalesce(%(by)s::text IN ('key', 'run'), false),
       -- with: totals_of_usage
FROM perdure.usage_totals AS t
WHERE t.day >= %(first)s::bigint AND t.day < %(end)s::bigint AND %(key)s::text IS NULL
      AND (%(within)s::text IS NULL OR t.namespace = %(within)s::text)
      AND (%(workflow)s::text IS NULL OR t.workflow = %(workflow)s::text)
GROUP BY 1, 2

-- part: totals_of_usage
sum(t.calls)::bigint, sum(t.input)::bigint, sum(t.output)::bigint, sum(t.cached)::bigint, sum(t.written)::bigint,
sum(t.reasoning)::bigint, sum(t.cost)::bigint, sum(t.unpriced)::bigint, sum(t.spared)::bigint,
sum(t.spared_input)::bigint, sum(t.spared_output)::bigint, sum(t.spared_cost)::bigint, sum(t.spared_unpriced)::bigint

-- name: usage_report
-- with: summed
-- with: not_in_totals
GROUP BY 1, 2
-- with: with_totals
;

-- name: usage_report_since
-- with: summed
-- with: not_in_totals
AND u.at >= %(since)s::double precision
GROUP BY 1, 2
-- with: with_totals
;

-- name: usage_report_of
-- with: summed
AND u.run = ANY (%(runs)s::bigint[])
GROUP BY 1, 2;

-- name: usage_entries
SELECT u.id,
       CASE WHEN u.state <> 'open' THEN u.state
            WHEN d.owner IS NOT NULL AND d.epoch = u.epoch THEN 'open'
            ELSE 'unknown' END,
       u.step, u.name, u.attempt, u.at, u.epoch, u.errand, u.model, u.provider, u.input, u.output, u.cached, u.written,
       u.reasoning, u.cost, u.price, u.key, u.response
FROM perdure.usage AS u
     -- with: driven
WHERE u.run = %(run)s::bigint
ORDER BY u.at + 0, u.id;  -- an order that no index has

-- part: figures_of_usage
calls, input, output, cached, written, reasoning, cost, unpriced, spared, spared_input, spared_output, spared_cost, spared_unpriced

-- name: keep_usage
-- What these runs have spent is added to the totals.
INSERT INTO perdure.usage_totals AS t (
    day, namespace, workflow, name, model, state, origin,
    -- with: figures_of_usage
)
SELECT floor(u.at / 86400)::bigint, %(namespace)s::text, u.workflow, u.name, coalesce(u.model, ''),
       CASE u.state WHEN 'open' THEN 'unknown' ELSE u.state END, '',
       count(*), sum(u.input)::bigint, sum(u.output)::bigint, sum(u.cached)::bigint, sum(u.written)::bigint,
       sum(u.reasoning)::bigint, coalesce(sum(u.cost), 0)::bigint,
       sum(CASE WHEN u.cost IS NULL THEN 1 ELSE 0 END)::bigint,
       sum(u.spared)::bigint, sum(u.spared * u.input)::bigint, sum(u.spared * u.output)::bigint,
       coalesce(sum(u.spared * u.cost), 0)::bigint, sum(CASE WHEN u.cost IS NULL THEN u.spared ELSE 0 END)::bigint
FROM perdure.usage AS u
WHERE u.run = ANY (%(runs)b::bigint[]) AND NOT u.counted
GROUP BY 1, 3, 4, 5, 6
ORDER BY 1, 3, 4, 5, 6
ON CONFLICT (day, namespace, workflow, name, model, state, origin) DO UPDATE
SET calls = t.calls + excluded.calls, input = t.input + excluded.input, output = t.output + excluded.output,
    cached = t.cached + excluded.cached, written = t.written + excluded.written,
    reasoning = t.reasoning + excluded.reasoning, cost = t.cost + excluded.cost,
    unpriced = t.unpriced + excluded.unpriced, spared = t.spared + excluded.spared,
    spared_input = t.spared_input + excluded.spared_input, spared_output = t.spared_output + excluded.spared_output,
    spared_cost = t.spared_cost + excluded.spared_cost, spared_unpriced = t.spared_unpriced + excluded.spared_unpriced;

-- name: keep_run
-- It isn't removed while this transaction goes on.
SELECT run FROM perdure.runs WHERE run = %(run)s::bigint FOR KEY SHARE;

-- name: usage_totals
SELECT t.namespace, t.day, t.workflow, t.name, nullif(t.model, ''), t.state,
       -- with: totals_of_usage
FROM perdure.usage_totals AS t GROUP BY 1, 2, 3, 4, 5, 6;

-- name: forget_totals_from
DELETE FROM perdure.usage_totals WHERE origin = %(origin)s::text;

-- name: put_totals
INSERT INTO perdure.usage_totals (
    origin, namespace, day, workflow, name, model, state,
    -- with: figures_of_usage
) VALUES (
    %s::text, %s::text, %s::bigint, %s::text, %s::text, coalesce(%s::text, ''), %s::text, %s::bigint, %s::bigint,
    %s::bigint, %s::bigint, %s::bigint, %s::bigint, %s::bigint, %s::bigint, %s::bigint, %s::bigint, %s::bigint,
    %s::bigint, %s::bigint);
