//! Every way in which something is broken on purpose, and what must be said of it.

use std::time::Duration;

use failover::checks::{Exposure, ExposureKind, Exposures, FloorSettings, RewindReady};
use failover::readiness::Level;
use failover::report::{Down, NameServerAnswer, Observation, Server};
use failover::survey::{Collation, Login, Prepared, Purpose, Software, Survey};
use failover::{Lsn, SystemIdentifier, Timestamp, VoterId};

use crate::support::{at, clinic, id};
use crate::world::{WALL, World, YEAR};

/// One thing broken: the check that must name it, of whom, and how bad it is.
pub(crate) type Broken = (&'static str, Option<&'static str>, Level, fn(&mut World));

fn exposed(kind: ExposureKind, name: &str, detail: &str) -> Exposures {
    let exposure = Exposure { kind, name: name.into(), detail: detail.into() };
    Exposures { named: vec![exposure], ..Exposures::default() }
}

fn fails(to: &str, purpose: Purpose, survey: &mut Survey) {
    let tried = |login: &&mut Login| login.to == id(to) && login.purpose == purpose;
    let login = survey.logins.iter_mut().find(tried).unwrap();
    login.failure = Some("connection refused".into());
}

pub(crate) fn software(survey: &mut Survey) -> &mut Software {
    survey.software.as_mut().unwrap()
}

