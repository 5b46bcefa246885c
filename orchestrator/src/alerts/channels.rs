//! Where people are told: `[[channel]]` in a voter's configuration file. Nothing of it is in the
//! replicated state but the names, for the rest is secret: whoever knows the address of a web hook
//! can speak through it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use failover::alert::Severity;
use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::outside::{self, secret};

/// A channel as it is configured.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// Its name: 1 to 40 of `a-z`, `0-9` and `-`. The same channel has the same name in every
    /// voter's file: what one voter told through it the next does not tell again.
    pub name: String,
    /// What listens there.
    pub kind: Kind,
    /// Its address.
    #[serde(default)]
    pub url: Option<String>,
    /// A file with its address, where that is a secret.
    #[serde(default)]
    pub url_file: Option<PathBuf>,
    /// A file with the routing key (`pagerduty`), the bearer token (`webhook`, `alertmanager`) or
    /// the password (`smtp`).
    #[serde(default)]
    pub secret_file: Option<PathBuf>,
    /// Whose certificates are trusted there (PEM); without it, those of the machine's own store.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Whether it may be spoken to without TLS. On this machine it always may.
    #[serde(default)]
    pub plain: bool,
    /// What is told: everything, or only what is critical.
    #[serde(default = "everything")]
    pub least: Severity,
    /// How often what is critical is told again until a person acknowledges it. 1 minute to 1 day.
    #[serde(default = "again", with = "wire::config::duration")]
    pub again: Duration,
    /// Who logs in at the mail server, with the secret.
    #[serde(default)]
    pub user: Option<String>,
    /// Whom mail is from.
    #[serde(default)]
    pub from: Option<String>,
    /// Whom it is to.
    #[serde(default)]
    pub to: Vec<String>,
}

/// What listens at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Anything that takes JSON by POST.
    Webhook,
    /// Slack's incoming web hooks, and what speaks like them.
    Slack,
    /// `PagerDuty`, Events API v2.
    Pagerduty,
    /// Prometheus' Alertmanager, API v2.
    Alertmanager,
    /// A mail server.
    Smtp,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Webhook => "webhook",
            Self::Slack => "slack",
            Self::Pagerduty => "pagerduty",
            Self::Alertmanager => "alertmanager",
            Self::Smtp => "smtp",
        })
    }
}

fn everything() -> Severity {
    Severity::Warning
}

fn again() -> Duration {
    Duration::from_mins(15)
}

