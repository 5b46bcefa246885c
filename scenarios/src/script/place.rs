//! Where something happens: sites, processes and planes, one or several of each.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// A site, by name or by the part that it plays.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The site that held the primary when the scenario began.
    Primary,
    /// The site of the instance that is second in preference.
    Standby,
    /// The third site in preference; a witness where only two sites hold data.
    Third,
    /// The site that holds the primary now: of the newest epoch that any voter knows.
    CurrentPrimary,
    /// The site of the voter that leads now (of the highest term, if several say so).
    Leader,
    /// Where the clients outside are.
    Clients,
    /// Every site; the clients outside are not one.
    All,
    /// Every site that the other end of the same verb does not name.
    Rest,
    /// The site of this name.
    Site(String),
}

impl FromStr for Place {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "primary" => Self::Primary,
            "standby" => Self::Standby,
            "third" => Self::Third,
            "current-primary" => Self::CurrentPrimary,
            "leader" => Self::Leader,
            "clients" => Self::Clients,
            "all" => Self::All,
            "rest" => Self::Rest,
            "" => return Err("a place is empty: name a site or its part".into()),
            name => Self::Site(name.to_owned()),
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Standby => "standby",
            Self::Third => "third",
            Self::CurrentPrimary => "current-primary",
            Self::Leader => "leader",
            Self::Clients => "clients",
            Self::All => "all",
            Self::Rest => "rest",
            Self::Site(name) => name,
        })
    }
}

/// What runs at a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Process {
    /// The orchestrator's voter.
    Voter,
    /// The agent.
    Agent,
    /// The agent's guard, PostgreSQL's parent.
    Guard,
    /// PostgreSQL: the postmaster and all of its processes.
    Postgres,
    /// The name server.
    Dns,
    /// The machine: everything there at once.
    Site,
}

impl FromStr for Process {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "voter" => Self::Voter,
            "agent" => Self::Agent,
            "guard" => Self::Guard,
            "postgres" => Self::Postgres,
            "dns" => Self::Dns,
            "site" => Self::Site,
            other => {
                return Err(format!(
                    "`{other}` is no process: write voter, agent, guard, postgres, dns or site"
                ));
            }
        })
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Voter => "voter",
            Self::Agent => "agent",
            Self::Guard => "guard",
            Self::Postgres => "postgres",
            Self::Dns => "dns",
            Self::Site => "site",
        })
    }
}

/// One kind of traffic on a link between sites.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Plane {
    /// Voter to voter.
    Raft,
    /// Agent to voter and back; voters' and agents' knocks at ports.
    Health,
    /// Instance to instance: streams, copies, rewinds.
    Wal,
    /// Name server to voter, and the questions of resolvers.
    Dns,
    /// Clients to PostgreSQL.
    User,
}

impl Plane {
    /// All of them, in the order of the transcript.
    pub const ALL: [Self; 5] = [Self::Raft, Self::Health, Self::Wal, Self::Dns, Self::User];
}

impl FromStr for Plane {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "raft" => Self::Raft,
            "health" => Self::Health,
            "wal" => Self::Wal,
            "dns" => Self::Dns,
            "user" => Self::User,
            other => {
                return Err(format!(
                    "`{other}` is no plane: write raft, health, wal, dns or user, or leave \
                     `planes` out for all of them"
                ));
            }
        })
    }
}

impl fmt::Display for Plane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raft => "raft",
            Self::Health => "health",
            Self::Wal => "wal",
            Self::Dns => "dns",
            Self::User => "user",
        })
    }
}

/// One word or a list of them: `"primary"`, `["standby", "third"]`. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneOrMore<T>(pub Vec<T>);

/// One or several sites.
pub type Places = OneOrMore<Place>;
/// One or several processes.
pub type Processes = OneOrMore<Process>;
/// One or several planes.
pub type Planes = OneOrMore<Plane>;

impl Default for Planes {
    fn default() -> Self {
        Self(Plane::ALL.to_vec())
    }
}

impl Planes {
    /// Whether they are all of them.
    pub fn is_all(&self) -> bool {
        Plane::ALL.iter().all(|plane| self.0.contains(plane))
    }
}

impl<T> OneOrMore<T> {
    /// Only this one.
    #[must_use]
    pub fn from_one(one: T) -> Self {
        Self(vec![one])
    }

    /// Each of them.
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }
}

impl<'a, T> IntoIterator for &'a OneOrMore<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<T: fmt::Display> fmt::Display for OneOrMore<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, each) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{each}")?;
        }
        Ok(())
    }
}

impl<T: fmt::Display> Serialize for OneOrMore<T> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => s.collect_str(one),
            several => s.collect_seq(several.iter().map(ToString::to_string)),
        }
    }
}

impl<'de, T: FromStr<Err = String>> Deserialize<'de> for OneOrMore<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Reader<T>(std::marker::PhantomData<T>);
        impl<'de, T: FromStr<Err = String>> Visitor<'de> for Reader<T> {
            type Value = OneOrMore<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a word or a list of words")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<OneOrMore<T>, E> {
                text.parse().map(|one| OneOrMore(vec![one])).map_err(E::custom)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<OneOrMore<T>, A::Error> {
                let mut all = Vec::new();
                while let Some(text) = seq.next_element::<String>()? {
                    all.push(text.parse().map_err(de::Error::custom)?);
                }
                if all.is_empty() {
                    return Err(de::Error::custom("the list is empty: name at least one"));
                }
                Ok(OneOrMore(all))
            }
        }
        d.deserialize_any(Reader(std::marker::PhantomData))
    }
}
