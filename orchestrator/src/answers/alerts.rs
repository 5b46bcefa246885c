//! What is told of alerts, and of the channels that tell them.

use std::collections::BTreeMap;

use failover::Timestamp;
use failover::alert::{AlertKey, Severity, Standing};
use serde::{Deserialize, Serialize};

use crate::alerts::Kind as ChannelKind;

/// `GET /v1/alerts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alerts {
    /// The answering voter's wall clock.
    pub at: Timestamp,
    /// What stands, and what is over and not everybody knows.
    pub alerts: BTreeMap<AlertKey, Standing>,
}

/// The body of `POST /v1/alerts/test`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestChannels {
    /// Only this one.
    #[serde(default)]
    pub channel: Option<String>,
}

/// `POST /v1/alerts/test`: what became of telling each channel of the voter that is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelsTested {
    /// The voter.
    pub voter: String,
    /// Its channels.
    pub channels: Vec<ChannelTest>,
}

/// What became of telling one channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelTest {
    /// Its name.
    pub channel: String,
    /// What listens there.
    pub kind: ChannelKind,
    /// What it is told of.
    pub least: Severity,
    /// Why it could not be told; `None`: it was.
    pub failed: Option<String>,
}
