//! What goes into the archive: one way in for each kind of thing, each of which leaves secrets out.

use std::collections::BTreeMap;
use std::io::Write;

use orchestrator::evidence::hex;
use serde::Serialize;
use serde_json::Value;
use wire::scrub::{LEFT_OUT, text};

use crate::client::Failure;

/// No more of one file than this, in bytes.
pub const FILE_BYTES: usize = 64 << 20;

/// Files by name, and what could not be had.
#[derive(Default)]
pub struct Archive {
    files: BTreeMap<String, Vec<u8>>,
    /// What is not in it, and why.
    pub missing: Vec<String>,
}

/// What the archive says of itself.
#[derive(Serialize)]
struct Manifest<'a, T> {
    #[serde(flatten)]
    about: T,
    missing: &'a [String],
    sha256: BTreeMap<&'a str, String>,
}

impl Archive {
    /// An answer of the cluster: every text in it without its secrets.
    pub fn answer(&mut self, name: &str, value: &impl Serialize) {
        match serde_json::to_value(value).map(scrubbed) {
            Ok(value) => {
                let text = serde_json::to_string_pretty(&value).unwrap_or_default();
                self.put(name, text + "\n");
            }
            Err(error) => self.missing.push(format!("{name}: {error}")),
        }
    }

    /// What is signed or chained, whole or not at all: with something taken out it would not stand.
    pub fn whole(&mut self, name: &str, body: &str) {
        if is_clean(body) {
            self.put(name, body.to_owned());
        } else {
            let why = "it is signed, and holds what looks like a secret";
            self.missing.push(format!("{name}: left out: {why}"));
        }
    }

    /// Words of our own, and lines that were scrubbed before.
    pub fn words(&mut self, name: &str, body: &str) {
        self.put(name, text(body));
    }

    fn put(&mut self, name: &str, mut body: String) {
        if body.len() > FILE_BYTES {
            let end = (0..=FILE_BYTES).rev().find(|at| body.is_char_boundary(*at)).unwrap_or(0);
            body.truncate(end);
            self.missing.push(format!("{name}: cut off after {FILE_BYTES} bytes"));
        }
        self.files.insert(name.to_owned(), body.into_bytes());
    }

    /// What is there so far.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// All of it, packed; everything lies in one folder.
    pub fn pack(
        mut self,
        folder: &str,
        at: u64,
        about: impl Serialize,
    ) -> Result<Vec<u8>, Failure> {
        let digest =
            |body: &Vec<u8>| hex(ring::digest::digest(&ring::digest::SHA256, body).as_ref());
        let sha256 = self.files.iter().map(|(name, body)| (name.as_str(), digest(body))).collect();
        let missing: Vec<String> = self.missing.iter().map(|line| text(line)).collect();
        let manifest = Manifest { about, missing: &missing, sha256 };
        let manifest = serde_json::to_vec_pretty(&manifest)
            .map_err(|error| Failure::failed(error.to_string()))?;
        self.files.insert("manifest.json".to_owned(), manifest);
        let failed = |error: std::io::Error| Failure::failed(format!("the archive: {error}"));
        let packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        let mut tar = tar::Builder::new(packer);
        for (name, body) in &self.files {
            let mut header = tar::Header::new_gnu();
            header.set_size(body.len() as u64);
            header.set_mode(0o600);
            header.set_mtime(at);
            tar.append_data(&mut header, format!("{folder}/{name}"), body.as_slice())
                .map_err(failed)?;
        }
        let mut packer = tar.into_inner().map_err(failed)?;
        packer.flush().map_err(failed)?;
        packer.finish().map_err(failed)
    }
}

/// Whether no secret is known to be in it: of JSON, by its texts and by the names of its fields.
pub fn is_clean(body: &str) -> bool {
    body.lines().all(|line| match serde_json::from_str::<Value>(line) {
        Ok(value) => scrubbed(value.clone()) == value,
        Err(_) => text(line) == line,
    })
}

/// A value without its secrets. Whoever may connect is told by lines of `pg_hba.conf`, which may
/// name a password of LDAP or a secret of RADIUS: how many there are is enough.
fn scrubbed(value: Value) -> Value {
    match value {
        Value::String(body) => Value::String(text(&body)),
        Value::Array(all) => Value::Array(all.into_iter().map(scrubbed).collect()),
        Value::Object(fields) => {
            let one = |(name, value): (String, Value)| {
                // A name and its value, as the scrubber reads them in a line.
                let probe = format!("{name}=x");
                let is_secret = value.is_string() && text(&probe) != probe;
                let hidden = || Value::String(LEFT_OUT.to_owned());
                (name, if is_secret { hidden() } else { scrubbed(value) })
            };
            Value::Object(fields.into_iter().map(one).collect())
        }
        plain @ (Value::Null | Value::Bool(_) | Value::Number(_)) => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn secrets_are_taken_out_of_every_kind_and_the_rest_is_there() {
        let mut archive = Archive::default();
        let planted = serde_json::json!({
            "a": ["password=hunter2", {"db_password": "hunter2"}], "state": "fine",
            "hba": "host all all 0.0.0.0/0 ldap ldapbindpasswd=hunter2",
        });
        archive.answer("a.json", &planted);
        archive.whole("b.json", &planted.to_string());
        archive.whole("c.json", "{\"state\":\"fine\"}\n{\"state\":\"fine\"}\n");
        archive.words("d.md", "fine, postgresql://u:hunter2@h/x\n");
        archive.missing.push("x: token=hunter2".to_owned());
        assert_eq!(archive.names().collect::<Vec<_>>(), ["a.json", "c.json", "d.md"]);
        let packed = archive.pack("incident", 0, serde_json::json!({"format": 1})).expect("memory");
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut plain).expect("packed");
        let text = String::from_utf8_lossy(&plain);
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.matches("fine").count() == 4 && text.contains("incident/manifest.json"));
        assert!(text.contains("b.json: left out"), "{text}");
    }
}
