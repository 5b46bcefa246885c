//! Clients outside: they find the primary by its name, write and read, and note what they are
//! told. What became of a commit they do not ask anybody.

use std::net::IpAddr;
use std::time::Duration;

use super::parts::{Body, Client, ClientState};
use super::{Event, World};
use crate::clock::At;
use crate::host::{Input, Outcome, Statement};
use crate::network::Plane;

/// After this long a client gives up waiting.
const PATIENCE: u64 = 4_000_000;
/// After this long a resolver asks another name server.
const RESOLVING: u64 = 1_000_000;
/// How long those keep an address that keep it whatever its time to live.
const STUBBORN: Duration = Duration::from_mins(30);

/// Who writes and reads, for every service.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Clients that write, each with one commit under way at a time.
    pub writers: u32,
    /// The pause between a client's statements.
    pub every: Duration,
    /// Clients that read.
    pub readers: u32,
    /// The share of clients that keep an address whatever its time to live, in percent.
    pub stubborn: u8,
}

impl Default for Workload {
    fn default() -> Self {
        Self { writers: 2, every: Duration::from_secs(1), readers: 1, stubborn: 0 }
    }
}

impl World {
    pub(crate) fn build_clients(&mut self) {
        let load = self.options.workload.clone();
        for service in 0..u8::try_from(self.services.len()).unwrap_or(0) {
            for number in 0..load.writers + load.readers {
                // One at least goes by the name.
                let stubborn = self.dice.roll(100) < u64::from(load.stubborn) && number > 0;
                let index = u16::try_from(self.clients.len()).unwrap_or(u16::MAX);
                self.clients.push(Client {
                    service,
                    writes: number < load.writers,
                    stubborn,
                    session: 0,
                    address: None,
                    state: ClientState::Idle,
                    host: None,
                    began: At(0),
                });
                let first = self.now.after(2_000_000 + self.dice.roll(1_000_000));
                self.queue.push(first, Event::Turn { client: index });
            }
        }
    }

    fn rest(&mut self) -> u64 {
        let every = u64::try_from(self.options.workload.every.as_micros()).unwrap_or(1_000_000);
        every / 2 + self.dice.roll(every + 1)
    }

    /// A client's next statement begins.
    pub(crate) fn client_turn(&mut self, index: u16) {
        let now = self.now;
        let client = &mut self.clients[usize::from(index)];
        if client.state != ClientState::Idle {
            return;
        }
        client.session += 1;
        client.began = now;
        if let Some((address, until)) = client.address
            && now < until
        {
            self.connect(index, address);
            return;
        }
        client.state = ClientState::Resolving;
        let session = client.session;
        let servers = self.servers.len() as u64;
        if servers == 0 {
            return;
        }
        let server = u8::try_from(self.dice.roll(servers)).unwrap_or(0);
        let (from, to) = (self.clients_place(), self.servers[usize::from(server)].place);
        self.send(Plane::Dns, from, to, Body::Resolve { server, client: index, session });
        self.queue.push(now.after(RESOLVING), Event::Late { client: index, session });
    }

    pub(crate) fn resolved(&mut self, index: u16, session: u64, address: Option<IpAddr>, ttl: u32) {
        let client = &mut self.clients[usize::from(index)];
        if client.session != session || client.state != ClientState::Resolving {
            return;
        }
        // Without an answer the resolver goes on to another server when its patience ends.
        let Some(address) = address else { return };
        let keep = if client.stubborn { STUBBORN } else { Duration::from_secs(u64::from(ttl)) };
        client.address = Some((address, self.now.plus(keep)));
        self.connect(index, address);
    }

    fn connect(&mut self, index: u16, address: IpAddr) {
        let Some(host) = self.addresses.get(&address).copied() else { return };
        let commit = self.next_commit;
        let client = &mut self.clients[usize::from(index)];
        client.state = ClientState::Waiting;
        client.host = Some(host);
        let session = client.session;
        let statement = if client.writes {
            self.next_commit += 1;
            Statement::Write { commit }
        } else {
            Statement::Read
        };
        let (from, to) = (self.clients_place(), self.machines[usize::from(host)].place);
        let body = Body::Statement { host, client: index, session, statement };
        self.send(Plane::User, from, to, body);
        self.queue.push(self.now.after(PATIENCE), Event::Late { client: index, session });
    }

    pub(crate) fn statement_arrives(
        &mut self,
        host: u8,
        client: u16,
        session: u64,
        statement: Statement,
    ) {
        if self.machines[usize::from(host)].on {
            let client = u64::from(client) << 40 | session;
            self.host_input(host, Input::Client { client, statement });
        }
    }

    /// `PostgreSQL` tells a client something: from here on it may be known.
    pub(crate) fn client_told(&mut self, host: u8, client: u64, outcome: Outcome) {
        self.oracle.told(host, outcome, &self.machines, self.now);
        let index = u16::try_from(client >> 40).unwrap_or(u16::MAX);
        if usize::from(index) >= self.clients.len() {
            return;
        }
        let session = client & ((1 << 40) - 1);
        let (from, to) = (self.machines[usize::from(host)].place, self.clients_place());
        self.send(Plane::User, from, to, Body::Outcome { client: index, session, outcome });
    }

    pub(crate) fn outcome(&mut self, index: u16, session: u64, outcome: Outcome) {
        let pause = self.rest();
        let client = &mut self.clients[usize::from(index)];
        if client.session != session || client.state != ClientState::Waiting {
            return;
        }
        client.state = ClientState::Idle;
        let mut next = pause;
        match outcome {
            Outcome::Acknowledged { .. } => self.oracle.client_acknowledged(client.began, self.now),
            Outcome::Seen { .. } => self.oracle.client_read(client.began, self.now),
            Outcome::Refused | Outcome::Lost => {
                if !client.stubborn {
                    client.address = None;
                }
                next = pause.min(200_000);
            }
        }
        self.queue.push(self.now.after(next), Event::Turn { client: index });
    }

    /// A client's patience ends: what became of its commit is unknown.
    pub(crate) fn client_late(&mut self, index: u16, session: u64) {
        let pause = self.rest();
        let client = &mut self.clients[usize::from(index)];
        if client.session != session || client.state == ClientState::Idle {
            return;
        }
        let waited = client.state == ClientState::Waiting;
        client.state = ClientState::Idle;
        if !client.stubborn {
            client.address = None;
        }
        let host = client.host.take();
        if let (true, Some(host)) = (waited, host) {
            self.coverage.hit("client: unknown outcome");
            let (from, to) = (self.clients_place(), self.machines[usize::from(host)].place);
            let body =
                Body::Statement { host, client: index, session, statement: Statement::Hangup };
            self.send(Plane::User, from, to, body);
        }
        let next = self.now.after(if waited { pause.min(200_000) } else { 1 });
        self.queue.push(next, Event::Turn { client: index });
    }
}
