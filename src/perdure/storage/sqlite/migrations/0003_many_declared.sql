-- What many have declared is found by what it is about.
-- oldest code: 1

CREATE INDEX subscriptions_by_event ON subscriptions (event);

-- For which workflow a budget holds, '' = for all, as it was in its data when these were as in `told`. Code of before
-- writes data alone.
ALTER TABLE budgets ADD COLUMN workflow TEXT;
ALTER TABLE budgets ADD COLUMN told BLOB;

CREATE INDEX budgets_by_workflow ON budgets (workflow);

CREATE INDEX budgets_untold ON budgets (name) WHERE told IS NOT data;
