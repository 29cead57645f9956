-- What psql runs for a backup. The dump goes to standard output, and what is in it, a line each, to standard error. Both
-- see the database at the same moment.
\o | cat >&2
SET search_path = '';
SET lock_timeout = '120s';
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT pg_export_snapshot() AS snapshot \gset
\setenv SNAPSHOT :snapshot
SELECT 'server', split_part(current_setting('server_version'), ' ', 1);
SELECT 'role', rolname FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY 2;
-- ROWS
\! pg_dump --format=custom --compress=0 --lock-wait-timeout=120s --snapshot="$SNAPSHOT" site && echo whole >&2
COMMIT;
