//! What `baton … -o json` prints, as far as the lab looks at it: fields that it does not read may
//! come and go.

use failover::Finding;
use failover::cluster::{Published, Record, Rule, Transition};
use failover::ids::{Epoch, InstanceId, NameServerId, SiteId, TransitionId};
use failover::report::{NameServerAnswer, Note, Server};
use serde::Deserialize;

/// `baton status`.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    /// Version of the zone.
    pub zone_version: u32,
    /// The term of the voter that answered.
    #[serde(default)]
    pub term: u64,
    /// The leader, where the voter that answered knows one.
    #[serde(default)]
    pub leader: Option<Leader>,
    /// The voters.
    pub voters: Vec<Voter>,
    /// The services.
    pub services: Vec<Service>,
    /// The name servers.
    pub name_servers: Vec<NameServer>,
}

/// The leader.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Leader {
    /// Its name: in the lab that of its site.
    pub name: String,
}

/// A voter.
#[derive(Clone, Debug, Deserialize)]
pub struct Voter {
    /// Its number.
    #[serde(default)]
    pub id: u64,
    /// Its name: in the lab that of its site.
    pub name: String,
    /// `leader`, `follower`, `learner` or `unknown`.
    pub state: String,
}

/// A service.
#[derive(Clone, Debug, Deserialize)]
pub struct Service {
    /// Its epoch.
    pub epoch: Epoch,
    /// Who holds it.
    pub primary: Option<InstanceId>,
    /// The synchronous rule.
    pub rule: Rule,
    /// The open transition.
    pub transition: Option<Transition>,
    /// Whom the writable name points at.
    pub published: Option<Published>,
    /// The automatic failover that nobody has acknowledged yet.
    pub unacknowledged: Option<TransitionId>,
    /// Its instances.
    pub instances: Vec<Instance>,
    /// What the law says of it now.
    #[serde(default)]
    pub findings: Vec<Finding>,
}

/// An instance.
#[derive(Clone, Debug, Deserialize)]
pub struct Instance {
    /// Its name.
    pub instance: InstanceId,
    /// Its site.
    pub site: SiteId,
    /// What it says it is.
    pub reported: Option<Server>,
    /// How long ago.
    pub age_ms: Option<u64>,
    /// Whether the primary says that it streams.
    pub streaming: Option<bool>,
    /// Whether the rule counts on it.
    pub in_rule: bool,
    /// What it says for people.
    #[serde(default)]
    pub notes: Vec<Note>,
}

/// A name server.
#[derive(Clone, Debug, Deserialize)]
pub struct NameServer {
    /// Its name.
    pub server: NameServerId,
    /// Its site.
    pub site: SiteId,
    /// The version of the zone that it told it has.
    pub follows: Option<u32>,
    /// What it answered when a voter asked it over the network.
    #[serde(default)]
    pub asked: Option<NameServerAnswer>,
}

impl NameServer {
    /// Whether it is known, by its own word or by its answers, to serve this version.
    pub fn serves(&self, wanted: u32) -> bool {
        let answers = matches!(
            self.asked, Some(NameServerAnswer::Serves { version, .. }) if version == wanted
        );
        answers || self.follows == Some(wanted)
    }
}

impl Status {
    /// The lab's only service.
    pub fn service(&self) -> Option<&Service> {
        self.services.first()
    }

    /// Where the primary stands.
    pub fn home(&self) -> Option<String> {
        let service = self.service()?;
        let primary = service.primary.as_ref()?;
        let instance = service.instances.iter().find(|found| found.instance == *primary)?;
        Some(instance.site.to_string())
    }

