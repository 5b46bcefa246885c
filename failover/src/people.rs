//! People: in which role somebody asks, what each role may ask for, and the ruling on it.
//!
//! Looking is for every role; acting is for operators, saying yes to what another asked for is for
//! approvers, and what is declared is changed by admins. An admin has all of these, and still
//! never approves what he asked for himself.

use crate::approval;
use crate::cluster::Cluster;
use crate::decide::{Finding, finding};
use crate::event::{Approved, Authority, Change, Event};
use crate::ids::ServiceId;
use crate::report::Severity;
use crate::request::{Request, Ruling, rule_on};
use crate::time::{Moment, Timestamp};
use crate::topology::Topology;
use crate::view::View;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

/// The check that refuses whoever gives no time-based code, or one that was used.
pub const TOTP: &str = "totp";

/// What a person's certificate says that he is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Looks.
    Viewer,
    /// Acts, as far as nothing is lost by it.
    Operator,
    /// Looks, and says yes to what another asked for.
    Approver,
    /// All of that, and changes what is declared. What a certificate without a role says.
    #[default]
    Admin,
}

/// What may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// To be told how everything stands.
    Look,
    /// To move, hold and rehearse.
    Operate,
    /// To say yes to what another asked for.
    Approve,
    /// To change what is declared, and who decides.
    Administer,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Operator, Self::Approver, Self::Admin];

    /// The word in certificates and in the record.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Approver => "approver",
            Self::Admin => "admin",
        }
    }

    /// The role of that name.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }

    /// Whether it is what a certificate without a role says.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        *self == Self::Admin
    }

    /// What each role may: the one table.
    #[must_use]
    pub const fn has(self, right: Right) -> bool {
        match right {
            Right::Look => true,
            Right::Operate => matches!(self, Self::Operator | Self::Admin),
            Right::Approve => matches!(self, Self::Approver | Self::Admin),
            Right::Administer => matches!(self, Self::Admin),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Right {
    /// Who has it, in words.
    #[must_use]
    pub fn holders(self) -> String {
        let holders: Vec<&str> =
            Role::ALL.iter().filter(|role| role.has(self)).map(|role| role.as_str()).collect();
        holders.join(" or ")
    }
}

/// Somebody asks for something.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// His name.
    pub name: &'a str,
    /// In which role.
    pub role: Role,
    /// The wall clock, for the record.
    pub at: Timestamp,
    /// The step of the time-based code that he gave, in 30 s since 1970, where the voter that he
    /// asked found it to be his.
    pub totp_step: Option<u64>,
}

impl Asker<'_> {
    /// By what right he has something done.
    pub(crate) fn authority(&self, approved: Option<Approved>) -> Authority {
        Authority { role: self.role, approved, totp_step: self.totp_step }
    }
}

impl Request {
    /// What whoever asks for this must have.
    #[must_use]
    pub const fn right(&self) -> Right {
        match self {
            Self::Switchover { .. }
            | Self::Failover { .. }
            | Self::Hold { .. }
            | Self::Resume { .. }
            | Self::Forgo { .. }
            | Self::AcceptLoss { .. }
            | Self::Drill { .. }
            | Self::Acknowledge { .. }
            | Self::AbortDrill { .. }
            | Self::Withdraw { .. } => Right::Operate,
            Self::Approve { .. } => Right::Approve,
            Self::Apply { .. } | Self::AddVoter { .. } | Self::RemoveVoter { .. } => {
                Right::Administer
            }
        }
    }

    /// The service that it is about.
    #[must_use]
    pub const fn service(&self) -> Option<&ServiceId> {
        match self {
            Self::Switchover { service, .. }
            | Self::Failover { service, .. }
            | Self::Hold { service, .. }
            | Self::Resume { service, .. }
            | Self::Drill { service, .. }
            | Self::AcceptLoss { service, .. }
            | Self::Forgo { service, .. } => Some(service),
            Self::Apply { .. }
            | Self::AbortDrill { .. }
            | Self::Acknowledge { .. }
            | Self::AddVoter { .. }
            | Self::RemoveVoter { .. }
            | Self::Approve { .. }
            | Self::Withdraw { .. } => None,
        }
    }

    /// The same, whatever it is asked for.
    #[must_use]
    pub fn without_reason(&self) -> Self {
        let mut same = self.clone();
        same.take_reason();
        same
    }

    /// Why it is asked for.
    #[must_use]
    pub fn reason(&self) -> String {
        self.clone().take_reason()
    }

    fn take_reason(&mut self) -> String {
        match self {
            Self::Apply { reason, .. }
            | Self::Switchover { reason, .. }
            | Self::Failover { reason, .. }
            | Self::Hold { reason, .. }
            | Self::Resume { reason, .. }
            | Self::Forgo { reason, .. }
            | Self::AcceptLoss { reason, .. }
            | Self::Drill { reason, .. }
            | Self::AbortDrill { reason, .. }
            | Self::Acknowledge { reason, .. }
            | Self::AddVoter { reason, .. }
            | Self::RemoveVoter { reason, .. }
            | Self::Approve { reason, .. }
            | Self::Withdraw { reason, .. } => core::mem::take(reason),
        }
    }
}

