-- What a role needs that works and enqueues, but owns nothing: only to read and write rows.
-- Run by the owner of the tables (who runs `durablejobs migrate` and `durablejobs copy`) after each migration.
-- "jobs_worker" stands for your role, "public" for the schema of the queue.
GRANT USAGE ON SCHEMA public TO jobs_worker;
GRANT SELECT ON job_schema, job_moves TO jobs_worker;
GRANT SELECT, INSERT, UPDATE, DELETE
    ON jobs, job_errors, job_logs, job_workers, job_queues, job_handlers, job_counts TO jobs_worker;

-- A role that only enqueues, by durablejobs or by plain SQL, and looks what became of its jobs.
-- UPDATE is for unique keys: one whose time is over is taken from the job that held it, and `replace` writes that job.
GRANT USAGE ON SCHEMA public TO jobs_enqueuer;
GRANT SELECT ON job_schema, job_moves TO jobs_enqueuer;
GRANT SELECT, INSERT, UPDATE ON jobs TO jobs_enqueuer;
GRANT SELECT, INSERT, UPDATE ON job_handlers TO jobs_enqueuer;
-- Where it also cancels jobs: a trigger counts those that have ended.
GRANT SELECT, INSERT, UPDATE ON job_counts TO jobs_enqueuer;