pub(crate) const BROKEN: &[Broken] = &[
    ("heard", Some("b"), Level::Blocks, |world| {
        world.hear("b", |report, _| report.server = Server::Down(Down::Crashed));
    }),
    ("voters-quorum", None, Level::Blocks, |world| {
        world.voters.seats.get_mut(&VoterId(2)).unwrap().1 = false;
    }),
    ("synchronous-rule", Some("a"), Level::Blocks, |world| {
        let rule = &mut world.now.cluster.services.get_mut(&clinic()).unwrap().rule;
        rule.enforce.required = 0;
        rule.required = 0;
    }),
    ("synchronous-rule", Some("a"), Level::Unknown, |world| {
        world.hear("a", |report, _| report.enforced = None);
    }),
    ("synchronous-rule", Some("c"), Level::Warning, |world| {
        world.hear("a", |report, _| drop(report.streams.pop()));
    }),
    ("durability-floor", Some("a"), Level::Blocks, |world| {
        let role = exposed(ExposureKind::RoleOrDatabase, "role app", "synchronous_commit=off");
        world.hear("a", |report, _| report.checks.exposures = Some(role));
    }),
    ("durability-floor", Some("a"), Level::Blocks, |world| {
        world.hear("a", |report, _| report.checks.exposed = true);
    }),
    ("durability-floor", Some("a"), Level::Unknown, |world| {
        let unseen = vec!["locked".into()];
        let exposures = Some(Exposures { unseen, ..Exposures::default() });
        world.hear("a", |report, _| report.checks.exposures = exposures);
    }),
    ("unlogged-tables", Some("a"), Level::Blocks, |world| {
        let table = exposed(ExposureKind::Unlogged, "clinic.cache", "is not replicated");
        world.hear("a", |report, _| report.checks.exposures = Some(table));
    }),
    ("prepared-transactions", Some("a"), Level::Warning, |world| {
        let prepared = Prepared { count: 2, oldest: Duration::from_hours(3) };
        world.hear("a", |_, survey| survey.prepared = Some(prepared));
    }),
    ("lineage", Some("b"), Level::Blocks, |world| {
        world.hear("b", |report, _| report.system_identifier = Some(SystemIdentifier(8)));
    }),
    ("versions", Some("b"), Level::Warning, |world| {
        world.hear("a", |report, _| report.version = "15.18".into());
        world.hear("b", |report, _| report.version = "15.17".into());
        world.hear("c", |report, _| report.version = "15.18".into());
    }),
    ("replication-login", Some("b"), Level::Blocks, |world| {
        world.hear("c", |_, survey| fails("b", Purpose::Replication, survey));
    }),
    ("replication-login", Some("b"), Level::Warning, |world| {
        world.hear("a", |_, survey| fails("b", Purpose::Replication, survey));
    }),
    ("replication-login", Some("b"), Level::Unknown, |world| {
        world.hear("a", |_, survey| survey.logins.clear());
    }),
    ("rewind-ready", Some("b"), Level::Warning, |world| {
        let ready = RewindReady { hints: true, full_pages: true, granted: false };
        world.hear("b", |report, _| report.checks.rewind = Some(ready));
    }),
    ("rewind-ready", Some("b"), Level::Warning, |world| {
        world.hear("a", |_, survey| fails("b", Purpose::Rewind, survey));
    }),
    ("parameters", Some("b"), Level::Blocks, |world| {
        let floor = FloorSettings { max_connections: 50, ..FloorSettings::default() };
        world.hear("b", |report, _| report.checks.floor = Some(floor));
    }),
    ("slots", Some("b"), Level::Warning, |world| {
        let slot = failover::checks::Slot { name: "left".into(), lost: true, ..<_>::default() };
        world.hear("b", |report, _| report.checks.slots = vec![slot]);
    }),
    ("disk-headroom", Some("b"), Level::Blocks, |world| {
        world.hear("b", |report, _| report.checks.wal_free = Some(1 << 20));
    }),
    ("disk-headroom", Some("b"), Level::Warning, |world| {
        world.hear("b", |report, _| report.checks.wal_free = Some(1 << 30));
    }),
    ("replay", Some("b"), Level::Warning, |world| {
        world.hear("b", |report, _| {
            let position = at(1 << 30);
            report.server = Server::Recovery { position, replayed: Lsn(100), admits: true };
        });
    }),
    ("replay", Some("b"), Level::Warning, |world| {
        world.hear("b", |_, survey| survey.paused = true);
    }),
    ("checksums", Some("b"), Level::Warning, |world| {
        world.hear("b", |report, _| report.checks.checksum_failures = 3);
    }),
    ("extensions", Some("b"), Level::Blocks, |world| {
        world.hear("b", |_, survey| software(survey).extensions[0].available = None);
    }),
    ("extensions", Some("b"), Level::Warning, |world| {
        world.hear("b", |_, survey| {
            software(survey).extensions[0].available = Some("1.5".into());
        });
    }),
    ("extensions", Some("b"), Level::Warning, |world| {
        world.hear("a", |_, survey| software(survey).preloads = "pg_stat_statements".into());
        world.hear("c", |_, survey| software(survey).preloads = "x, pg_stat_statements".into());
    }),
    ("collations", Some("b"), Level::Blocks, |world| {
        let collation = Collation {
            name: "database clinic".into(),
            recorded: "2.36".into(),
            actual: "2.41".into(),
        };
        world.hear("b", |_, survey| software(survey).collations = vec![collation]);
    }),
    ("certificates", Some("b"), Level::Blocks, |world| {
        world.hear("b", |_, survey| survey.certificate_seconds = Some(-1));
    }),
    ("certificates", Some("b"), Level::Warning, |world| {
        world.hear("b", |_, survey| survey.certificate_seconds = Some(5 * 86_400));
    }),
    ("certificates", None, Level::Warning, |world| {
        let server = "ns2".parse().unwrap();
        let told = Observation::Presented { server, certificate_seconds: 86_400 };
        world.now.view.observe(told, world.now.now);
    }),
    ("certificates", None, Level::Blocks, |world| {
        let told =
            Observation::Voter { voter: VoterId(2), wall: WALL, certificate_seconds: -86_400 };
        world.now.view.observe(told, world.now.now);
    }),
    ("clocks", Some("b"), Level::Warning, |world| {
        world.hear("b", |_, survey| survey.wall = Timestamp(WALL.0 - 5_000));
    }),
    ("clocks", None, Level::Warning, |world| {
        let wall = Timestamp(WALL.0 + 5_000);
        let told = Observation::Voter { voter: VoterId(2), wall, certificate_seconds: YEAR };
        world.now.view.observe(told, world.now.now);
        world.now.view.compare_clocks(WALL, world.now.now);
    }),
    ("dns-agreement", None, Level::Warning, |world| {
        let told =
            Observation::Asked { server: "ns2".parse().unwrap(), answer: NameServerAnswer::Silent };
        world.now.view.observe(told, world.now.now);
    }),
    ("dns-agreement", None, Level::Blocks, |world| {
        let writable = vec![(clinic(), vec!["127.0.1.1".parse().unwrap()])];
        let answer = NameServerAnswer::Serves { version: 0, writable, canaries: vec![] };
        let told = Observation::Asked { server: "ns2".parse().unwrap(), answer };
        world.now.view.observe(told, world.now.now);
    }),
];
