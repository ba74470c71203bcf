-- The keys of subjects.

-- name: data_key_of
SELECT id, subject, ring, wrapped, created_at, erased_at FROM perdure.data_keys
WHERE subject = %(subject)s AND wrapped IS NOT NULL;

-- name: keep_data_key
INSERT INTO perdure.data_keys (id, subject, ring, wrapped, created_at)
VALUES (%(id)s, %(subject)s, %(ring)s, %(wrapped)s::bytea, %(created_at)s::double precision)
ON CONFLICT (subject) WHERE wrapped IS NOT NULL DO NOTHING;

-- name: data_keys
SELECT id, subject, ring, wrapped, created_at, erased_at FROM perdure.data_keys WHERE id = ANY (%(ids)s::text[]);

-- name: data_keys_of
SELECT id, subject, ring, wrapped, created_at, erased_at FROM perdure.data_keys WHERE subject = %(subject)s
ORDER BY created_at, id COLLATE "C";

-- name: data_keys_page
SELECT id, subject, ring, wrapped, created_at, erased_at FROM perdure.data_keys
WHERE id > %(after)s ORDER BY id LIMIT %(limit)s::bigint;

-- name: rewrap_data_key
UPDATE perdure.data_keys SET ring = %(to)s, wrapped = %(wrapped)s::bytea
WHERE id = %(id)s AND ring = %(ring)s AND (wrapped IS NULL) IS FALSE;  -- so that no other index fits

-- name: erase_data_key
UPDATE perdure.data_keys SET wrapped = NULL, erased_at = %(now)s::double precision
WHERE id = %(id)s AND (wrapped IS NULL) IS FALSE;
