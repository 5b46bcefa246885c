//! What can be done to a cluster: one variant a verb, one table of a `[[step]]` each.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wire::config::duration;
use wire::config::duration::Text;

use super::expect::Expect;
use super::place::{Places, Planes, Processes};

/// One action. What it does on which tier is said at each variant; a runner that cannot do one
/// must say so, never pass over it.
#[derive(Clone, Debug, PartialEq)]
pub enum Verb {
    /// Nothing passes between the two ends, in both directions. Connections stay open and silent,
    /// as behind a dead switch.
    Cut(Link),
    /// Nothing passes from the one to the other; the way back is free.
    CutOneWay(Link),
    /// Undoes every cut, loss and delay between the two ends, both directions; of everything, when
    /// neither end is named.
    Heal(Heal),
    /// Damages a share of the packets in both directions, until healed.
    Lose(Lose),
    /// Makes a link slower in both directions, until healed.
    Delay(Delay),
    /// Kills at once, as SIGKILL does; `site` is a power cut: unsynced writes are lost with it.
    Crash(Target),
    /// Starts what does not run, in the order of the file; `site` gives the power back.
    Start(Target),
    /// Kills and starts again at once.
    Restart(Target),
    /// Kills and takes the disk away: for `site` everything of the site, for good, until `start`
    /// puts an empty machine there.
    Destroy(Target),
    /// Freezes, as SIGSTOP does. Its connections stay open and silent.
    Pause(Target),
    /// Goes on where it was frozen, as SIGCONT does.
    Resume(Target),
    /// Moves or bends the clocks of a machine.
    Skew(Skew),
    /// Every flush takes this much longer; `0s` ends it.
    SlowDisk(SlowDisk),
    /// No byte can be written any more.
    FillDisk(Target),
    /// Room on the disk again.
    FreeDisk(Target),
    /// Damages what lies on a disk while its process is down.
    Damage(Damage),
    /// A client cancels its waiting commit (F-10), or has it ended inside a procedure (F-11).
    Cancel(Cancel),
    /// A superuser empties `synchronous_standby_names` and reloads (F-13).
    EmptySetting(At),
    /// A receiver with no database behind it streams under the name of a standby (F-14).
    Impostor(Impostor),
    /// The checkpointer of PostgreSQL handles no reload for so long (F-15).
    StallCheckpointer(For),
    /// A session commits rows with `synchronous_commit = local`, again and again (F-16).
    LocalSession(For),
    /// A query holds a lock that conflicts with replay, for so long (F-19).
    LongQuery(For),
    /// A flood of questions to the name server there.
    Storm(For),
    /// An operator asks for something.
    Ask(Ask),
    /// Within the bound this comes true.
    Expect(Expect),
    /// From here on, for the whole of the bound, this holds.
    Always(Expect),
}

/// Two ends and what passes between them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// The one end.
    pub from: Places,
    /// The other.
    pub to: Places,
    /// Which traffic; all of it when left out.
    #[serde(default, skip_serializing_if = "Planes::is_all")]
    pub planes: Planes,
}

/// What is healed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heal {
    /// The one end; everything when both are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Places>,
    /// The other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Places>,
    /// Which traffic; all of it when left out.
    #[serde(default, skip_serializing_if = "Planes::is_all")]
    pub planes: Planes,
}

/// Loss in percent of packets, 0 to 100 each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lose {
    /// The one end.
    pub from: Places,
    /// The other.
    pub to: Places,
    /// Which traffic; all of it when left out.
    #[serde(default, skip_serializing_if = "Planes::is_all")]
    pub planes: Planes,
    /// Lost.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub percent: u8,
    /// Delivered twice.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub duplicate: u8,
    /// Delivered after later ones.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub reorder: u8,
    /// Delivered with flipped bits (what a checksum catches breaks the connection).
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub corrupt: u8,
}

/// A slower link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delay {
    /// The one end.
    pub from: Places,
    /// The other.
    pub to: Places,
    /// Which traffic; all of it when left out.
    #[serde(default, skip_serializing_if = "Planes::is_all")]
    pub planes: Planes,
    /// Added in each direction.
    #[serde(with = "duration")]
    pub by: Duration,
    /// At most this much more, at random.
    #[serde(default = "zero", skip_serializing_if = "Duration::is_zero", with = "duration")]
    pub jitter: Duration,
}