    /// What is still missing until everything is as redundant as it was declared; `None`:
    /// nothing.
    pub fn missing(&self) -> Option<String> {
        let Some(service) = self.service() else { return Some("the service is not known".into()) };
        if let Some(transition) = &service.transition {
            return Some(format!(
                "transition {} is at `{}`",
                transition.id,
                transition.step.name()
            ));
        }
        let Some(primary) = &service.primary else { return Some("no primary yet".into()) };
        if service.published.as_ref().is_none_or(|published| published.instance != *primary) {
            return Some(format!("{primary} is not published"));
        }
        for instance in service.instances.iter().filter(|found| found.instance != *primary) {
            if let Some(lack) = lack(instance) {
                return Some(format!("{} {lack}", instance.instance));
            }
        }
        if let Some(absent) = self.voters.iter().find(|voter| voter.state == "unknown") {
            return Some(format!("voter {} is not heard", absent.name));
        }
        let behind = |server: &&NameServer| !server.serves(self.zone_version);
        self.name_servers.iter().find(behind).map(|server| {
            format!("name server {} does not serve version {}", server.server, self.zone_version)
        })
    }

    /// Whether an instance is a synchronous standby again: the rule counts on it and it streams.
    pub fn is_synchronous(&self, instance: &str) -> bool {
        let Some(service) = self.service() else { return false };
        let known = service.instances.iter().find(|found| found.instance.as_str() == instance);
        known.is_some_and(|found| lack(found).is_none())
    }
}

fn lack(instance: &Instance) -> Option<&'static str> {
    let recovering = matches!(instance.reported, Some(Server::Recovery { .. }));
    if !recovering {
        Some("is not running as a standby")
    } else if instance.streaming != Some(true) {
        Some("does not stream")
    } else if !instance.in_rule {
        Some("is not in the synchronous rule yet")
    } else {
        None
    }
}

/// `baton report ID`.
pub type Report = Record;

/// The answer to a request.
#[derive(Clone, Debug, Deserialize)]
pub struct Accepted {
    /// The transition it began.
    pub transition: Option<TransitionId>,
}

/// `baton probe SERVICE --reconcile FILE`: the journal held against the table.
#[derive(Clone, Debug, Deserialize)]
pub struct Reconciled {
    /// Acknowledged writes in the journal.
    pub acked: u64,
    /// Acknowledged, but missing in the table: the figure that must be 0.
    pub lost: u64,
    /// Numbers that the table has more than once.
    pub duplicates: u64,
    /// Writes whose outcome the writer never learned.
    pub unknown: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status(streaming: bool, in_rule: bool, follows: u32) -> Status {
        let recovery = json!({"recovery": {
            "position": {"timeline": 1, "history": [], "lsn": "0/1"},
            "replayed": "0/1", "admits": false}});
        let instance = |name: &str, streaming: Option<bool>, in_rule| {
            json!({"instance": format!("{name}-1"), "site": name, "reported": recovery,
                "age_ms": 5, "streaming": streaming, "in_rule": in_rule, "other": 1})
        };
        let text = json!({
            "zone_version": 4,
            "voters": [{"name": "arezzo", "state": "leader"}],
            "services": [{
                "epoch": 1, "primary": "arezzo-1",
                "rule": {"generation": 2, "instances": ["roubaix-1"], "required": 1,
                    "enforce": {"instances": ["roubaix-1"], "required": 1}},
                "transition": null, "unacknowledged": null,
                "published": {"instance": "arezzo-1", "epoch": 1},
                "instances": [instance("arezzo", None, false),
                    instance("roubaix", Some(streaming), in_rule)]}],
            "name_servers": [{"server": "ns1", "site": "arezzo", "follows": follows}]
        });
        serde_json::from_value(text).expect("it has what the lab reads")
    }

    #[test]
    fn redundancy_is_all_of_it() {
        assert_eq!(status(true, true, 4).missing(), None);
        assert!(status(true, true, 4).is_synchronous("roubaix-1"));
        assert_eq!(status(true, true, 4).home().as_deref(), Some("arezzo"));
        for (status, word) in [
            (status(false, true, 4), "stream"),
            (status(true, false, 4), "rule"),
            (status(true, true, 3), "ns1"),
        ] {
            assert!(status.missing().expect("something is missing").contains(word));
        }
        assert!(!status(true, false, 4).is_synchronous("roubaix-1"));
    }
}
