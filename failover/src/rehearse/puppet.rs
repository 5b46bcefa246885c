//! An instance that does what it is told, within a tick, beginning where the real one stood.

use crate::assignment::{Role, role};
use crate::cluster::{Cluster, Service};
use crate::ids::{Epoch, InstanceId, Lsn, Timeline};
use crate::position::{Position, Switch};
use crate::report::{Down, Proof, Receiver, Report, Server, Stream};
use crate::time::Moment;
use crate::view::View;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

/// What a promotion and its marker write.
const MARKER: u64 = 0x200;

/// One instance.
pub(super) struct Puppet {
    report: Report,
    /// What the real one was unwell with does not heal here: it did not stream, it never will.
    unwell: bool,
    lost: bool,
}

/// Everybody who was heard lately.
pub(super) fn all(cluster: &Cluster, view: &View, now: Moment) -> BTreeMap<InstanceId, Puppet> {
    let limit = cluster.topology.timing.suspect_after;
    let mut puppets = BTreeMap::new();
    for service in cluster.services.values() {
        let primary = service.primary.as_ref();
        let streams = primary.and_then(|id| view.fresh(id, limit, now)).map(|r| &r.streams);
        for id in service.spec.instances.keys() {
            let Some(report) = view.fresh(id, limit, now).cloned() else { continue };
            let streams = streams.is_some_and(|all| {
                all.iter().any(|stream| stream.instance == *id && stream.streaming)
            });
            let unwell = primary != Some(id) && !streams;
            puppets.insert(id.clone(), Puppet { report, unwell, lost: false });
        }
    }
    puppets
}

impl Puppet {
    /// Becomes what it is assigned to be.
    pub(super) fn act(&mut self, service: &Service, id: &InstanceId, lost: bool) {
        self.lost = lost;
        if lost {
            return;
        }
        let (epoch, report) = (service.epoch, &mut self.report);
        report.revision = service.revision;
        match role(service, id) {
            Role::Idle => {}
            Role::Primary { prepare, .. } => {
                if report.pledge.granted != epoch {
                    report.pledge.granted = epoch;
                    report.proof = None;
                    report.enforced = None;
                    report.receiver = None;
                    report.sealed_at = None;
                } else if let Server::Recovery { position, .. } = &report.server {
                    let position = promoted(position, epoch);
                    let checkpoint = position.timeline;
                    report.server = Server::Writable { position, admits: false, checkpoint };
                } else if let Server::Down(Down::Clean(position)) = &report.server {
                    // It takes the next epoch itself, or a planned change was rolled back.
                    let position = position.clone();
                    let checkpoint = position.timeline;
                    report.server = Server::Writable { position, admits: false, checkpoint };
                }
                report.enforced = Some(service.rule.generation);
                if prepare {
                    report.prepared = Some(epoch);
                }
            }
            Role::Stopped => {
                if let Server::Writable { position, .. } = &report.server {
                    report.server = Server::Down(Down::Clean(position.clone()));
                }
                report.streams.clear();
            }
            Role::Fenced => {
                if let Server::Writable { .. } = &report.server {
                    report.server = Server::Down(Down::Fenced);
                }
                report.streams.clear();
            }
            Role::Sealed => {
                report.receiver = None;
                if let Server::Recovery { position, .. } = &report.server {
                    report.pledge.sealed = epoch;
                    report.sealed_at = Some(position.clone());
                }
            }
            Role::Standby { upstream } => {
                report.sealed_at = None;
                report.proof = None;
                report.enforced = None;
                let back = match &report.server {
                    Server::Writable { position, .. } | Server::Down(Down::Clean(position)) => {
                        Some(position.clone())
                    }
                    Server::Absent
                    | Server::Refused(_)
                    | Server::Down(_)
                    | Server::Starting
                    | Server::Recovery { .. } => None,
                };
                if let Some(position) = back {
                    let replayed = position.lsn;
                    report.server = Server::Recovery { position, replayed, admits: true };
                }
                let streaming = false;
                report.receiver = Some(Receiver { upstream, streaming, age: Duration::ZERO });
            }
        }
    }

    /// Whom it would receive from.
    pub(super) fn follows(&self) -> Option<&InstanceId> {
        let runs = matches!(self.report.server, Server::Recovery { .. });
        let receiver = self.report.receiver.as_ref().filter(|_| runs && !self.lost && !self.unwell);
        receiver.map(|receiver| &receiver.upstream)
    }

    /// Whether others can receive from it.
    pub(super) fn serves(&self) -> bool {
        !self.lost && matches!(self.report.server, Server::Writable { .. })
    }

    /// Where it stands.
    pub(super) const fn place(&self) -> Option<&Position> {
        match &self.report.server {
            Server::Recovery { position, .. } | Server::Writable { position, .. } => Some(position),
            Server::Absent | Server::Refused(_) | Server::Down(_) | Server::Starting => None,
        }
    }

    /// `streams`: who receives from it; `upstream`: where the one stands that it receives from.
    pub(super) fn linked(
        &mut self,
        service: &Service,
        streams: &[InstanceId],
        upstream: Option<Position>,
    ) {
        let report = &mut self.report;
        if let Server::Writable { position, admits, .. } = &mut report.server {
            let flushed = position.lsn;
            let stream = |id: &InstanceId| Stream {
                instance: id.clone(),
                streaming: true,
                flushed,
                caught_up: true,
            };
            report.streams = streams.iter().map(stream).collect();
            let epoch = report.pledge.granted;
            if releases(service, &report.streams) && epoch == service.epoch {
                report.proof = Some(Proof { epoch, age: Duration::ZERO });
                *admits = true;
            }
        }
        if let (Some(place), Some(receiver)) = (upstream, &mut report.receiver) {
            receiver.streaming = true;
            if let Server::Recovery { position, replayed, .. } = &mut report.server {
                *replayed = place.lsn;
                *position = place;
            }
        }
    }

    /// Whether a client's commit returns here.
    pub(super) fn commits(&self, service: &Service) -> bool {
        let open = matches!(self.report.server, Server::Writable { admits: true, .. });
        let granted = self.report.pledge.granted == service.epoch;
        !self.lost && open && granted && releases(service, &self.report.streams)
    }

    /// What it says, if it can.
    pub(super) fn report(&mut self) -> Option<Report> {
        if self.lost {
            return None;
        }
        self.report.sequence += 1;
        Some(self.report.clone())
    }
}

/// Whether enough of those that PostgreSQL waits for are there.
fn releases(service: &Service, streams: &[Stream]) -> bool {
    let enforce = &service.rule.enforce;
    let counted = |stream: &&Stream| enforce.instances.contains(&stream.instance);
    let count = streams.iter().filter(counted).count();
    count >= enforce.required as usize
}

/// The place after a promotion: the timeline of an epoch is its number (decision 0012).
fn promoted(position: &Position, epoch: Epoch) -> Position {
    let number = u32::try_from(epoch.0).unwrap_or(u32::MAX);
    let next = Timeline(number.max(position.timeline.0.saturating_add(1)));
    let mut history: Vec<Switch> = position.history.clone();
    history.push(Switch { timeline: position.timeline, at: position.lsn });
    let lsn = Lsn(position.lsn.0.saturating_add(MARKER));
    Position { timeline: next, history, lsn }
}
