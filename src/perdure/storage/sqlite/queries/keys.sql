-- The keys of subjects.

-- name: data_key_of
SELECT id, subject, ring, wrapped, created_at, erased_at FROM data_keys
WHERE subject = :subject AND wrapped IS NOT NULL;

-- name: keep_data_key
INSERT INTO data_keys (id, subject, ring, wrapped, created_at)
VALUES (:id, :subject, :ring, :wrapped, :created_at);

-- name: data_keys
SELECT k.id, k.subject, k.ring, k.wrapped, k.created_at, k.erased_at
FROM json_each(:ids) AS j CROSS JOIN data_keys AS k ON k.id = j.value;

-- name: data_keys_of
SELECT id, subject, ring, wrapped, created_at, erased_at FROM data_keys WHERE subject = :subject
ORDER BY created_at, id;

-- name: data_keys_page
SELECT id, subject, ring, wrapped, created_at, erased_at FROM data_keys WHERE id > :after ORDER BY id LIMIT :limit;

-- name: rewrap_data_key
UPDATE data_keys SET ring = :to, wrapped = :wrapped WHERE id = :id AND ring = :ring AND wrapped IS NOT NULL;

-- name: erase_data_key
UPDATE data_keys SET wrapped = NULL, erased_at = :now WHERE id = :id AND wrapped IS NOT NULL;
