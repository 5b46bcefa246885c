//! What happens between two looks of whoever monitors: counted where it happens, read by
//! [`crate::monitoring`] alone.

use hickory_proto::op::ResponseCode;
use hickory_server::net::xfer::Protocol;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use wire::clock;

/// Every result that is told apart, and all others.
pub const RESULTS: [&str; 8] =
    ["noerror", "nxdomain", "refused", "servfail", "formerr", "notimp", "badvers", "other"];
/// How questions come.
pub const TRANSPORTS: [&str; 2] = ["udp", "tcp"];

/// The counts of one process.
#[derive(Debug, Default)]
pub struct Tally {
    answers: [[AtomicU64; RESULTS.len()]; TRANSPORTS.len()],
    /// When a voter last gave a zone that is served now, in microseconds of the monotonic clock.
    confirmed: AtomicU64,
    /// Zones that came and are not served.
    refused: AtomicU64,
    /// Whether each voter is followed: the last that was asked of it was answered.
    voters: Mutex<BTreeMap<SocketAddr, bool>>,
}

impl Tally {
    /// A question was answered.
    pub fn answered(&self, protocol: Protocol, code: ResponseCode) {
        let transport = usize::from(protocol != Protocol::Udp);
        let result = match code {
            ResponseCode::NoError => 0,
            ResponseCode::NXDomain => 1,
            ResponseCode::Refused => 2,
            ResponseCode::ServFail => 3,
            ResponseCode::FormErr => 4,
            ResponseCode::NotImp => 5,
            // The same number as BADSIG, which is of another kind of message.
            ResponseCode::BADVERS | ResponseCode::BADSIG => 6,
            ResponseCode::YXDomain
            | ResponseCode::YXRRSet
            | ResponseCode::NXRRSet
            | ResponseCode::NotAuth
            | ResponseCode::NotZone
            | ResponseCode::BADKEY
            | ResponseCode::BADTIME
            | ResponseCode::BADMODE
            | ResponseCode::BADNAME
            | ResponseCode::BADALG
            | ResponseCode::BADTRUNC
            | ResponseCode::BADCOOKIE
            | ResponseCode::Unknown(_) => 7,
        };
        if let Some(count) = self.answers.get(transport).and_then(|counts| counts.get(result)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A header alone was sent, whose result is in its fourth byte.
    pub fn refused_at_sight(&self, protocol: Protocol, header: [u8; 12]) {
        let [_, _, _, flags, ..] = header;
        self.answered(protocol, ResponseCode::from(0, flags & 0x0f));
    }

    /// A voter gave the zone that is served, or one that is served from now on.
    pub fn confirmed(&self) {
        self.confirmed.store(clock::now().0, Ordering::Relaxed);
    }

    /// A zone came that is not served.
    pub fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a voter is followed.
    pub fn follows(&self, voter: SocketAddr, follows: bool) {
        let mut voters = self.voters.lock().unwrap_or_else(PoisonError::into_inner);
        voters.insert(voter, follows);
    }

    /// How many answers of each transport and result.
    pub fn answers(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        TRANSPORTS.into_iter().zip(&self.answers).flat_map(|(transport, counts)| {
            let counts = RESULTS.into_iter().zip(counts);
            counts.map(move |(result, count)| (transport, result, count.load(Ordering::Relaxed)))
        })
    }

    /// When a voter last confirmed what is served; `None`: not in this process.
    pub fn confirmed_at(&self) -> Option<failover::Moment> {
        let at = self.confirmed.load(Ordering::Relaxed);
        (at > 0).then_some(failover::Moment(at))
    }

    /// How many zones came and are not served.
    pub fn refusals(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// The voters, and whether each is followed.
    pub fn voters(&self) -> Vec<(SocketAddr, bool)> {
        let voters = self.voters.lock().unwrap_or_else(PoisonError::into_inner);
        voters.iter().map(|(voter, follows)| (*voter, *follows)).collect()
    }
}
