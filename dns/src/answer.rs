//! Zone and question to answer: pure, no clock, no socket, no randomness.
//!
//! A [`Zone`] is compiled once, when it comes, into records by name, so that an answer is one
//! look-up. Names that exist only because something exists below them (`_tcp.clinic`, RFC 8020)
//! are kept as names without records: that is the whole difference between "no such name" and "no
//! such record".
//!
//! Absent on purpose: wildcards, delegations and DNSSEC. The zone is a handful of names.

use failover::zone::{Data, Zone};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, LowerName, Name, RData, Record, RecordType};
use hickory_proto::{ProtoError, op::ResponseCode};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// How many aliases are followed before a chain counts as a loop.
const CHAIN: usize = 8;
/// How often a secondary asks for the serial by itself, in seconds: a NOTIFY may be lost.
const REFRESH: i32 = 30;
/// How soon it asks again when nobody answered, in seconds.
const RETRY: i32 = 5;
/// How long it may serve what it has with nobody left to ask, in seconds: 14 days (I-31).
const EXPIRE: i32 = 1_209_600;

/// Why a zone cannot be served.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ZoneError {
    /// It was never filled in.
    #[error("the zone is empty: version {0}, origin `{1}`")]
    Empty(u32, String),
    /// A name is not one that DNS can carry.
    #[error("`{name}` cannot stand in a zone: {reason}")]
    Name {
        /// The name, as the zone has it.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A text is longer than the 255 bytes of one TXT string.
    #[error("the text of `{0}` is longer than 255 bytes")]
    Text(String),
}

/// A zone ready to be served; never changed, only replaced.
#[derive(Debug)]
pub struct Served {
    zone: Zone,
    origin: LowerName,
    soa: Record,
    /// Every name of the zone. An empty list: the name exists, nothing stands at it.
    names: BTreeMap<LowerName, Vec<Record>>,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'q> {
    /// The name in the case it was asked in: the answer repeats it.
    pub name: &'q Name,
    /// The type.
    pub kind: RecordType,
    /// The class.
    pub class: DNSClass,
    /// Any number: which record of several comes first, so that clients that take the first
    /// spread over the standbys.
    pub turn: u16,
}

/// What is answered.
#[derive(Debug, Default, PartialEq)]
pub struct Answer<'z> {
    /// The result.
    pub code: ResponseCode,
    /// Whether we are the authority on the name (AA).
    pub authoritative: bool,
    /// The answer section, in order: aliases first.
    pub answers: Vec<Record>,
    /// The authority section: the SOA when there is nothing to answer.
    pub authorities: Vec<&'z Record>,
    /// The additional section: addresses of the targets. May be left out.
    pub additionals: Vec<&'z Record>,
}

impl Answer<'_> {
    /// An answer of a result alone.
    pub fn of(code: ResponseCode) -> Self {
        Self { code, ..Self::default() }
    }
}

impl Served {
    /// Compiles a zone.
    ///
    /// # Errors
    /// [`ZoneError`] when it is one that nobody can serve.
    pub fn new(zone: Zone) -> Result<Self, ZoneError> {
        let apex = origin_of(&zone)?;
        let soa = soa(&zone, &apex)?;
        let mut names = BTreeMap::from([(LowerName::new(&apex), vec![soa.clone()])]);
        for label in &zone.name_servers {
            let server = within(label.as_str(), &apex)?;
            let record = Record::from_rdata(apex.clone(), zone.ttl_seconds, RData::NS(NS(server)));
            names.entry(LowerName::new(&apex)).or_default().push(record);
        }
        for (relative, data) in &zone.records {
            let owner = within(relative, &apex)?;
            let records = records(&owner, relative, data, &zone, &apex)?;
            names.entry(LowerName::new(&owner)).or_default().extend(records);
        }
        let origin = LowerName::new(&apex);
        let above: Vec<_> = names.keys().flat_map(|name| ancestors(name, &origin)).collect();
        for name in above {
            names.entry(name).or_default();
        }
        Ok(Self { zone, origin, soa, names })
    }

    /// The zone as it came.
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// The version: the SOA's serial.
    pub fn version(&self) -> u32 {
        self.zone.version
    }

    /// The zone's name.
    pub fn origin(&self) -> &LowerName {
        &self.origin
    }

    /// The start of authority.
    pub fn soa(&self) -> &Record {
        &self.soa
    }

    /// Every record but the SOA.
    pub fn records(&self) -> impl Iterator<Item = &Record> + Send {
        self.names.values().flatten().filter(|record| record.record_type() != RecordType::SOA)
    }

    fn addresses(&self, name: &Name) -> impl Iterator<Item = &Record> {
        self.names
            .get(&LowerName::new(name))
            .into_iter()
            .flatten()
            .filter(|record| matches!(record.record_type(), RecordType::A | RecordType::AAAA))
    }
}

