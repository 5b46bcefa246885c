//! Whole agents as processes.

use super::voter::Voter;
use super::{World, program};
use agent::processes;
use failover::Role;
use failover::report::Server;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// An agent of its own process; killed when dropped.
pub struct Agent {
    pub child: Child,
    file: PathBuf,
}

impl Agent {
    pub fn start(world: &World, name: &str, voter: &Voter) -> Self {
        let config = world.config(name);
        let folder = world.folder.path().join(name);
        let file = folder.join("agent.toml");
        let watchdog = config
            .watchdog
            .as_ref()
            .map_or_else(String::new, |path| format!("watchdog = \"{}\"", path.display()));
        let monitoring = config.monitoring.map_or_else(String::new, |monitoring| {
            format!("[monitoring]\nlisten = \"{}\"\n", monitoring.listen)
        });
        let text = format!(
            "cluster = \"test\"\nservice = \"clinic\"\ninstance = \"{name}\"\nsite = \"here\"\n\
             listen = \"{}\"\ndata = \"pgdata\"\nrun = \"run\"\nvoters = [\"{}\"]\n{}\n\
             [postgres]\nlisten = \"{}\"\n[postgres.settings]\nshared_buffers = \"16MB\"\n\
             [tls]\nca = \"ca.crt\"\ncertificate = \"tls.crt\"\nkey = \"tls.key\"\n{}",
            config.listen, voter.address, watchdog, config.postgres.listen, monitoring
        );
        std::fs::write(&file, text).unwrap();
        Self { child: Self::spawn(&file), file }
    }

    pub fn spawn(file: &PathBuf) -> Child {
        Command::new(program()).arg("--config").arg(file).stdin(Stdio::null()).spawn().unwrap()
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn restart(&mut self) {
        self.child = Self::spawn(&self.file);
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn primary() -> Role {
    Role::Primary { initialise: true, prepare: false }
}

pub fn writable(voter: &Voter) -> Option<bool> {
    if let Server::Writable { admits, .. } = voter.last()?.server { Some(admits) } else { None }
}

pub fn postmaster_of(world: &World, name: &str) -> Option<u32> {
    let path = world.folder.path().join(name).join("pgdata/postmaster.pid");
    let pid = std::fs::read_to_string(path).ok()?.lines().next()?.trim().parse().ok()?;
    processes::is_alive(pid).then_some(pid)
}

pub fn guard_of(world: &World, name: &str) -> u32 {
    processes::stat(postmaster_of(world, name).unwrap()).unwrap().parent
}
