//! What a new cluster needs before its first client: our schema, and a role for every instance.
//!
//! These are the agent's own commits, local on purpose: at the first epoch no standby can exist
//! before its role does.

use crate::settings::INSTANCES;
use crate::sql::{Connection, SqlError};
use failover::InstanceId;
use std::collections::BTreeSet;
use std::time::Duration;

const BOUND: Duration = Duration::from_mins(1);

const SCHEMA: &str = "
begin;
set local synchronous_commit = local;
set local client_min_messages = error;
create schema if not exists baton;
create table if not exists baton.marker
  (epoch bigint primary key, instance text not null, at timestamptz not null);
create table if not exists baton.pulse
  (id int primary key, beat bigint not null, at timestamptz not null);
insert into baton.pulse select id, 0, now() from generate_series(1, 3) id on conflict do nothing;
do $$ begin
  if to_regrole('baton_instances') is null then create role baton_instances nologin; end if;
  if to_regrole('baton_probe') is null then create role baton_probe login; end if;
end $$;
create schema if not exists baton_probe authorization baton_probe;
grant usage on schema baton to baton_instances;
grant select on baton.marker to baton_instances;
commit";

/// Makes what is missing.
///
/// # Errors
/// [`SqlError`]
pub async fn ensure<'a>(
    connection: &Connection,
    instances: impl Iterator<Item = &'a InstanceId>,
) -> Result<(), SqlError> {
    // Two proofs may begin at once, and `if not exists` does not look at what is uncommitted.
    connection.execute("select pg_advisory_lock(hashtext('baton'))", BOUND).await?;
    let complete = "select to_regclass('baton.pulse') is not null \
                    and to_regnamespace('baton_probe') is not null \
                    and has_table_privilege('baton_instances', 'baton.marker', 'select')";
    if connection.text(complete, BOUND).await?.as_deref() != Some("t") {
        connection.execute(SCHEMA, BOUND).await?;
    }
    let query = "select rolname from pg_auth_members join pg_roles r on r.oid = member \
                 where roleid = to_regrole('baton_instances')::oid";
    let rows = connection.client().query(query, &[]).await?;
    let present: BTreeSet<String> = rows.iter().filter_map(|row| row.try_get(0).ok()).collect();
    for instance in instances {
        let role = format!("baton-{instance}");
        if !present.contains(&role) {
            connection.execute(&create_role(&role), BOUND).await?;
        }
    }
    connection.execute("select pg_advisory_unlock(hashtext('baton'))", BOUND).await
}

/// A name holds only a-z, 0-9 and -, so it needs no escaping inside its quotes.
fn create_role(role: &str) -> String {
    format!(
        "begin; set local synchronous_commit = local; \
         create role \"{role}\" login replication in role {INSTANCES}; \
         grant execute on function pg_ls_dir(text, boolean, boolean), \
           pg_stat_file(text, boolean), pg_read_binary_file(text), \
           pg_read_binary_file(text, bigint, bigint, boolean), \
           pg_control_checkpoint() to \"{role}\"; commit"
    )
}