/// Why somebody may not ask for this in his role, if so: who may, and how one becomes that.
#[must_use]
pub fn lacks(asker: &str, role: Role, right: Right) -> Option<String> {
    (!role.has(right)).then(|| {
        format!(
            "this needs the role {}, and the certificate of {asker} is a {role}'s; whoever keeps \
             the authority makes another: `baton init TOPOLOGY --out FOLDER --update --person \
             {asker}:{}`",
            right.holders(),
            if right == Right::Approve { Role::Approver } else { least(right) }
        )
    })
}

/// The role that has a right and little more.
fn least(right: Right) -> Role {
    Role::ALL.into_iter().find(|role| role.has(right)).unwrap_or_default()
}

/// Whether whoever asks for this gives a time-based code: where it is declared, and already when it
/// is being declared, so that nobody locks everybody out who has no authenticator that works.
#[must_use]
pub fn wants_code(topology: &Topology, request: &Request) -> bool {
    let declares =
        matches!(request, Request::Apply { topology: declared, .. } if declared.people.totp);
    topology.people.totp || declares
}

/// Whether somebody acted with the code of this step, or of a later one.
fn is_used(cluster: &Cluster, person: &str, step: u64) -> bool {
    cluster.codes.get(person).is_some_and(|used| step <= *used)
}

/// Why somebody may not act with the code that he gave, or without one, if so.
fn lacks_code(cluster: &Cluster, request: &Request, asker: Asker<'_>) -> Option<String> {
    match asker.totp_step {
        None => wants_code(&cluster.topology, request).then(|| {
            format!(
                "whoever changes something gives a time-based code as well: `--code` and the six \
                 digits that the authenticator of {} shows",
                asker.name
            )
        }),
        Some(step) => is_used(cluster, asker.name, step).then(|| {
            format!("this code of {} was used: wait for the next, half a minute", asker.name)
        }),
    }
}

/// Whether nobody acted with this entry's code, or a later one, before. The group of voters has
/// changed by itself when its entry comes here.
pub(crate) fn stands(cluster: &Cluster, event: &Event) -> bool {
    let Some((by, step)) = event.code() else { return true };
    !is_used(cluster, by, step)
        || matches!(event.change, Change::VoterSet { .. } | Change::VoterRemoved { .. })
}

/// An entry took effect: its code is good no more.
pub(crate) fn used(cluster: &mut Cluster, event: &Event) {
    let Some((by, step)) = event.code() else { return };
    let newest = cluster.codes.entry(by.into()).or_default();
    *newest = step.max(*newest);
}

/// What a person may have done: to be proposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What changes.
    pub change: Change,
    /// Why, in words.
    pub cause: String,
    /// Who asked for it.
    pub by: String,
    /// The hash of the plan that it carries out.
    pub plan: Option<String>,
    /// By what right.
    pub authority: Authority,
}

/// The answer of the law to a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruled {
    /// Propose this.
    Granted(Box<Grant>),
    /// The same person asked before: it waits for a second one under this hash.
    Waits(String),
    /// Nothing changes; why not, the first reason first.
    Refused(Vec<Finding>),
}

/// Judges what a person asks for: whether he may, whether he says why, then the thing itself, and
/// whether it needs a second person. `plan` tells the hash of what a request would do now.
#[must_use]
pub fn rule_for(
    cluster: &Cluster,
    view: &View,
    (request, asker): (&Request, Asker<'_>),
    now: Moment,
    plan: crate::approval::PlanOf<'_>,
) -> Ruled {
    let refuse = |check: &str, text: String| {
        Ruled::Refused(vec![finding(check, Severity::Blocks, None, text)])
    };
    let lowers = approval::lowers(cluster, request);
    let needs_two = cluster.topology.people.two_persons && !lowers.is_empty();
    // Alone only an admin lowers anything.
    let alone = !lowers.is_empty() && !needs_two;
    let right = if alone { Right::Administer } else { request.right() };
    if let Some(text) = lacks(asker.name, asker.role, right) {
        return refuse("role", text);
    }
    if request.reason().trim().is_empty() {
        return refuse("reason", String::from("say why, for the record: `--reason TEXT`"));
    }
    if let Some(text) = lacks_code(cluster, request, asker) {
        return refuse(TOTP, text);
    }
    if let Request::Approve { plan: hash, reason } = request {
        return approval::approve(cluster, view, (hash, reason), (asker, plan), now);
    }
    if let Request::Withdraw { plan: hash, .. } = request {
        return approval::withdraw(cluster, view, (hash, request.reason()), asker, now);
    }
    let (change, cause) = match rule_on(cluster, view, request, (asker.name, asker.at), now) {
        Ruling::Refused(findings) => return Ruled::Refused(findings),
        Ruling::Granted { change, cause } => (*change, cause),
    };
    match plan(request) {
        Some(hash) if needs_two => {
            approval::ask(cluster, view, (request, lowers, hash), asker, now)
        }
        None if needs_two => {
            refuse("approval", String::from("its plan cannot be told now: ask again"))
        }
        plan => {
            let authority = asker.authority(None);
            let by = asker.name.to_string();
            Ruled::Granted(Box::new(Grant { change, cause, by, plan, authority }))
        }
    }
}
