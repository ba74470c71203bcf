-- Inquiries: queries handed from a process without the code to one that has it.

-- name: forget_expired_inquiries
DELETE FROM inquiries WHERE expires_at < :now;

-- name: put_inquiry
INSERT INTO inquiries (run_id, workflow, name, input, asked_at, expires_at)
VALUES (:run_id, :workflow, :name, :input, :now, :expires_at)
RETURNING id;

-- name: inquiries_wait
SELECT EXISTS (
    SELECT 1 FROM inquiries
    WHERE answer IS NULL AND workflow IN (SELECT value FROM json_each(:workflows)) AND expires_at >= :now
);

-- name: take_inquiries
-- Those nobody has taken up lately; of a run that another worker drives, only those that have waited for long.
UPDATE inquiries SET taken_at = :now
WHERE id IN (
    SELECT q.id FROM inquiries AS q
    WHERE q.answer IS NULL AND q.workflow IN (SELECT value FROM json_each(:workflows)) AND q.expires_at >= :now
      AND (q.taken_at IS NULL OR q.taken_at <= :now - :again)
      AND (q.asked_at <= :now - :again OR NOT EXISTS (
          SELECT 1 FROM runs AS r WHERE r.id = q.run_id AND r.next IS NULL AND r.owner IS NOT NULL AND r.owner <> :worker
      ))
    ORDER BY q.id LIMIT :limit
)
RETURNING id, run_id, name, input;

-- name: answer_inquiry
UPDATE inquiries SET answer = :answer WHERE id = :id AND answer IS NULL;

-- name: inquiry_answers
SELECT id, answer FROM inquiries WHERE id IN (SELECT value FROM json_each(:ids));

-- name: forget_inquiry
DELETE FROM inquiries WHERE id = :id;
