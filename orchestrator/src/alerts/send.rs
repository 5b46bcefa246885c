//! How one channel is told of one alert. No error names an address or a key: both are secrets.

use std::time::Duration;

use failover::Timestamp;
use failover::alert::{Alert, AlertKey};
use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use serde_json::{Value, json};

use super::channels::{Channel, Kind};
use crate::outside::{self, PATIENCE, bare};

/// For how long an Alertmanager believes what it is told.
pub(super) const BELIEVED: Duration = Duration::from_mins(5);

/// What is said of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Standing,
    Over(Timestamp),
    /// Nothing is wrong: somebody wants to see whether this arrives.
    Test,
}

impl State {
    const fn word(self) -> &'static str {
        match self {
            Self::Standing => "firing",
            Self::Over(_) => "resolved",
            Self::Test => "test",
        }
    }
}

/// One thing to tell.
pub(super) struct News<'a> {
    pub(super) cluster: &'a str,
    pub(super) voter: &'a str,
    pub(super) key: &'a AlertKey,
    pub(super) alert: &'a Alert,
    pub(super) since: Timestamp,
    pub(super) state: State,
    pub(super) now: Timestamp,
}

impl News<'_> {
    fn title(&self) -> String {
        let Self { cluster, alert, .. } = self;
        let mark = match self.state {
            State::Standing => alert.severity.name().to_uppercase(),
            State::Over(_) => String::from("OVER"),
            State::Test => String::from("TEST"),
        };
        format!("[{mark}] {cluster}: {}", alert.summary)
    }

    fn text(&self) -> String {
        let Self { key, alert, voter, since, .. } = self;
        let since = shown(*since);
        format!(
            "{}\n\nWhat to do: {}\nAlert {key}, since {since}, told by voter {voter}.\nTo take it \
             on: baton ack {key} --reason \"...\"\n",
            alert.summary, alert.remedy
        )
    }

    /// The same for as long as the alert stands, whoever tells.
    fn dedup(&self) -> String {
        format!("baton/{}/{}", self.cluster, self.key)
    }

    fn webhook(&self) -> Value {
        json!({
            "version": 1,
            "id": self.dedup(),
            "cluster": self.cluster,
            "alert": self.key,
            "state": self.state.word(),
            "severity": self.alert.severity,
            "service": self.alert.service,
            "summary": self.alert.summary,
            "remedy": self.alert.remedy,
            "since": shown(self.since),
            "over": if let State::Over(at) = self.state { Some(shown(at)) } else { None },
            "told_by": self.voter,
        })
    }

    fn slack(&self) -> Value {
        let Self { key, alert, .. } = self;
        json!({ "text": format!("{}\n{}\n`baton ack {key}`", self.title(), alert.remedy) })
    }

    fn pagerduty(&self, routing_key: &str) -> Value {
        if let State::Over(_) = self.state {
            return json!({
                "routing_key": routing_key, "event_action": "resolve", "dedup_key": self.dedup(),
            });
        }
        // What PagerDuty is told of a test is told to people: it ends by hand.
        json!({
            "routing_key": routing_key,
            "event_action": "trigger",
            "dedup_key": self.dedup(),
            "payload": {
                "summary": self.title().chars().take(1_024).collect::<String>(),
                "source": format!("baton/{}", self.cluster),
                "severity": self.alert.severity.name(),
                "timestamp": shown(self.since),
                "component": self.alert.service,
                "group": self.cluster,
                "class": self.key,
                "custom_details": {
                    "remedy": self.alert.remedy, "voter": self.voter, "state": self.state.word(),
                },
            },
        })
    }

    fn alertmanager(&self) -> Value {
        let ends = match self.state {
            State::Over(at) => at,
            State::Standing | State::Test => Timestamp(
                self.now.0.saturating_add(i64::try_from(BELIEVED.as_millis()).unwrap_or(0)),
            ),
        };
        json!([{
            "labels": {
                "alertname": "Baton",
                "cluster": self.cluster,
                "alert": self.key,
                "severity": self.alert.severity,
                "service": self.alert.service.as_ref().map_or("", |id| id.as_str()),
            },
            "annotations": { "summary": self.alert.summary, "remedy": self.alert.remedy },
            "startsAt": shown(self.since),
            "endsAt": shown(ends),
        }])
    }
}

/// Tells a channel.
///
/// # Errors
/// Why it could not be told, in words that hold no secret.
pub(super) async fn tell(channel: &Channel, news: &News<'_>) -> Result<(), String> {
    let told = async {
        if channel.kind == Kind::Smtp {
            mail(channel, news).await
        } else {
            post(channel, news).await
        }
    };
    match tokio::time::timeout(PATIENCE, told).await {
        Ok(result) => result,
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

async fn post(channel: &Channel, news: &News<'_>) -> Result<(), String> {
    let mut url = channel.address()?;
    let secret = channel.secret()?;
    let body = match channel.kind {
        Kind::Pagerduty => news.pagerduty(secret.as_deref().unwrap_or_default()),
        Kind::Slack => news.slack(),
        Kind::Alertmanager => {
            let path = format!("{}/api/v2/alerts", url.path().trim_end_matches('/'));
            url.set_path(&path);
            news.alertmanager()
        }
        Kind::Webhook | Kind::Smtp => news.webhook(),
    };
    let bears = matches!(channel.kind, Kind::Webhook | Kind::Alertmanager);
    let token = secret.as_deref().filter(|_| bears);
    outside::post(url, channel.ca.as_deref(), token, &body).await.map(drop)
}

async fn mail(channel: &Channel, news: &News<'_>) -> Result<(), String> {
    let url = channel.address()?;
    let host = bare(url.host_str().unwrap_or_default());
    let tls = TlsParameters::builder(host.to_owned());
    let tls = match &channel.ca {
        None => tls,
        Some(ca) => {
            let pem = std::fs::read(ca).map_err(|e| format!("{}: {e}", ca.display()))?;
            let authority = Certificate::from_pem(&pem).map_err(|e| e.to_string())?;
            tls.certificate_store(CertificateStore::None).add_root_certificate(authority)
        }
    };
    let (tls, port) = match url.scheme() {
        "smtps" => (Tls::Wrapper(tls.build().map_err(|e| e.to_string())?), 465),
        "smtp+starttls" => (Tls::Required(tls.build().map_err(|e| e.to_string())?), 587),
        _ => (Tls::None, 25),
    };
    let transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host);
    let transport = transport.port(url.port().unwrap_or(port)).tls(tls).timeout(Some(PATIENCE));
    let transport = match (&channel.user, channel.secret()?) {
        (Some(user), Some(password)) => {
            transport.credentials(Credentials::new(user.clone(), password))
        }
        _ => transport,
    };
    let address = |text: &str| {
        text.parse::<Mailbox>().map_err(|error| format!("`{text}` is no mail address: {error}"))
    };
    let mut message = Message::builder()
        .from(address(channel.from.as_deref().unwrap_or_default())?)
        // Mail about one alert is one conversation.
        .references(format!("<{}@baton>", news.dedup().replace('/', ".")))
        .subject(news.title().replace(['\r', '\n'], " "));
    for to in &channel.to {
        message = message.to(address(to)?);
    }
    let message = message.body(news.text()).map_err(|error| error.to_string())?;
    transport.build().send(message).await.map_err(|error| error.to_string())?;
    Ok(())
}

/// A time as receivers read it: RFC 3339.
fn shown(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.0).map_or_else(|_| at.0.to_string(), |at| at.to_string())
}
