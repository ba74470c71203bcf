-- What is looked for among many is found by what it is about.
-- oldest code: 1
-- in steps

DROP INDEX CONCURRENTLY IF EXISTS perdure.subscriptions_by_event;
CREATE INDEX CONCURRENTLY subscriptions_by_event ON perdure.subscriptions (event);

-- For which workflow a budget holds, '' = for all, as it was in its data when these were as in `told`. Code of before
-- writes data alone.
ALTER TABLE perdure.budgets ADD COLUMN IF NOT EXISTS workflow text;
ALTER TABLE perdure.budgets ADD COLUMN IF NOT EXISTS told bytea;

DROP INDEX CONCURRENTLY IF EXISTS perdure.budgets_by_workflow;
CREATE INDEX CONCURRENTLY budgets_by_workflow ON perdure.budgets (workflow);

DROP INDEX CONCURRENTLY IF EXISTS perdure.budgets_untold;
CREATE INDEX CONCURRENTLY budgets_untold ON perdure.budgets (name) WHERE told IS DISTINCT FROM data;

-- What is numbered and not settled, in an order that no other index has; see queries/distribution.sql. The one that is
-- there by `number` is for code of before.
DROP INDEX CONCURRENTLY IF EXISTS perdure.publications_open;
CREATE INDEX CONCURRENTLY publications_open ON perdure.publications ((number + 0)) WHERE NOT settled AND number IS NOT NULL;

-- Runs that have lost their drivers again and again. A look for them that is due names no condition of `runs_due`: when
-- statistics said that nothing is due, all that had become due since was read for each look.
DROP INDEX CONCURRENTLY IF EXISTS perdure.runs_shaken;
CREATE INDEX CONCURRENTLY runs_shaken ON perdure.runs (wake_at) WHERE recoveries >= 2;