/// Processes at sites.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Which.
    pub process: Processes,
    /// Where.
    pub site: Places,
}

/// A clock that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skew {
    /// Where.
    pub site: Places,
    /// The wall clock is set forward by this.
    #[serde(default = "zero", skip_serializing_if = "Duration::is_zero", with = "duration")]
    pub forward: Duration,
    /// The wall clock is set back by this.
    #[serde(default = "zero", skip_serializing_if = "Duration::is_zero", with = "duration")]
    pub back: Duration,
    /// How much faster than true the monotonic clock runs from now on, in parts per thousand;
    /// negative: slower. -900 to 900. Simulation only: no user may bend a real one.
    #[serde(default, skip_serializing_if = "is_true_rate")]
    pub rate: i32,
}

/// A disk that has become slow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlowDisk {
    /// Whose flushes: `postgres`, `voter`, or `site` for both.
    pub process: Processes,
    /// Where.
    pub site: Places,
    /// Added to every flush; `0s` ends it.
    #[serde(with = "duration")]
    pub by: Duration,
}

/// A disk that no longer holds what was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Damage {
    /// Where.
    pub site: Places,
    /// How.
    pub how: Harm,
}

/// Ways to damage a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Harm {
    /// One bit in the middle of the voter's log.
    FlippedLog,
    /// The instance's data directory is that of another cluster.
    Foreign,
    /// The instance's data directory is an old copy of itself.
    Stale,
    /// Pages of a table fail their checksums.
    Pages,
}

/// A wait that ends before the standby has flushed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cancel {
    /// Where the wait is.
    pub site: Places,
    /// What ends it.
    #[serde(default)]
    pub by: Canceller,
}

/// What ends a wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Canceller {
    /// A query cancel (F-10).
    #[default]
    Client,
    /// `statement_timeout` of 1 s round a COMMIT inside `CALL` (F-11).
    Procedure,
}

/// A site and nothing more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct At {
    /// Where.
    pub site: Places,
}

/// A receiver that is not what it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Impostor {
    /// Where it runs.
    pub site: Places,
    /// Whose name it uses.
    pub name: Places,
    /// With whose certificate it connects: its own (`site`) unless this says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Places>,
}

/// A site and a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct For {
    /// Where.
    pub site: Places,
    /// How long.
    #[serde(rename = "for", with = "duration")]
    pub lasts: Duration,
}

/// A request of an operator, by `baton` on any voter that can be reached from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// What for.
    pub request: Request,
    /// To whom (switchover); which site's voter (add-voter, remove-voter).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Places>,
    /// The new W of the rule (apply).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required: Option<u32>,
    /// What is answered.
    #[serde(default)]
    pub answer: Answer,
    /// The refusal has a finding of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub naming: Option<String>,
    /// Asked again for so long until the answer is as demanded; once when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Text>,
}

/// What an operator may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// A planned change of primary.
    Switchover,
    /// Declare the primary lost.
    Failover,
    /// Pause automation.
    Hold,
    /// Let it go on; acknowledges the last automatic failover.
    Resume,
    /// Add a voter.
    AddVoter,
    /// Take a voter out.
    RemoveVoter,
    /// A new topology: the old one with another `required`.
    Apply,
    /// Let the doubtful commits go, named by their range as the refusal gave it.
    Forgo,
    /// Fail over and give up what only lost instances hold, as much as is told when it is asked.
    AcceptLoss,
    /// The drill in which the primary is cut off by its own agent.
    Isolate,
    /// The drill in which a copy beside a standby comes back as a former primary does.
    RestorePath,
}

/// What an operator is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It is done or begun.
    #[default]
    Granted,
    /// No, with reasons.
    Refused,
    /// Whatever: also no answer at all.
    Any,
}

// The shape of these two is serde's.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_nothing(percent: &u8) -> bool {
    *percent == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_true_rate(rate: &i32) -> bool {
    *rate == 0
}

fn zero() -> Duration {
    Duration::ZERO
}
