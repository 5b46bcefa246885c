//! What the targets share. A target is one decoder of bytes from outside together with what acts
//! on what it read: `targets/NAME.rs` hands the bytes to the function of that name here.
//!
//! Where only well-formed values reach the code worth testing (Raft behind the envelope, the law
//! behind a report), there are two targets: one feeds text to the decoder, the other draws values
//! from the bytes ([`draw`]) and so spends its time behind it.

mod configs;
mod draw;
mod evidence;
mod names;
mod place;
mod stored;
mod voter;

pub use configs::{config, scenario};
pub use evidence::{agent_report, assignment, evidence};
pub use names::{dns_packet, zone_file};
pub use stored::{log_entry, snapshot};
pub use voter::{peer_message, peer_sequence};

use agent::{guard, history, server_log};

/// What the agent reads that PostgreSQL wrote: its log, line by line, and history files.
pub fn server_log(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for line in text.lines() {
        let _line = server_log::read_line(line);
    }
    let switches = history::parse(&text);
    assert!(switches.len() <= text.lines().count(), "a switch that no line tells");
    if let Some((timeline, start)) = history::parse_segment(&text, 16 << 20) {
        let name = history::segment_name(timeline, start, 16 << 20);
        assert_eq!(history::parse_segment(&name, 16 << 20), Some((timeline, start)));
    }
}

/// The two directions of the guard's socket: what is read is said again in the same words.
pub fn guard_protocol(bytes: &[u8]) {
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Ok(order) = serde_json::from_slice::<guard::Order>(line) {
            let again = serde_json::to_vec(&order).expect("an order is JSON");
            assert_eq!(serde_json::from_slice::<guard::Order>(&again).ok(), Some(order.clone()));
            if let guard::Order::Refresh(Some(until)) = order {
                let deadline = failover::Moment(until);
                let left = deadline.since(failover::Moment(1));
                assert!(left <= std::time::Duration::from_micros(until), "more than was given");
            }
        }
        if let Ok(word) = serde_json::from_slice::<guard::Word>(line) {
            let again = serde_json::to_vec(&word).expect("a word is JSON");
            assert_eq!(serde_json::from_slice::<guard::Word>(&again).ok(), Some(word));
        }
    }
}

/// Whom a certificate speaks for.
pub fn certificate(bytes: &[u8]) {
    for peer in [
        wire::role::Peer::of_certificate(bytes),
        std::str::from_utf8(bytes).ok().and_then(wire::role::Peer::parse),
    ]
    .into_iter()
    .flatten()
    {
        assert_eq!(wire::role::Peer::parse(&peer.to_string()), Some(peer));
    }
}
