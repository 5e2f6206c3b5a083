-- Who may do what in Postgres: one role for each service, and one that owns the tables.
--
--   headwater_owner         makes and changes tables: migrate, rebuild
--   headwater_persister     writes rows, and can change no table
--   headwater_api           reads, and is told so should it ever try to write
--   headwater_orchestrator  the same
--
-- May be run again, by a superuser, in the database that is Headwater's; passwords come in the
-- environment. Tables that later migrations make get the same rights by themselves.
\set ON_ERROR_STOP on
\getenv owner_password POSTGRES_OWNER_PASSWORD
\getenv persister_password POSTGRES_PERSISTER_PASSWORD
\getenv api_password POSTGRES_API_PASSWORD
\getenv orchestrator_password POSTGRES_ORCHESTRATOR_PASSWORD

SELECT format('CREATE ROLE %I LOGIN', name)
FROM unnest(ARRAY['headwater_owner', 'headwater_persister', 'headwater_api', 'headwater_orchestrator']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec

ALTER ROLE headwater_owner PASSWORD :'owner_password';
ALTER ROLE headwater_persister PASSWORD :'persister_password';
ALTER ROLE headwater_api PASSWORD :'api_password';
ALTER ROLE headwater_orchestrator PASSWORD :'orchestrator_password';
ALTER ROLE headwater_api SET default_transaction_read_only = on;
ALTER ROLE headwater_orchestrator SET default_transaction_read_only = on;

SELECT current_database() AS database \gset
ALTER DATABASE :"database" OWNER TO headwater_owner;
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO headwater_persister, headwater_api, headwater_orchestrator;

ALTER SCHEMA public OWNER TO headwater_owner;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO headwater_persister, headwater_api, headwater_orchestrator;

ALTER DEFAULT PRIVILEGES FOR ROLE headwater_owner IN SCHEMA public
  GRANT SELECT ON TABLES TO headwater_api, headwater_orchestrator;
ALTER DEFAULT PRIVILEGES FOR ROLE headwater_owner IN SCHEMA public
  GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO headwater_persister;
ALTER DEFAULT PRIVILEGES FOR ROLE headwater_owner IN SCHEMA public
  GRANT USAGE ON SEQUENCES TO headwater_persister;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO headwater_api, headwater_orchestrator;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO headwater_persister;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO headwater_persister;
