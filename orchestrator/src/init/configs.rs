//! The configuration files: every path relative to the file's own folder, so that the folder can
//! be carried anywhere.

use std::fmt::Write as _;

use failover::cluster::Voter;
use failover::ids::{InstanceId, ServiceId, VoterId};
use failover::topology::{Instance, NameServer, Topology};
use wire::config::duration;

use crate::topology::Declared;

/// A text as TOML writes it.
fn quoted(text: &(impl ToString + ?Sized)) -> String {
    toml::Value::String(text.to_string()).to_string()
}

fn voters(declared: &Declared) -> String {
    let addresses: Vec<_> = declared.voters.values().map(|voter| quoted(&voter.address)).collect();
    format!("voters = [{}]", addresses.join(", "))
}

fn tls(stem: &str) -> String {
    format!("[tls]\nca = \"ca.crt\"\ncertificate = \"{stem}.crt\"\nkey = \"{stem}.key\"\n")
}

fn head(cluster: &str, what: &str) -> String {
    format!(
        "# {what}. Relative paths are taken from this file's folder.\ncluster = {}\n",
        quoted(cluster)
    )
}

pub(super) fn operator(declared: &Declared) -> String {
    format!(
        "{}{}\ntopology = \"../topology.toml\"\n\n{}",
        head(&declared.topology.cluster, "What `baton` needs to ask the cluster"),
        voters(declared),
        tls("operator")
    )
}

pub(super) fn probe(declared: &Declared) -> String {
    format!(
        "{}{}\ntopology = \"topology.toml\"\n\n{}",
        head(&declared.topology.cluster, "What the probe writer needs to find its services"),
        voters(declared),
        tls("probe")
    )
}

/// A person's folder goes where they are: the topology file does not.
pub(super) fn person(declared: &Declared) -> String {
    format!(
        "{}{}\n{}",
        head(&declared.topology.cluster, "What `baton` needs to ask the cluster"),
        voters(declared),
        tls("operator")
    )
}

/// What nobody can guess: commented, and the same in every voter's file.
const EXAMPLES: &str = r#"
# Health and metrics over plain HTTP, for whoever reaches the port: names, roles, numbers.
# [monitoring]
# listen = "127.0.0.1:7480"

# Whom baton itself tells what is wrong. Without a channel no alert is raised: give what is
# critical two ways, the same in every voter's file; `baton alerts test` sees that it arrives.
# [[channel]]
# name = "pager"
# kind = "pagerduty"                        # webhook, slack, pagerduty, alertmanager, smtp
# url = "https://pager.example.org/v2/enqueue"
# secret_file = "secrets/pagerduty"         # the routing key, alone in a file of mode 0600
# least = "critical"                        # or "warning", which is everything
# [[channel]]
# name = "mail"
# kind = "smtp"
# url = "smtp+starttls://mail.example.org"  # or smtps://
# user = "baton"
# secret_file = "secrets/mail"
# from = "baton@example.org"
# to = ["on-call@example.org"]

# Changes of primary as traces, for a collector of OpenTelemetry (OTLP over HTTP, JSON).
# [traces]
# url = "http://127.0.0.1:4318/v1/traces"

# How much of the promised time each service was there, on the page: from the journals of probe
# writers, files or folders, that lie on this machine or are copied to it.
# [sla]
# journal = ["/var/lib/baton/probe/journal-clinic"]
"#;

pub(super) fn orchestrator(
    topology: &Topology,
    id: VoterId,
    voter: &Voter,
    joins: bool,
    group: &[(VoterId, Voter, bool)],
) -> String {
    let mut text = head(&topology.cluster, "One voter of the orchestrator");
    let election = duration::format(topology.timing.election_timeout);
    let _ = write!(
        text,
        "name = {}\nid = {id}\nsite = {}\nlisten = {}\ndata = \"data\"\n\
         # true for a voter that is added to a group that already exists\njoin = {joins}\n\n\
         {}\n[raft]\nelection_timeout = {}\n",
        quoted(&voter.name),
        quoted(&voter.site),
        quoted(&voter.address),
        tls("tls"),
        quoted(&election),
    );
    text.push_str(
        "\n# The page for browsers that show no certificate: without TLS, names and numbers only.\n\
         # [page]\n# listen = \"127.0.0.1:7490\"\n",
    );
    text.push_str(EXAMPLES);
    text.push_str("\n# The group as it begins, the same in every voter's file.\n");
    for (id, voter, _) in group {
        let _ = write!(
            text,
            "[[voter]]\nid = {id}\nname = {}\nsite = {}\naddress = {}\n\n",
            quoted(&voter.name),
            quoted(&voter.site),
            quoted(&voter.address),
        );
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

pub(super) fn name_server(declared: &Declared, name: &str, server: &NameServer) -> String {
    format!(
        "{}name = {}\nsite = {}\nlisten = [{}]\ndata = \"data\"\n{}\n\n{}",
        head(&declared.topology.cluster, "One authoritative name server"),
        quoted(name),
        quoted(&server.site),
        quoted(&server.address),
        voters(declared),
        tls("tls")
    )
}

pub(super) fn agent(
    declared: &Declared,
    service: &ServiceId,
    id: &InstanceId,
    instance: &Instance,
) -> String {
    format!(
        "{}service = {}\ninstance = {}\nsite = {}\nlisten = {}\ndata = \"pgdata\"\nrun = \"run\"\n\
         {}\n\n[postgres]\n# bin = \"/usr/lib/postgresql/15/bin\"   # found by itself when absent\n\
         listen = {}\n# The system user PostgreSQL runs as when the agent is root.\n\
         user = \"postgres\"\n\n[postgres.settings]\n# shared_buffers = \"4GB\"\n\n{}",
        head(&declared.topology.cluster, "The agent beside one PostgreSQL instance"),
        quoted(service),
        quoted(id),
        quoted(&instance.site),
        quoted(&instance.agent),
        voters(declared),
        quoted(&instance.postgres),
        tls("tls")
    )
}
