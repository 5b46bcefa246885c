//! What a voter says to others than baton's own: JSON by POST, over TLS unless it stays on this
//! machine. No error names an address or a key: both are secrets.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::AUTHORIZATION;
use serde_json::Value;

/// How long others may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// What is read of an answer, in bytes.
const ANSWER: usize = 4 << 10;

/// The schemes of what takes JSON by POST.
pub(crate) const WEB: &[&str] = &["https", "http"];

/// An address with one of these schemes, of which the first is encrypted. What is not must be
/// wanted (`plain`), or stay on this machine.
pub(crate) fn address(text: &str, schemes: &[&str], plain: bool) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("not an address: {error}"))?;
    if !schemes.contains(&url.scheme()) {
        let (scheme, known) = (url.scheme(), schemes.join(", "));
        return Err(format!("`{scheme}` is no scheme of this kind; there are: {known}"));
    }
    let host = url.host_str().ok_or("it names no host")?;
    let local = host == "localhost" || bare(host).parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    if matches!(url.scheme(), "http" | "smtp") && !local && !plain {
        let (scheme, other) = (url.scheme(), schemes[0]);
        return Err(format!("{scheme} is not encrypted: use {other}, or `plain = true`"));
    }
    Ok(url)
}

/// A host without the brackets of an address.
pub(crate) fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// The first line of a file.
pub(crate) fn secret(file: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|error| format!("{}: cannot be read: {error}", file.display()))?;
    let line = text.lines().next().unwrap_or_default().trim();
    if line.is_empty() {
        return Err(format!("{}: its first line is empty", file.display()));
    }
    Ok(line.to_owned())
}

/// Says something, with a bearer token where there is one; what was answered, if that is short and
/// JSON.
///
/// # Errors
/// Why it was not taken, in words that hold no secret.
pub(crate) async fn post(
    url: Url,
    ca: Option<&Path>,
    token: Option<&str>,
    body: &Value,
) -> Result<Value, String> {
    let tls = wire::tls::outside_client(ca).map_err(|e| e.to_string())?;
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .timeout(PATIENCE)
        // An address that sends us on is not the one that was meant.
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .user_agent(concat!("baton/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(cause)?;
    let mut request = client.post(url).json(body);
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let mut answer = request.send().await.map_err(cause)?;
    let status = answer.status();
    if !status.is_success() {
        return Err(format!("it answered {status}"));
    }
    let mut bytes = Vec::new();
    // It was taken: what is wrong with the rest of the answer changes nothing.
    while let Ok(Some(more)) = answer.chunk().await {
        if bytes.len() + more.len() > ANSWER {
            return Ok(Value::Null);
        }
        bytes.extend_from_slice(&more);
    }
    Ok(serde_json::from_slice(&bytes).unwrap_or_default())
}

/// What went wrong at the bottom, without the address.
fn cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut bottom: &dyn std::error::Error = &error;
    while let Some(below) = bottom.source() {
        bottom = below;
    }
    bottom.to_string()
}
