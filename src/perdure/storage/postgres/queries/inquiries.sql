-- Inquiries: queries handed from a process without the code to one that has it.

-- name: forget_expired_inquiries
DELETE FROM perdure.inquiries WHERE expires_at < %(now)s::double precision;

-- name: put_inquiry
INSERT INTO perdure.inquiries (id, run_id, workflow, name, input, asked_at, expires_at)
VALUES (%(id)s::bigint, %(run_id)s, %(workflow)s, %(name)s, %(input)s::bytea, %(now)s::double precision,
        %(expires_at)s::double precision);

-- name: inquiries_wait
SELECT EXISTS (
    SELECT 1 FROM perdure.inquiries
    WHERE answer IS NULL AND workflow = ANY (%(workflows)b::text[]) AND expires_at >= %(now)s::double precision
);

-- name: take_inquiries
-- Those nobody has taken up lately; of a run that another worker drives, only those that have waited for long.
UPDATE perdure.inquiries SET taken_at = %(now)s::double precision
WHERE id IN (
    SELECT q.id FROM perdure.inquiries AS q
    WHERE q.answer IS NULL AND q.workflow = ANY (%(workflows)b::text[])
      AND q.expires_at >= %(now)s::double precision
      AND (q.taken_at IS NULL OR q.taken_at <= %(now)s::double precision - %(again)s::double precision)
      AND (q.asked_at <= %(now)s::double precision - %(again)s::double precision OR (
          SELECT (r.owner = %(worker)s::bigint) IS FALSE  -- another one, and not nobody
          FROM perdure.runs AS r WHERE r.run = (SELECT i.run FROM perdure.ids AS i WHERE i.id = q.run_id)
      ) IS NOT TRUE)
    ORDER BY q.id LIMIT %(limit)s::bigint
    FOR UPDATE OF q SKIP LOCKED
)
RETURNING id, run_id, name, input;

-- name: answer_inquiry
UPDATE perdure.inquiries SET answer = %(answer)s::bytea WHERE id = %(id)s::bigint AND answer IS NULL;

-- name: inquiry_answers
SELECT id, answer FROM perdure.inquiries WHERE id = ANY (%(ids)b::bigint[]);

-- name: forget_inquiry
DELETE FROM perdure.inquiries WHERE id = %(id)s::bigint;