/// The answer to a question. Total: a chain of aliases without end gets SERVFAIL.
pub fn answer<'z>(served: &'z Served, question: &Question<'_>) -> Answer<'z> {
    let mut name = LowerName::new(question.name);
    if question.class != DNSClass::IN || !served.origin.zone_of(&name) {
        return Answer::of(ResponseCode::Refused);
    }
    let mut answer = Answer { authoritative: true, ..Answer::default() };
    let mut owner = question.name.clone();
    for _ in 0..CHAIN {
        let Some(records) = served.names.get(&name) else {
            answer.code = ResponseCode::NXDomain;
            answer.authorities.push(&served.soa);
            return answer;
        };
        // One set of records instead of all of them (RFC 8482, section 4.1): `ANY` is worth
        // nothing to those who should ask and much to those who amplify.
        let any = records.first().filter(|_| question.kind == RecordType::ANY);
        let kind = any.map_or(question.kind, Record::record_type);
        let mut found: Vec<_> = records.iter().filter(|r| r.record_type() == kind).collect();
        if found.is_empty()
            && let Some((alias, target)) = records.iter().find_map(alias)
        {
            answer.answers.push(renamed(alias, &owner));
            name = LowerName::new(target);
            owner = target.clone();
            continue;
        }
        if found.is_empty() {
            answer.authorities.push(&served.soa);
        } else {
            let turn = usize::from(question.turn) % found.len();
            found.rotate_left(turn);
        }
        for record in found {
            answer.answers.push(renamed(record, &owner));
            answer.additionals.extend(target(record).into_iter().flat_map(|t| served.addresses(t)));
        }
        return answer;
    }
    Answer::of(ResponseCode::ServFail)
}

/// The record under the name as it was asked for.
fn renamed(record: &Record, owner: &Name) -> Record {
    let mut record = record.clone();
    record.name = owner.clone();
    record
}

fn alias(record: &Record) -> Option<(&Record, &Name)> {
    if let RData::CNAME(CNAME(target)) = &record.data { Some((record, target)) } else { None }
}

/// The name whose addresses the asker will want next.
fn target(record: &Record) -> Option<&Name> {
    if let RData::NS(NS(name)) = &record.data {
        Some(name)
    } else if let RData::SRV(SRV { target, .. }) = &record.data {
        Some(target)
    } else {
        None
    }
}

fn origin_of(zone: &Zone) -> Result<Name, ZoneError> {
    let apex = absolute(&zone.origin)?;
    if zone.version == 0 || apex.is_root() {
        return Err(ZoneError::Empty(zone.version, zone.origin.clone()));
    }
    Ok(apex)
}

fn soa(zone: &Zone, apex: &Name) -> Result<Record, ZoneError> {
    let primary = match zone.name_servers.first() {
        Some(label) => within(label.as_str(), apex)?,
        None => apex.clone(),
    };
    let contact = absolute(&zone.contact)?;
    // Both ends of RFC 2308's minimum are the same number, so one record serves in every section.
    let minimum = zone.ttl_seconds;
    let data = SOA::new(primary, contact, zone.version, REFRESH, RETRY, EXPIRE, minimum);
    Ok(Record::from_rdata(apex.clone(), zone.ttl_seconds, RData::SOA(data)))
}

fn records(
    owner: &Name,
    relative: &str,
    data: &[Data],
    zone: &Zone,
    apex: &Name,
) -> Result<Vec<Record>, ZoneError> {
    let distinct: BTreeSet<&Data> = data.iter().collect();
    // An alias cannot stand beside other data (RFC 1034, section 3.6.2), so not at the apex
    // either: the data stays.
    let alone = !relative.is_empty() && distinct.iter().all(|data| matches!(data, Data::Alias(_)));
    let mut records = Vec::with_capacity(distinct.len());
    for data in distinct {
        let data = match data {
            Data::Address(IpAddr::V4(address)) => RData::A(A(*address)),
            Data::Address(IpAddr::V6(address)) => RData::AAAA(AAAA(*address)),
            Data::Alias(_) if !alone || !records.is_empty() => continue,
            Data::Alias(target) => RData::CNAME(CNAME(within(target, apex)?)),
            Data::Service { port, target } => {
                RData::SRV(SRV::new(0, 0, *port, within(target, apex)?))
            }
            Data::Text(text) if text.len() > 255 => return Err(ZoneError::Text(relative.into())),
            Data::Text(text) => RData::TXT(TXT::new(vec![text.clone()])),
        };
        records.push(Record::from_rdata(owner.clone(), zone.ttl_seconds, data));
    }
    Ok(records)
}

/// A name relative to the apex; the empty one is the apex itself.
fn within(relative: &str, apex: &Name) -> Result<Name, ZoneError> {
    if relative.is_empty() {
        return Ok(apex.clone());
    }
    let bad =
        |error: ProtoError| ZoneError::Name { name: relative.into(), reason: error.to_string() };
    let name = Name::from_ascii(relative).map_err(bad)?;
    if name.is_fqdn() {
        let reason = "it ends with a dot, and is to be relative to the zone".into();
        return Err(ZoneError::Name { name: relative.into(), reason });
    }
    name.to_lowercase().append_domain(apex).map_err(bad)
}

fn absolute(text: &str) -> Result<Name, ZoneError> {
    let bad = |error: ProtoError| ZoneError::Name { name: text.into(), reason: error.to_string() };
    let mut name = Name::from_ascii(text).map_err(bad)?.to_lowercase();
    name.set_fqdn(true);
    Ok(name)
}

/// The names strictly between `name` and the origin.
fn ancestors(name: &LowerName, origin: &LowerName) -> Vec<LowerName> {
    let steps = name.num_labels().saturating_sub(origin.num_labels()).saturating_sub(1);
    let mut above = Vec::with_capacity(usize::from(steps));
    let mut name = name.clone();
    for _ in 0..steps {
        name = name.base_name();
        above.push(name.clone());
    }
    above
}
