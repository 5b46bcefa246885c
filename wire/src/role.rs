//! Who a certificate speaks for, as its URI says: `baton://CLUSTER/KIND/NAME`.
//!
//! A person's says in which role, too: `baton://CLUSTER/operator/NAME/ROLE`. Without one it is that
//! of an admin, as it was before there were roles. A program that knows of no roles takes what has
//! one for a stranger's.

use std::fmt::{self, Write as _};
use std::net::SocketAddr;

use failover::Timestamp;
use failover::people::Role;
use ring::digest::{SHA256, digest};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What the holder of a certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A voter of the orchestrator.
    Voter,
    /// The agent beside one PostgreSQL instance.
    Agent,
    /// A name server.
    Dns,
    /// A person, or what works for one.
    Operator(Role),
}

impl Kind {
    /// Every kind: for what any certificate of the cluster may ask.
    pub const ALL: &'static [Self] = &[
        Self::Voter,
        Self::Agent,
        Self::Dns,
        Self::Operator(Role::Viewer),
        Self::Operator(Role::Operator),
        Self::Operator(Role::Approver),
        Self::Operator(Role::Admin),
    ];

    /// The word in the URI.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Voter => "voter",
            Self::Agent => "agent",
            Self::Dns => "dns",
            Self::Operator(_) => "operator",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        match word {
            "voter" => Some(Self::Voter),
            "agent" => Some(Self::Agent),
            "dns" => Some(Self::Dns),
            "operator" => Some(Self::Operator(Role::Admin)),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// When a peer's certificate ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateEnd(pub Timestamp);

impl CertificateEnd {
    /// Reads it out of a certificate (DER); the beginning of time where that cannot be read.
    pub fn of_certificate(der: &[u8]) -> Self {
        let read = X509Certificate::from_der(der).ok();
        let end = read.map_or(0, |(_, certificate)| certificate.validity().not_after.timestamp());
        Self(Timestamp(end.saturating_mul(1_000)))
    }

    /// For how many seconds more it is good; negative: it has ended.
    pub fn left(self, wall: Timestamp) -> i64 {
        self.0.0.saturating_sub(wall.0) / 1_000
    }
}

/// The holder of a certificate. Shown as its URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The cluster it belongs to; another cluster's peers are strangers.
    pub cluster: String,
    /// What it is.
    pub kind: Kind,
    /// Its name among its kind, for example the instance's name for an agent.
    pub name: String,
}

impl Peer {
    /// Reads `baton://CLUSTER/KIND/NAME`, with `/ROLE` behind a person's; `None` for every other
    /// text, for unknown kinds and unknown roles.
    pub fn parse(uri: &str) -> Option<Self> {
        let mut parts = uri.strip_prefix("baton://")?.split('/');
        let mut peer = Self {
            cluster: word(parts.next()?)?,
            kind: Kind::parse(parts.next()?)?,
            name: word(parts.next()?)?,
        };
        if let Some(role) = parts.next() {
            let Kind::Operator(said) = &mut peer.kind else { return None };
            *said = Role::named(role)?;
        }
        parts.next().is_none().then_some(peer)
    }

    /// In which role a person asks; `None`: it is no person.
    pub const fn role(&self) -> Option<Role> {
        match self.kind {
            Kind::Operator(role) => Some(role),
            Kind::Voter | Kind::Agent | Kind::Dns => None,
        }
    }

    /// Reads the peer out of a certificate (DER). `None` unless exactly one URI of our scheme is
    /// there: with two, every reader could pick a different one.
    pub fn of_certificate(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let names = certificate.subject_alternative_name().ok().flatten()?;
        let mut ours = names.value.general_names.iter().filter_map(|name| {
            if let GeneralName::URI(uri) = name {
                uri.starts_with("baton:").then_some(*uri)
            } else {
                None
            }
        });
        let uri = ours.next()?;
        if ours.next().is_some() { None } else { Self::parse(uri) }
    }
}

/// What a peer showed when it connected: for the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// SHA-256 of its certificate (DER), in hexadecimal.
    pub fingerprint: String,
    /// Where it connected from.
    pub remote: SocketAddr,
    /// When its certificate ends.
    pub until: CertificateEnd,
}

impl Shown {
    /// Of a certificate (DER).
    pub fn of(der: &[u8], remote: SocketAddr) -> Self {
        let mut fingerprint = String::with_capacity(64);
        for byte in digest(&SHA256, der).as_ref() {
            // Writing to a text cannot fail.
            let _ = write!(fingerprint, "{byte:02x}");
        }
        Self { fingerprint, remote, until: CertificateEnd::of_certificate(der) }
    }
}

fn word(text: &str) -> Option<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    ((1..=63).contains(&text.len()) && text.bytes().all(plain)).then(|| text.to_owned())
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "baton://{}/{}/{}", self.cluster, self.kind, self.name)?;
        if let Kind::Operator(role) = self.kind {
            write!(f, "/{role}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_reads_what_it_writes() {
        for kind in Kind::ALL.iter().copied() {
            let peer = Peer { cluster: "clinic-eu".into(), kind, name: "arezzo-1".into() };
            assert_eq!(Peer::parse(&peer.to_string()), Some(peer));
        }
    }

    #[test]
    fn a_certificate_of_before_there_were_roles_is_an_admin_s() {
        let peer = Peer::parse("baton://clinic-eu/operator/alice").expect("a person");
        assert_eq!(peer.role(), Some(Role::Admin));
        let viewer = Peer::parse("baton://clinic-eu/operator/alice/viewer").expect("a person");
        assert_eq!((viewer.role(), viewer.name), (Some(Role::Viewer), peer.name));
    }

    #[test]
    fn other_uris_are_nobody() {
        for uri in [
            "",
            "baton://",
            "baton://c/voter",
            "baton://c/voter/",
            "baton:///voter/a",
            "baton://c/probe/probe",
            "baton://c/voter/a/b",
            "baton://c/voter/a/admin",
            "baton://c/operator/a/",
            "baton://c/operator/a/root",
            "baton://c/operator/a/Admin",
            "baton://c/operator/a/admin/x",
            "baton://c/admin/a",
            "baton://c/voter/a b",
            "https://c/voter/a",
            "baton://c/Voter/a",
        ] {
            assert_eq!(Peer::parse(uri), None, "{uri}");
        }
    }
}
