//! Asking one authoritative name server over UDP, as `dig` would.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result};
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, RecordType};

/// A name server and the name to ask it for.
#[derive(Debug)]
pub struct Watched {
    /// The server's site.
    pub site: String,
    socket: UdpSocket,
    name: Name,
    turn: u16,
}

impl Watched {
    /// Asks `server` of `site` for the addresses of `name`; call it where the server can be
    /// reached from.
    ///
    /// # Errors
    /// When the name is none or no socket can be had.
    pub fn new(site: &str, server: SocketAddr, name: &str) -> Result<Self> {
        let name = Name::from_str(name).with_context(|| format!("`{name}` is no name"))?;
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        // Connected, so that a refusal is known at once.
        socket.connect(server)?;
        Ok(Self { site: site.into(), socket, name, turn: 0 })
    }

    /// The first address that it gives now; `None` when it does not answer within `bound`.
    pub fn ask(&mut self, bound: Duration) -> Option<Ipv4Addr> {
        self.turn = self.turn.wrapping_add(1);
        let mut question = Message::new(self.turn, MessageType::Query, OpCode::Query);
        question.add_query(Query::query(self.name.clone(), RecordType::A));
        self.socket.set_read_timeout(Some(bound)).ok()?;
        self.socket.send(&question.to_vec().ok()?).ok()?;
        let mut buffer = [0_u8; 1_500];
        // Late answers to earlier questions may still arrive: skip them.
        for _ in 0..8 {
            let length = self.socket.recv(&mut buffer).ok()?;
            let Ok(answer) = Message::from_vec(buffer.get(..length)?) else { continue };
            if answer.id == self.turn {
                let address = |data: &RData| {
                    if let RData::A(address) = data { Some(address.0) } else { None }
                };
                return answer.answers.iter().find_map(|record| address(&record.data));
            }
        }
        None
    }
}
