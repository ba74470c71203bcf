-- Entities: runs whose replay needn't begin at the beginning.

-- name: keep_checkpoint
UPDATE perdure.runs SET checkpoint = %(seq)s::bigint WHERE run = %(run)s::bigint;
