//! The systemd unit files.
//!
//! The three daemons come back within 100 ms however often they die, and see as little of the
//! machine as their work allows. The agent's unit differs in what it must not do: stopping it must
//! leave PostgreSQL and the guard alone, and the kernel killing one backend must not stop the rest.

use std::path::Path;

/// What a unit file needs to know.
pub(super) struct Places<'a> {
    pub(super) cluster: &'a str,
    pub(super) site: String,
    pub(super) home: &'a Path,
    pub(super) programs: &'a Path,
}

/// Restrictions that suit all three.
const HARDENING: &str = "\
NoNewPrivileges=true
ProtectSystem=strict
ProtectHome=true
PrivateTmp=true
ProtectKernelTunables=true
ProtectKernelModules=true
ProtectKernelLogs=true
ProtectControlGroups=true
ProtectClock=true
ProtectHostname=true
RestrictNamespaces=true
RestrictRealtime=true
RestrictSUIDSGID=true
LockPersonality=true
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
SystemCallArchitectures=native
UMask=0077
";

/// What suits the two that run no foreign program. (PostgreSQL compiles queries at run time.)
const OWN_CODE_ONLY: &str = "\
PrivateDevices=true
MemoryDenyWriteExecute=true
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
CapabilityBoundingSet=
";

fn unit(what: &str, places: &Places<'_>) -> String {
    format!(
        "[Unit]\nDescription=baton: {what} ({}, site {})\n\
         Wants=network-online.target\nAfter=network-online.target\n\
         # Never give up restarting.\nStartLimitIntervalSec=0\n\n[Service]\nType=exec\n",
        places.cluster, places.site
    )
}

fn run(places: &Places<'_>, program: &str, folder: &str, config: &str) -> String {
    let folder = places.home.join(folder);
    format!(
        "ExecStart={} --config {}\nWorkingDirectory={}\nReadWritePaths={}\n\
         Restart=always\nRestartSec=100ms\n",
        places.programs.join(program).display(),
        folder.join(config).display(),
        folder.display(),
        folder.display(),
    )
}

const INSTALL: &str = "\n[Install]\nWantedBy=multi-user.target\n";

pub(super) fn orchestrator(places: &Places<'_>) -> String {
    format!(
        "{}User=baton\nGroup=baton\n{}LimitNOFILE=65536\nOOMScoreAdjust=-800\nTimeoutStopSec=10s\n\
         {HARDENING}{OWN_CODE_ONLY}{INSTALL}",
        unit("voter of the orchestrator", places),
        run(places, "baton-orchestrator", "orchestrator", "orchestrator.toml"),
    )
}

/// The probe writer of one service, for `baton sla`. It needs nothing but name servers and
/// PostgreSQL, and may be away for a moment: what it did not measure is told.
pub(super) fn probe(places: &Places<'_>, service: &str) -> String {
    let folder = places.home.join("probe");
    format!(
        "{}User=baton\nGroup=baton\n\
         ExecStart={} --config {} probe {service} --every 1s --folder {}\n\
         WorkingDirectory={}\nReadWritePaths={}\nRestart=always\nRestartSec=1s\n\
         # Ends by SIGINT as by SIGTERM: the journal says how far it came.\nTimeoutStopSec=10s\n\
         {HARDENING}{OWN_CODE_ONLY}{INSTALL}",
        unit(&format!("probe writer of {service}"), places),
        places.programs.join("baton").display(),
        folder.join("baton.toml").display(),
        folder.join(format!("journal-{service}")).display(),
        folder.display(),
        folder.display(),
    )
}

pub(super) fn name_server(places: &Places<'_>) -> String {
    let own = OWN_CODE_ONLY.replace(
        "CapabilityBoundingSet=\n",
        "# Port 53.\nCapabilityBoundingSet=CAP_NET_BIND_SERVICE\n\
         AmbientCapabilities=CAP_NET_BIND_SERVICE\n",
    );
    format!(
        "{}User=baton\nGroup=baton\n{}LimitNOFILE=65536\nOOMScoreAdjust=-800\nTimeoutStopSec=10s\n\
         {HARDENING}{own}{INSTALL}",
        unit("authoritative name server", places),
        run(places, "baton-dns", "dns", "dns.toml"),
    )
}

pub(super) fn agent(places: &Places<'_>, instance: &str) -> String {
    format!(
        "{}User=postgres\nGroup=postgres\n{}\
         # PostgreSQL and the guard are children: they survive the agent's restart, and the next\n\
         # agent takes them over. To stop PostgreSQL, ask baton.\n\
         KillMode=process\n\
         # One backend killed for memory is PostgreSQL's own affair.\n\
         OOMPolicy=continue\n\
         OOMScoreAdjust=-900\n\
         LimitNOFILE=65536\nLimitCORE=infinity\nTasksMax=infinity\nTimeoutStopSec=10s\n\
         {HARDENING}{INSTALL}",
        unit(&format!("agent of {instance}"), places),
        run(places, "baton-agent", &format!("agent-{instance}"), "agent.toml"),
    )
}
