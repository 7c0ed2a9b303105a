"""Triggers that link each new event to its hash chain.

`audit_chain_head` contains the last event of every chain. An INSERT locks its chain's row there until the commit, so
that a chain cannot fork. The row of the lead itself is not locked.
"""

from django.db import migrations

from leads.audit.append_only import run_statements

# One UPDATE locks the end of the chain and computes the next hash from it. An event gets its id after that, so that ids
# increase along a chain. An event with a hash comes from a backup.
_POSTGRES_FUNCTION = """
CREATE OR REPLACE FUNCTION link_audit_event() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    event_chain integer := coalesce(NEW.lead_id, 0);
    fields text;
BEGIN
    IF NEW.hash IS NOT NULL THEN RETURN NEW; END IF;
    NEW.detail_salt := gen_random_uuid();
    fields := concat_ws(E'\\n',
        event_chain, to_char(NEW.at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'), NEW.kind,
        coalesce(NEW.from_status, ''), coalesce(NEW.to_status, ''), NEW.actor,
        coalesce(replace(NEW.correlation_id::text, '-', ''), ''),
        encode(sha256(convert_to(
            replace(NEW.detail_salt::text, '-', '') || E'\\n' || NEW.detail::text, 'UTF8'
        )), 'hex')
    );
    LOOP
        UPDATE audit_chain_head head SET events = events + 1,
                hash = sha256(convert_to(encode(head.hash, 'hex') || E'\\n' || fields, 'UTF8'))
            WHERE head.chain = event_chain RETURNING head.hash INTO NEW.hash;
        IF FOUND THEN
            NEW.id := nextval(pg_get_serial_sequence('lead_event', 'id'));
            RETURN NEW;
        END IF;
        INSERT INTO audit_chain_head AS head (chain, hash, events)
            VALUES (event_chain, sha256(convert_to(E'\\n' || fields, 'UTF8')), 1)
            ON CONFLICT DO NOTHING RETURNING head.hash INTO NEW.hash;
        IF FOUND THEN RETURN NEW; END IF; -- else another transaction has started the chain at the same time
    END LOOP;
END $$
"""

_POSTGRES_TRIGGER = """
CREATE TRIGGER lead_event_link BEFORE INSERT ON lead_event FOR EACH ROW EXECUTE FUNCTION link_audit_event()
"""

# SQLite has one writer at a time and needs no lock. Django provides the function SHA256. A trigger can only set columns
# of a row after the INSERT, which is a change that must be allowed.
_SQLITE_TRIGGER = """
CREATE TRIGGER lead_event_link AFTER INSERT ON lead_event WHEN NEW.hash IS NULL BEGIN
    INSERT INTO audit_changes_allowed (allowed) VALUES (1);
    INSERT OR IGNORE INTO audit_chain_head (chain, hash, events) VALUES (coalesce(NEW.lead_id, 0), '', 0);
    UPDATE lead_event SET detail_salt = lower(hex(randomblob(16))) WHERE id = NEW.id;
    UPDATE lead_event SET hash = SHA256(
        (SELECT hash FROM audit_chain_head WHERE chain = coalesce(NEW.lead_id, 0))
        || char(10) || coalesce(lead_id, 0)
        || char(10) || substr(at || CASE WHEN instr(at, '.') THEN '' ELSE '.' END || '000000', 1, 26)
        || char(10) || kind || char(10) || coalesce(from_status, '') || char(10) || coalesce(to_status, '')
        || char(10) || actor || char(10) || coalesce(replace(correlation_id, '-', ''), '')
        || char(10) || SHA256(detail_salt || char(10) || detail)
    ) WHERE id = NEW.id;
    UPDATE audit_chain_head SET hash = (SELECT hash FROM lead_event WHERE id = NEW.id), events = events + 1
        WHERE chain = coalesce(NEW.lead_id, 0);
    DELETE FROM audit_changes_allowed WHERE rowid = (SELECT max(rowid) FROM audit_changes_allowed);
END
"""


def link_new_events() -> migrations.RunPython:
    """Return the operation that makes the database link each inserted event to its hash chain.

    When a later migration alters the table, repeat the operation, as for `append_only.refuse_changes`.
    """

    def remove_trigger(vendor: str) -> str:
        return "DROP TRIGGER IF EXISTS lead_event_link" + (" ON lead_event" if vendor == "postgresql" else "")

    def install(vendor: str) -> list[str]:
        create = [_POSTGRES_FUNCTION, _POSTGRES_TRIGGER] if vendor == "postgresql" else [_SQLITE_TRIGGER]
        return [remove_trigger(vendor), *create]

    def remove(vendor: str) -> list[str]:
        function = ["DROP FUNCTION IF EXISTS link_audit_event()"] if vendor == "postgresql" else []
        return [remove_trigger(vendor), *function]

    return run_statements(install, remove)