// Addresses are secrets.
impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// What is wrong with a channel: the key below `channel`, and what about it.
type Wrong = (&'static str, String);

impl Channel {
    /// The same with paths from `folder`.
    pub(crate) fn within(mut self, folder: &Path) -> Self {
        for path in [&mut self.url_file, &mut self.secret_file, &mut self.ca] {
            *path = path.as_ref().map(|path| folder.join(path));
        }
        self
    }

    /// Whether it has what its kind needs. Files are read when something is told: they may change.
    pub(crate) fn check(&self) -> Result<(), Wrong> {
        let says = |key, text: &str| Err((key, format!("channel `{}`: {text}", self.name)));
        // A name of a service is a name.
        if self.name.parse::<failover::ids::ServiceId>().is_err() {
            return says("channel.name", "use 1 to 40 of a-z, 0-9 and -");
        }
        let has_address = match (&self.url, &self.url_file) {
            (Some(_), Some(_)) => return says("channel.url", "url or url_file, not both"),
            (None, None) => false,
            (Some(_), None) | (None, Some(_)) => true,
        };
        if !has_address {
            return says("channel.url", "where is it? Give url or url_file");
        }
        if self.kind == Kind::Pagerduty && self.secret_file.is_none() {
            return says("channel.secret_file", "a file with the routing key of the integration");
        }
        let mails = self.kind == Kind::Smtp;
        if mails && (self.from.is_none() || self.to.is_empty()) {
            return says("channel.to", "mail needs from and to");
        }
        if !mails && (self.from.is_some() || !self.to.is_empty()) {
            return says("channel.to", "from and to are for mail");
        }
        if self.user.is_some() && self.secret_file.is_none() {
            return says("channel.user", "its password is in secret_file");
        }
        if self.url.is_some()
            && let Err(text) = self.address()
        {
            return says("channel.url", &text);
        }
        if !(Duration::from_mins(1)..=Duration::from_hours(24)).contains(&self.again) {
            return says("channel.again", "between 1m and 24h");
        }
        Ok(())
    }

    /// Where it is; never part of an error.
    pub(crate) fn address(&self) -> Result<Url, String> {
        let text = match (&self.url, &self.url_file) {
            (Some(url), _) => url.clone(),
            (None, Some(file)) => secret(file)?,
            (None, None) => return Err("it is not given".into()),
        };
        let schemes: &[&str] = match self.kind {
            Kind::Smtp => &["smtps", "smtp+starttls", "smtp"],
            Kind::Webhook | Kind::Slack | Kind::Pagerduty | Kind::Alertmanager => outside::WEB,
        };
        outside::address(&text, schemes, self.plain)
    }

    /// Its secret, if it has one.
    pub(crate) fn secret(&self) -> Result<Option<String>, String> {
        self.secret_file.as_deref().map(secret).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<(), String> {
        let channel: Channel = toml::from_str(text).map_err(|e| e.to_string())?;
        channel.check().map_err(|(key, text)| format!("{key}: {text}"))
    }

    #[test]
    fn each_kind_says_what_it_lacks() {
        let ok = |text: &str| parsed(text).expect(text);
        ok("name = 'w'\nkind = 'webhook'\nurl = 'https://a/b'");
        ok("name = 'p'\nkind = 'pagerduty'\nurl = 'https://a'\nsecret_file = 'key'");
        ok("name = 'w'\nkind = 'webhook'\nurl = 'https://a'\nleast = 'critical'\nagain = '5m'");
        ok("name = 'm'\nkind = 'smtp'\nurl = 'smtps://a'\nfrom = 'a@b'\nto = ['c@d']");
        ok("name = 'l'\nkind = 'alertmanager'\nurl = 'http://[::1]:9093'");
        ok("name = 'l'\nkind = 'alertmanager'\nurl = 'http://am:9093'\nplain = true");
        for (text, word) in [
            ("name = 'W'\nkind = 'slack'\nurl = 'https://a'", "channel.name"),
            ("name = 'w'\nkind = 'slack'", "channel.url"),
            ("name = 'w'\nkind = 'slack'\nurl = 'a'\nurl_file = 'b'", "not both"),
            ("name = 'p'\nkind = 'pagerduty'\nurl = 'https://a'", "channel.secret_file"),
            ("name = 'm'\nkind = 'smtp'\nurl = 'smtps://a'\nto = ['c@d']", "channel.to"),
            ("name = 'w'\nkind = 'webhook'\nurl = 'https://a'\nto = ['c@d']", "channel.to"),
            ("name = 'w'\nkind = 'webhook'\nurl = 'https://a'\nagain = '1s'", "channel.again"),
            ("name = 'w'\nkind = 'fax'\nurl = 'https://a'", "fax"),
            ("name = 'w'\nkind = 'slack'\nurl = 'a'\nuri = 'b'", "uri"),
            ("name = 'w'\nkind = 'slack'\nurl = 'hooks'", "not an address"),
            ("name = 'w'\nkind = 'slack'\nurl = 'http://a/s3cr3t'", "plain = true"),
            ("name = 'w'\nkind = 'slack'\nurl = 'smtps://a'", "https"),
            ("name = 'm'\nkind = 'smtp'\nurl = 'https://a'\nfrom = 'a@b'\nto = ['c@d']", "smtps"),
        ] {
            let said = parsed(text).expect_err(text);
            assert!(!said.contains("s3cr3t"), "{said}");
            assert!(said.contains(word), "{text}: {said}");
        }
    }

    #[test]
    fn what_is_shown_of_a_channel_holds_no_secret() {
        let text = "name = 'w'\nkind = 'slack'\nurl = 'https://hooks/T0/s3cr3t'";
        let channel: Channel = toml::from_str(text).expect("a channel");
        assert!(!format!("{channel:?}").contains("s3cr3t"));
    }
}
